#!/usr/bin/env python3
"""Compares the gateway with nginx: CPU time per request, in interleaved rounds.

One command does everything: installs missing tools, builds, starts, checks, measures, prints,
cleans up. nginx proxies without authentication; the gateway has its sessions on. See README.md in
the folder above.
"""

import argparse
import sys
import time
from pathlib import Path

import load
import proc
import report
import tools
import verify
from contenders import Site
from stand import Failure, Stand, guard

WORKERS = 2
PAGE = tools.ROOT / "docs" / "performance.md"


def main():
    args = arguments()
    cases = [case for case in load.CASES if not args.cases or case.name in args.cases]
    try:
        tools.require("nginx", "wrk", "h2load", "nghttp", "openssl")
        binary = args.binary.resolve() if args.binary else tools.build()
        if not binary.is_file():
            raise Failure("--binary names no file")
        guard(time_limit(args, len(cases)))
        with Stand() as stand:
            bench = Bench(stand, binary, args)
            results, noise = bench.measure(cases)
        lines = account(bench, results, noise, args)
    except Failure as failure:
        print(f"compare: {failure}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("compare: interrupted, cleaned up", file=sys.stderr)
        return 130
    print("\n" + "\n".join(lines))
    complete = not bench.problems and all(results.values())
    if args.write and complete:
        report.save(PAGE, "compare", page(args, lines))
        print(f"\nwrote {PAGE.relative_to(tools.ROOT)}")
    elif args.write:
        print("\nnot written: the run was not clean")
    return 0 if complete else 1


def arguments():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--binary", type=Path, help="measure this gateway instead of building one")
    parser.add_argument("--pairs", type=at_least(1), default=7, help="pairs per case (default 7)")
    parser.add_argument("--seconds", type=at_least(1), default=4, help="per round (default 4)")
    parser.add_argument(
        "--case",
        action="append",
        dest="cases",
        choices=[case.name for case in load.CASES],
        help="only this case; may be repeated",
    )
    parser.add_argument("--no-noise", action="store_true", help="skip nginx against itself")
    parser.add_argument("--write", action="store_true", help="put the table into the docs")
    return parser.parse_args()


def at_least(lowest):
    """A whole number for argparse, with a lower bound."""

    def parse(text):
        number = int(text)
        if number < lowest:
            raise argparse.ArgumentTypeError(f"at least {lowest}")
        return number

    return parse


def time_limit(args, cases):
    """Seconds after which the run is given up: twice what it should take, and start-up."""
    rounds = cases * (2 * args.pairs + 2) + (0 if args.no_noise else 2 * args.pairs)
    return 120 + rounds * (args.seconds + 2) * 2


class Bench:
    """One run: the app, both proxies, a session, and the problems seen so far."""

    def __init__(self, stand, binary, args):
        self.args = args
        self.problems = []
        self.remarks = []
        self.site = Site(stand, WORKERS)
        self.nginx = self.site.start_nginx()
        password = self.site.prepare_gateway(binary)
        self.gateway = self.site.start_gateway(binary)
        self.cookie = self.site.login(password)
        for contender in (self.nginx, self.gateway):
            verify.alone(contender)
        self.tls = {
            contender.name: verify.negotiated(self.site, contender)
            for contender in (self.nginx, self.gateway)
        }

    def measure(self, cases):
        """All pairs of all cases, and nginx against itself: ({case name: pairs}, pairs)."""
        results, noise = {}, []
        for case in cases:
            for contender in (self.nginx, self.gateway):
                self._remark(verify.case(self.site, contender, case, self.cookie))
                self._warm_up(contender, case)
            results[case.name] = self._pairs(case, self.gateway, case.name)
        if not self.args.no_noise:
            noise = self._pairs(cases[0], self.nginx, "nginx = nginx")
        return results, noise

    def _pairs(self, case, other, label):
        pairs = []
        for number in range(self.args.pairs):
            # Alternate who goes first, so that a drift of the machine favours nobody.
            order = [self.nginx, other] if number % 2 == 0 else [other, self.nginx]
            rounds = [self._round(contender, case) for contender in order]
            if None in rounds:
                continue
            base, against = rounds if number % 2 == 0 else reversed(rounds)
            pairs.append((base, against))
            print(
                f"{label} {number + 1}/{self.args.pairs}: nginx {base.micros:.1f} us, "
                f"{other.name} {against.micros:.1f} us, ratio {against.micros / base.micros:.2f}",
                flush=True,
            )
        return pairs

    def _warm_up(self, contender, case):
        done = load.run(self.site, case, self.cookie, contender.port, 1)
        if done.requests == 0:
            raise Failure(f"{case.name}, {contender.name}: no answer, {'; '.join(done.problems)}")
        proc.settle(contender.pid)
        if verify.log_lines(contender, 1) == 0:
            raise Failure(f"{contender.name} wrote no access log: the comparison would be unfair")

    def _round(self, contender, case):
        """One load on one proxy, or None when it was not clean (and why is kept)."""
        members = proc.tree(contender.pid)
        connections, asked = self.site.app_counters()
        before = proc.run_time(contender.pid)
        done = load.run(self.site, case, self.cookie, contender.port, self.args.seconds)
        proc.settle(contender.pid)
        spent = proc.spent(before, proc.run_time(contender.pid))
        opened, answered = (
            after - earlier - 1
            for after, earlier in zip(self.site.app_counters(), (connections, asked))
        )
        problems = list(done.problems)
        if proc.tree(contender.pid) != members:
            problems.append("its processes changed during the round")
        # wrk does not count redirects as errors: what the app did not answer is no answer.
        if answered < done.requests:
            problems.append(f"{done.requests} answers, but the app gave only {answered}")
        if done.requests == 0:
            problems.append("no request was answered")
        self._account_for_log(contender, done.requests)
        if opened * 20 > done.requests:
            self._remark([f"{contender.name} keeps few app connections open ({case.name})"])
        if problems:
            self.problems.append(f"{case.name}, {contender.name}: {'; '.join(problems)}")
            print(f"INVALID ROUND {self.problems[-1]}", flush=True)
            return None
        return report.Round(spent / done.requests / 1000, done.per_second)

    def _account_for_log(self, contender, requests):
        lines = verify.log_lines(contender, requests)
        if lines < requests * 0.99:
            share = lines / requests
            self._remark([f"{contender.name} dropped access-log lines (a round kept {share:.0%})"])

    def _remark(self, remarks):
        self.remarks += [remark for remark in remarks if remark not in self.remarks]


def account(bench, results, noise, args):
    """Everything a reader needs, as lines."""
    lines = report.table(results, noise, args.pairs)
    lines.append("")
    lines += report.verdict(results, noise)
    if bench.tls["nginx"] == bench.tls["portcullis"]:
        lines.append(f"TLS, both: {bench.tls['nginx']}.")
    else:
        lines += [f"TLS, {name}: {found}." for name, found in bench.tls.items()]
    lines += [f"Remark: {remark}." for remark in bench.remarks]
    lines += [f"Invalid round: {problem}." for problem in bench.problems]
    return lines


def page(args, lines):
    """The section of the documentation page."""
    command = f"benches/compare/run.py --pairs {args.pairs} --seconds {args.seconds}"
    command += "".join(f" --case {name}" for name in args.cases or [])
    command += " --no-noise" if args.no_noise else ""
    described = "\n".join(f"- {line}" for line in tools.machine())
    return "\n".join(
        [
            "## CPU time per request, against nginx without authentication",
            "",
            f"`{command}`, {time.strftime('%Y-%m-%d')}:",
            "",
            "```text",
            *lines,
            "```",
            "",
            described,
            f"- {WORKERS} workers each; HTTP/1.1: {load.CONNECTIONS_H1} connections; "
            f"HTTP/2: {load.CONNECTIONS_H2} connections with {load.STREAMS_H2} streams; "
            "1 KiB answers; access logs on",
            "- ratio: median of the per-pair ratios; below 1 the gateway needs less than nginx",
        ]
    )


if __name__ == "__main__":
    sys.exit(main())
