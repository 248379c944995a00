#!/usr/bin/env python3
"""Counts user-space instructions per request under callgrind, for the gateway and nginx.

Unlike time, the count hardly depends on what else the machine does: fit for a gate in CI. One
worker, one keep-alive connection; two runs that differ only in their number of requests are
subtracted, so that start-up and handshake fall out. The kernel's share is not seen.
"""

import argparse
import re
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent / "compare"))

import choice  # noqa: E402 (the folder above must be known first)
import load  # noqa: E402
import report  # noqa: E402
import tools  # noqa: E402
import verify  # noqa: E402
from contenders import Site  # noqa: E402
from stand import Failure, Stand, guard  # noqa: E402

PAGE = tools.ROOT / "docs" / "performance.md"
# Under callgrind everything takes some fifty times as long.
START_LIMIT = 120
END_LIMIT = 60
WARM_UP = 200


def main():
    args = arguments()
    cases = [case for case in load.CASES if not args.cases or case.name in args.cases]
    try:
        tools.require("nginx", "h2load", "nghttp", "openssl", "valgrind")
        binary = choice.program(args)
        guard(120 + len(cases) * 4 * (60 + args.requests / 50))
        with Stand() as stand:
            counts = Count(stand, binary, args.requests).all(cases)
    except Failure as failure:
        print(f"instructions: {failure}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("instructions: interrupted, cleaned up", file=sys.stderr)
        return 130
    lines = table(counts)
    print("\n" + "\n".join(lines))
    if args.write:
        report.save(PAGE, "instructions", page(args, lines))
        print(f"\nwrote {PAGE.relative_to(tools.ROOT)}")
    return gate(counts, dict(args.limits))


def arguments():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    choice.options(parser)
    parser.add_argument(
        "--requests", type=int, default=2000, help="difference of the two runs (default 2000)"
    )
    names = [case.name for case in load.CASES]
    parser.add_argument(
        "--case", action="append", dest="cases", choices=names, help="only this case"
    )
    parser.add_argument(
        "--max",
        action="append",
        default=[],
        dest="limits",
        type=limit,
        metavar="CASE=COUNT",
        help="exit 1 when the gateway needs more instructions for the case",
    )
    parser.add_argument("--write", action="store_true", help="put the table into the docs")
    args = parser.parse_args()
    if args.requests < 100:
        parser.error("--requests: at least 100, or noise outweighs the difference")
    return args


def limit(text):
    """`CASE=COUNT` of the command line."""
    name, _, count = text.partition("=")
    if name not in [case.name for case in load.CASES] or not count.isdigit():
        raise argparse.ArgumentTypeError("expected CASE=COUNT, such as h1-signed-in=42000")
    return name, int(count)


class Count:
    """Both proxies, one after the other, each run in its own callgrind."""

    def __init__(self, stand, binary, requests):
        self.stand = stand
        self.binary = binary
        self.requests = requests
        self.site = Site(stand, workers=1)
        password = self.site.prepare_gateway(binary)
        # Log in outside callgrind: the embedded store keeps the session over restarts, and no
        # password hash gets into the counts.
        gateway = self.site.start_gateway(binary)
        self.cookie = self.site.login(password)
        for case in load.CASES:
            verify.case(self.site, gateway, case, self.cookie)
        if not stand.stop(gateway.child, END_LIMIT):
            raise Failure("the gateway did not end on SIGTERM")

    def all(self, cases):
        """{case name: (instructions of nginx, instructions of the gateway)} per request."""
        counts = {}
        for case in cases:
            counts[case.name] = tuple(
                self._per_request(start, case) for start in (self._nginx, self._gateway)
            )
            nginx, gateway = counts[case.name]
            print(f"{case.name}: nginx {nginx:.0f}, portcullis {gateway:.0f}", flush=True)
        return counts

    def _nginx(self, wrapper):
        return self.site.start_nginx(wrapper, master=False)

    def _gateway(self, wrapper):
        return self.site.start_gateway(self.binary, wrapper, START_LIMIT)

    def _per_request(self, start, case):
        few = self._total(start, case, WARM_UP)
        many = self._total(start, case, WARM_UP + self.requests)
        return (many - few) / self.requests

    def _total(self, start, case, requests):
        """Instructions of a whole life of the proxy with this many requests."""
        out = self.stand.dir / "callgrind.out"
        out.unlink(missing_ok=True)
        contender = start(["valgrind", "--tool=callgrind", f"--callgrind-out-file={out}"])
        h1 = case.protocol == "h1"
        streams = 1 if h1 else load.STREAMS_H2
        amount = ["-n", str(requests)]
        done = load.h2load(
            self.site, case, self.cookie, contender.port, amount, 1, streams, h1
        )
        ended = self.stand.stop(contender.child, END_LIMIT)
        if done.problems or done.requests != requests:
            said = "; ".join(done.problems)
            raise Failure(f"{contender.name}, {case.name}: {done.requests}/{requests} {said}")
        total = read_total(out)
        if not ended or total is None:
            log = "nginx" if contender.name == "nginx" else "gateway"
            raise Failure(
                f"callgrind left no count for {contender.name} (ended on SIGTERM: {ended}):\n"
                + self.stand.tail(log)
            )
        return total


def read_total(out):
    """The instruction total of a callgrind file, if there is one."""
    try:
        text = out.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    total = re.search(r"^(?:summary|totals): (\d+)", text, re.MULTILINE)
    return int(total.group(1)) if total else None


def table(counts):
    """The counts as lines."""
    row = "{:<15}{:>12}{:>12}{:>8}"
    lines = [row.format("instr/request", "nginx", "portcullis", "ratio")]
    for name, (nginx, gateway) in counts.items():
        lines.append(row.format(name, f"{nginx:.0f}", f"{gateway:.0f}", f"{gateway / nginx:.2f}"))
    return lines


def gate(counts, limits):
    """Exit code: 1 when a case went over its limit, or was not counted."""
    code = 0
    for name, most in limits.items():
        found = counts.get(name)
        if found is None or found[1] > most:
            said = "not counted" if found is None else f"{found[1]:.0f}"
            print(f"{name}: {said}, limit {most}: FAIL", file=sys.stderr)
            code = 1
    return code


def page(args, lines):
    """The section of the documentation page."""
    command = f"benches/instructions.py --requests {args.requests}"
    command += choice.named(args)
    command += "".join(f" --case {name}" for name in args.cases or [])
    described = "\n".join(f"- {line}" for line in choice.described(args))
    return "\n".join(
        [
            "## User-space instructions per request",
            "",
            f"`{command}`, {time.strftime('%Y-%m-%d')}:",
            "",
            "```text",
            *lines,
            "```",
            "",
            described,
            "- callgrind, 1 worker, 1 keep-alive connection (HTTP/2: "
            f"{load.STREAMS_H2} streams), access logs on; all threads count",
        ]
    )


if __name__ == "__main__":
    sys.exit(main())
