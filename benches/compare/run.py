#!/usr/bin/env python3
"""Compares the gateway with nginx and HAProxy: CPU time, latency, memory, in interleaved rounds.

One command does everything: installs missing tools, builds, starts, checks, measures, prints,
cleans up. The others proxy without authentication; the gateway has its sessions on. See README.md
in the folder above.
"""

import argparse
import os
import resource
import sys
import time

import chart
import choice
import load
import paced
import report
import storm
import tools
from bench import WORKERS, Bench
from cases import CASES, NAMES
from stand import Failure, Stand, guard

PAGE = tools.ROOT / "docs" / "performance.md"
CHART = tools.ROOT / "docs" / "performance.svg"
NOISE = CASES[0]


def main():
    args = arguments()
    cases = [case for case in CASES if not args.cases or case.name in args.cases]
    try:
        more = {tool for case in cases for tool in case.tools}
        tools.require("nginx", "haproxy", "wrk", "h2load", "nghttp", "openssl", *sorted(more))
        binary = choice.program(args)
        for case in cases:
            if case.prepare:
                case.prepare()
        raise_descriptor_limit()
        guard(time_limit(args, cases))
        begun = time.monotonic()
        with Stand() as stand:
            bench = Bench(stand, binary, args)
            results = bench.measure(cases)
            noise = [] if args.no_noise else bench.noise(NOISE)
        asked = {case.name: bench.rounds(case) for case in cases}
        lines = account(bench, cases, results, noise, asked)
        lines.append(f"The run took {(time.monotonic() - begun) / 60:.1f} minutes.")
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
        CHART.write_text(picture(cases, results), encoding="utf-8")
        print(f"\nwrote {PAGE.relative_to(tools.ROOT)} and {CHART.relative_to(tools.ROOT)}")
    elif args.write:
        print("\nnot written: the run was not clean")
    return 0 if complete else 1


def arguments():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    choice.options(parser)
    parser.add_argument("--pairs", type=at_least(1), default=7, help="rounds per case (default 7)")
    parser.add_argument("--seconds", type=at_least(1), default=2, help="per round (default 2)")
    rate = 2000 if (os.cpu_count() or 1) <= 2 else 4000
    parser.add_argument(
        "--rate", type=at_least(64), default=rate, help=f"requests/s of rate-* (here {rate})"
    )
    parser.add_argument(
        "--handshakes", type=at_least(8), default=3200, help="per round (default 3200)"
    )
    parser.add_argument(
        "--connections", type=at_least(10), default=5000, help="idle ones (default 5000)"
    )
    parser.add_argument(
        "--case", action="append", dest="cases", choices=NAMES, help="only this; may be repeated"
    )
    parser.add_argument("--no-noise", action="store_true", help="skip nginx against itself")
    parser.add_argument("--write", action="store_true", help="put table and chart into the docs")
    return parser.parse_args()


def at_least(lowest):
    """A whole number for argparse, with a lower bound."""

    def parse(text):
        number = int(text)
        if number < lowest:
            raise argparse.ArgumentTypeError(f"at least {lowest}")
        return number

    return parse


def raise_descriptor_limit():
    """All descriptors that the system grants, for us and for every child."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


def time_limit(args, cases):
    """Seconds after which the run is given up: several times what it should take."""
    rounds = sum(min(args.pairs, case.most) * len(case.who) for case in cases)
    rounds += 0 if args.no_noise else 2 * args.pairs
    each = args.seconds + args.handshakes / 400 + 4
    memory = sum(case.name == "memory" for case in cases) * 6 * (10 + args.connections / 100)
    return 240 + rounds * each * 2 + memory


def account(bench, cases, results, noise, asked):
    """Everything a reader needs, as lines."""
    lines = report.table(cases, results, asked)
    lines.append("")
    lines += report.verdict(cases, results, noise)
    agreed = set(bench.tls.values())
    if len(agreed) == 1:
        lines.append(f"TLS, all: {agreed.pop()}.")
    else:
        lines += [f"TLS, {name}: {found}." for name, found in bench.tls.items()]
    lines += [f"Note: {name}: {note}." for name, note in bench.notes.items()]
    lines += [f"Remark: {remark}." for remark in bench.remarks]
    lines += [f"Invalid round: {problem}." for problem in bench.problems]
    return lines


def picture(cases, results):
    """The chart: every figure as its ratio to nginx."""
    rows = []
    for case in cases:
        for figure in case.figures:
            found = [
                report.summary(results[case.name], figure.name, name)
                for name in (report.OURS, "haproxy")
            ]
            values = tuple(one["ratio"][0] if one and one["ratio"] else None for one in found)
            if figure.name == "rate" or values[0] is None:
                continue
            goal = figure.limits[1] if figure.limits and not figure.absolute else None
            first = figure is case.figures[0]
            label = case.name if first else f"{case.name} {figure.name}"
            rows.append(chart.Bars(label, values, goal))
    title = "The gateway with authentication, and HAProxy without (nginx without = 1; less is better)"
    return chart.draw(title, "ratio to nginx", (report.OURS, "haproxy"), rows, most=2.5)


def page(args, lines):
    """The section of the documentation page."""
    command = f"benches/compare/run.py --pairs {args.pairs} --seconds {args.seconds}"
    command += "".join(f" --case {name}" for name in args.cases or [])
    command += " --no-noise" if args.no_noise else ""
    command += choice.named(args)
    described = "\n".join(f"- {line}" for line in choice.described(args))
    return "\n".join(
        [
            "## The gateway, against nginx and HAProxy without authentication",
            "",
            "![Ratios to nginx](performance.svg)",
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
            "1 KiB answers; access logs on (HAProxy: off, it cannot write one to a file)",
            f"- rate: {args.rate} requests/s over open connections, after {paced.WARM_UP:g} s; "
            f"handshake: {args.handshakes} connections with one request each; "
            f"memory: {args.connections} connections; storm: {storm.LOGINS} argon2id logins at "
            f"once beside {storm.RATE} requests/s",
            "- ratio: median of the ratios within each round; below 1 less than nginx; met: the "
            "limit in the units of the row (a ratio, except for memory, system calls, start, storm)",
        ]
    )


if __name__ == "__main__":
    sys.exit(main())
