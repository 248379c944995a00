#!/usr/bin/env python3
"""Measures how the cost of a request grows with sessions, routes, groups, cookies, connections
and workers.

User-space instructions under callgrind where one connection is enough, CPU time where it needs
many. One command does everything: installs missing tools, builds, starts, checks, measures, prints,
cleans up.
"""

import argparse
import sys
import time
from pathlib import Path
from statistics import median

sys.path.insert(0, str(Path(__file__).resolve().parent / "compare"))

import chart  # noqa: E402 (the folder above must be known first)
import choice  # noqa: E402
import load  # noqa: E402
import paced  # noqa: E402
import report  # noqa: E402
import tools  # noqa: E402
from callgrind import Callgrind  # noqa: E402
from grown import MANY_USERS, SIGNED_IN, USERS, Grown, route_path  # noqa: E402
from run import at_least, raise_descriptor_limit  # noqa: E402
from slope import judge  # noqa: E402
from stand import Failure, Stand, guard  # noqa: E402
from watch import Watch  # noqa: E402

PAGE = tools.ROOT / "docs" / "performance.md"
CHART = tools.ROOT / "docs" / "growth.svg"
WARM_UP = 300
START_LIMIT = 600
# Seconds in which a gateway reads its files some times more, before it goes by their stamps.
SETTLE = 10
# Sessions that the requests of a step use by turns.
USED = 100
FEWEST = 1000
STEPS = {
    "sessions": (FEWEST, 10_000, 100_000),
    "routes": (1, 100, 10_000),
    "groups": (1, 30, 300),
    "cookies": (1, 10, 50),
    "connections": (64, 1000, 5000),
    "workers": (1, 2),
}
MILLION = 1_000_000


def main():
    args = arguments()
    try:
        tools.require("nginx", "h2load", "openssl", "valgrind", "callgrind_control")
        binary = choice.program(args)
        raise_descriptor_limit()
        guard(14_400 if args.million else 3600)
        with Stand() as stand:
            results = Growth(stand, binary, args).all(args.cases or list(STEPS))
    except Failure as failure:
        print(f"growth: {failure}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("growth: interrupted, cleaned up", file=sys.stderr)
        return 130
    lines = table(results)
    print("\n" + "\n".join(lines))
    if args.write:
        report.save(PAGE, "growth", page(args, lines))
        CHART.write_text(picture(results), encoding="utf-8")
        print(f"\nwrote {PAGE.relative_to(tools.ROOT)} and {CHART.relative_to(tools.ROOT)}")
    return 0


def arguments():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    choice.options(parser)
    parser.add_argument(
        "--case", action="append", dest="cases", choices=list(STEPS), help="only this"
    )
    parser.add_argument(
        "--requests", type=at_least(100), default=1000, help="counted per step (default 1000)"
    )
    parser.add_argument("--rounds", type=at_least(1), default=3, help="of CPU time (default 3)")
    parser.add_argument("--seconds", type=at_least(1), default=2, help="per round (default 2)")
    parser.add_argument("--rate", type=at_least(64), default=2000, help="requests/s (2000)")
    parser.add_argument("--million", action="store_true", help="also with a million sessions")
    parser.add_argument("--write", action="store_true", help="put table and chart into the docs")
    return parser.parse_args()


class Growth:
    """One run. Every step starts its own gateway; those of one store see the same sessions."""

    def __init__(self, stand, binary, args):
        self.stand = stand
        self.args = args
        self.site = Grown(stand, binary)
        self.have = 0

    def all(self, cases):
        """{case: (unit, {size: [figures]})}"""
        results = {}
        # Sessions come last: until then there are few.
        for case in sorted(cases, key=lambda case: case == "sessions"):
            measure = {"connections": self._connections, "workers": self._workers}.get(case)
            results[case] = measure() if measure else self._instructions(case)
        return results

    def _instructions(self, case):
        sizes = STEPS[case] + ((MILLION,) if case == "sessions" and self.args.million else ())
        found = {}
        for size in sizes:
            found[size] = [self._count(case, size)]
            print(f"{case} {size:,}: {found[size][0]:.0f} instructions", flush=True)
        return "instr", found

    def _count(self, case, size):
        shape = {"users": MANY_USERS if case == "sessions" else USERS}
        if case in ("routes", "groups"):
            shape[case] = size
        cookies = self._sessions(size if case == "sessions" else FEWEST, shape)
        if case == "cookies":
            rest = "".join(f"preference-{n}=some-value-{n}; " for n in range(size - 1))
            cookies = [rest + cookie for cookie in cookies]
        path = f"{route_path(size - 1 if case == 'routes' else 0)}/page?id=42"
        grind = Callgrind(self.stand)
        gateway = self.site.start("grown", wrapper=grind.wrapper, limit=START_LIMIT, **shape)
        self._check(gateway, cookies[0], shape)
        time.sleep(SETTLE)
        pid = gateway.child.pid
        grind.begin(pid)
        self.site.ask(gateway, path, cookies, WARM_UP)
        grind.total(pid)
        self.site.ask(gateway, path, cookies, self.args.requests)
        total = grind.total(pid)
        # No decent end: writing everything down under valgrind would take minutes.
        gateway.child.kill()
        gateway.child.wait()
        return total / self.args.requests

    def _check(self, gateway, cookie, shape):
        seen = self.site.groups_seen(gateway, cookie)
        if seen != shape.get("groups", 1):
            raise Failure(f"the gateway sees {seen} groups of its user, not {shape}")

    def _sessions(self, wanted, shape):
        """Bring the store to this many sessions; cookies of some of the old and of the new."""
        gateway = self.site.start("plain", **shape)
        half = USED // 2
        first = self.site.sessions(gateway, half)
        missing = wanted - self.have - USED
        if missing > 0:
            self.site.add_sessions(gateway, missing, shape["users"])
        last = self.site.sessions(gateway, half)
        self.have += max(missing, 0) + USED
        if not self.stand.stop(gateway.child, 60):
            raise Failure("the gateway did not end on SIGTERM")
        return [cookie for pair in zip(first, last) for cookie in pair]

    def _connections(self):
        gateway = self.site.start("connections", store="few", workers=2)
        [cookie] = self.site.sessions(gateway, 1)
        choices = {size: (gateway, cookie, size) for size in STEPS["connections"]}
        found = self._rounds("connections", choices)
        self.stand.stop(gateway.child)
        return "us", found

    def _workers(self):
        choices = {}
        for size in STEPS["workers"]:
            gateway = self.site.start(f"workers-{size}", store=f"few-{size}", workers=size)
            [cookie] = self.site.sessions(gateway, 1)
            choices[size] = (gateway, cookie, load.CONNECTIONS_H1)
        found = self._rounds("workers", choices)
        for gateway, _, _ in choices.values():
            self.stand.stop(gateway.child)
        return "us", found

    def _rounds(self, case, choices):
        """CPU time per request at the same rate for all sizes, which take turns."""
        found = {size: [] for size in choices}
        for number in range(self.args.rounds):
            for size, choice in list(choices.items())[:: 1 if number % 2 == 0 else -1]:
                micros = self._round(*choice)
                found[size].append(micros)
                print(f"{case} {size:,}: {micros:.1f} us", flush=True)
        return found

    def _round(self, gateway, cookie, connections):
        args = self.args
        with paced.Paced(
            self.site, SIGNED_IN, cookie, gateway.port, args.rate, args.seconds, connections
        ) as running:
            running.begin()
            watch = Watch(self.site, gateway)
            time.sleep(args.seconds)
            watch.close(settle=False)
            running.end()
        problems = watch.problems(1)
        if watch.answered < 0.8 * args.rate * args.seconds:
            problems.append(f"only {watch.answered} answers in {args.seconds} s")
        if problems:
            raise Failure(f"{connections} connections: {'; '.join(problems)}")
        return watch.micros / watch.answered


def table(results):
    """The figures as lines, and how they grow."""
    row = "{:<13}{:>10}{:>26}{:>8}   {}"
    lines = [row.format("", "size", "per request", "ratio", "growth").rstrip()]
    for case, (unit, found) in results.items():
        middles = {size: median(values) for size, values in found.items()}
        first = next(iter(middles.values()))
        said = judge(list(middles), list(middles.values()), unit)
        for number, (size, values) in enumerate(found.items()):
            spread = f" ({min(values):.0f}..{max(values):.0f})" if len(values) > 1 else ""
            last = number == len(found) - 1
            lines.append(
                row.format(
                    "" if number else case,
                    f"{size:,}",
                    f"{middles[size]:.0f} {unit}{spread}",
                    f"{middles[size] / first:.2f}",
                    said if last else "",
                ).rstrip()
            )
    return lines


def picture(results):
    """The chart: every step as its ratio to the first of its kind."""
    rows = []
    for case, (_, found) in results.items():
        first = median(next(iter(found.values())))
        for size, values in found.items():
            rows.append(chart.Bars(f"{size:,} {case}", (median(values) / first,)))
    title = "Cost of a signed-in request as things grow (smallest size = 1)"
    return chart.draw(title, "ratio to the smallest size", ("portcullis",), rows, most=4)


def page(args, lines):
    """The section of the documentation page."""
    command = "benches/growth.py" + (" --million" if args.million else "")
    command += choice.named(args)
    command += "".join(f" --case {name}" for name in args.cases or [])
    described = "\n".join(f"- {line}" for line in choice.described(args))
    return "\n".join(
        [
            "## Growth",
            "",
            "![Ratio to the smallest size](growth.svg)",
            "",
            f"`{command}`, {time.strftime('%Y-%m-%d')}:",
            "",
            "```text",
            *lines,
            "```",
            "",
            described,
            f"- instr: user-space instructions (callgrind, 1 worker, 1 connection, {USED} sessions "
            f"by turns); us: CPU time at {args.rate} requests/s, user and kernel",
            f"- {FEWEST:,} sessions, 1 route, 1 group, 2 cookies, 64 connections where nothing else "
            "is said; embedded store",
        ]
    )


if __name__ == "__main__":
    sys.exit(main())
