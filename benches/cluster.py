#!/usr/bin/env python3
"""Measures what sessions in Redis cost, beside the embedded store, and how fast they are revoked.

One command does everything: installs missing tools, builds, starts a Redis and three gateways (one
with the embedded store, two nodes over Redis), checks, measures, prints, cleans up.
"""

import argparse
import math
import sys
import time
from pathlib import Path
from statistics import median

sys.path.insert(0, str(Path(__file__).resolve().parent / "compare"))

import choice  # noqa: E402 (the folder above must be known first)
import load  # noqa: E402
import proc  # noqa: E402
import report  # noqa: E402
import tools  # noqa: E402
import verify  # noqa: E402
from nodes import Forge, Nodes, sample  # noqa: E402
from redis import Redis  # noqa: E402
from stand import Failure, Stand, guard  # noqa: E402

WORKERS = 2
PAGE = tools.ROOT / "docs" / "performance.md"
CASE = next(case for case in load.CASES if case.name == "h1-signed-in")
# Commands that go on while nobody asks anything: what they are is learned by watching this long.
IDLE_SECONDS = 5
# Sessions whose first and second use are timed, per size of the store.
SAMPLE = 1000
# Sessions that the gateway's memory is measured with.
CACHED = 10_000


def main():
    args = arguments()
    try:
        tools.require("nginx", "wrk", "h2load", "openssl", "redis-check-rdb")
        binary = choice.program(args)
        guard(600 + args.pairs * 4 * (args.seconds + 2) + args.revocations / 5 + max(args.sizes) / 2000)
        with Stand() as stand:
            lines = Bench(stand, binary, args).measure()
    except Failure as failure:
        print(f"cluster: {failure}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("cluster: interrupted, cleaned up", file=sys.stderr)
        return 130
    print("\n" + "\n".join(lines))
    if args.write:
        report.save(PAGE, "cluster", page(args, lines))
        print(f"\nwrote {PAGE.relative_to(tools.ROOT)}")
    return 0


def arguments():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    choice.options(parser)
    parser.add_argument("--pairs", type=positive, default=5, help="rounds per store (default 5)")
    parser.add_argument("--seconds", type=positive, default=3, help="per round (default 3)")
    parser.add_argument(
        "--requests", type=positive, default=100_000, help="to count commands over (default 100000)"
    )
    parser.add_argument(
        "--revocations", type=positive, default=1000, help="to time (default 1000)"
    )
    parser.add_argument(
        "--million", action="store_true", help="also with a million sessions in the store"
    )
    parser.add_argument("--write", action="store_true", help="put the table into the docs")
    args = parser.parse_args()
    args.sizes = [10_000, 100_000] + ([1_000_000] if args.million else [])
    return args


def positive(text):
    """A whole number above zero, for argparse."""
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError("at least 1")
    return number


class Bench:
    """One run: a Redis, the gateway with the embedded store, and two nodes over Redis."""

    def __init__(self, stand, binary, args):
        self.args = args
        self.redis = Redis(stand)
        self.site = Nodes(stand, WORKERS, binary)
        store = f'kind = "redis"\nurl = "{self.redis.url}"'
        self.local = self.site.gateway("embedded", f'kind = "embedded"\npath = "{stand.dir}/data"')
        self.a = self.site.gateway("node-a", store)
        self.b = self.site.gateway("node-b", store)
        for contender in (self.local, self.a, self.b):
            verify.alone(contender)

    def measure(self):
        """All parts, cheapest store first; the report as lines."""
        lines = self.cpu()
        lines += self.commands()
        lines += self.revocations()
        lines += self.sizes()
        return lines

    def cpu(self):
        """CPU time of a cached signed-in request with either store."""
        cookies = {
            contender.name: self.site.open(contender).login(0) for contender in (self.local, self.a)
        }
        times = {contender.name: [] for contender in (self.local, self.a)}
        for number in range(-1, self.args.pairs):
            order = [self.local, self.a] if number % 2 == 0 else [self.a, self.local]
            for contender in order:
                micros = self._round(contender, cookies[contender.name])
                # The first round warms up.
                if number >= 0:
                    times[contender.name].append(micros)
            self._say(f"cpu {number + 1}/{self.args.pairs}")
        embedded, redis = times[self.local.name], times[self.a.name]
        ratio = median(r / e for r, e in zip(redis, embedded))
        return [
            row("cached signed-in request", "embedded", "redis", "ratio"),
            row("  CPU us, gateway only", _range(embedded), _range(redis), f"{ratio:.2f}"),
        ]

    def _round(self, contender, cookie):
        before = proc.run_time(contender.pid)
        done = load.run(self.site, CASE, cookie, contender.port, self.args.seconds)
        proc.settle(contender.pid)
        if done.problems or not done.requests:
            raise Failure(f"{contender.name}: {'; '.join(done.problems) or 'no answer'}")
        return proc.spent(before, proc.run_time(contender.pid)) / done.requests / 1000

    def commands(self):
        """Commands at Redis while one cached session is used a hundred thousand times."""
        browser = self.site.open(self.a)
        cookie = browser.login(0)
        browser.get(cookie)
        time.sleep(1)
        self.redis.forget_calls()
        begun = time.monotonic()
        time.sleep(IDLE_SECONDS)
        idle = self.redis.calls()
        idle_rate = sum(idle.values()) / (time.monotonic() - begun)
        self.redis.forget_calls()
        begun = time.monotonic()
        amount = ["-n", str(self.args.requests)]
        done = load.h2load(self.site, CASE, cookie, self.a.port, amount, 16, 4)
        lasted = time.monotonic() - begun
        busy = self.redis.calls()
        if done.problems:
            raise Failure(f"node-a: {'; '.join(done.problems)}")
        told = ", ".join(f"{name} {count}" for name, count in sorted(busy.items())) or "none"
        extra = {
            name: count
            for name, count in busy.items()
            if count > idle.get(name, 0) * lasted / IDLE_SECONDS * 2 + lasted * 4
        }
        lines = [
            "",
            f"commands at Redis during {done.requests} cached requests in {lasted:.1f} s: {told}",
            f"  without any request: {idle_rate:.1f} a second",
            f"  for the requests themselves: {sum(extra.values())}",
        ]
        if extra:
            raise Failure(f"requests cost commands: {extra}\n" + "\n".join(lines))
        return lines

    def revocations(self):
        """Time from the answer to a logout at one node to the first refusal at the other."""
        here, there = self.site.open(self.a), self.site.open(self.b)
        lags = []
        for number in range(self.args.revocations):
            cookie = here.login(number % 1000)
            while there.get(cookie) != 200:
                time.sleep(0.001)
            here.logout(cookie)
            ended = time.perf_counter()
            admitted = 0.0
            while True:
                asked = time.perf_counter()
                if there.get(cookie) != 200:
                    break
                admitted = asked - ended
                if admitted > 2:
                    raise Failure("a revoked session is still admitted after 2 s")
            lags.append(admitted * 1000)
            if number % 100 == 99:
                self._say(f"revocation {number + 1}/{self.args.revocations}")
        late = sum(lag > 0 for lag in lags)
        return [
            "",
            f"revocation, last admission on the other node after the answer, {len(lags)} logouts:",
            f"  p50 {_at(lags, 0.5):.2f} ms, p99 {_at(lags, 0.99):.2f} ms, max {max(lags):.2f} ms; "
            f"{late} admitted at all",
        ]

    def sizes(self):
        """Memory per session, and the first use of a session with more and more in the store."""
        forge = Forge(self.redis, self.site.open(self.a))
        browser, have, cookies, lines = self.site.open(self.b), 0, [], []
        browser.get("none=0")
        for size in self.args.sizes:
            before = int(self.redis.info("used_memory"))
            made = forge.make(size - have)
            used = (int(self.redis.info("used_memory")) - before) / len(made)
            have = size
            cookies += made
            picked = sample(made, 2 * SAMPLE)
            misses, hits = [], []
            # One behind the other, so that a busy moment hits both alike.
            for cookie in picked[SAMPLE:]:
                misses.append(self._timed(browser, cookie))
                hits.append(self._timed(browser, cookie))
            del picked[SAMPLE:]
            spent = self._spent()
            for cookie in picked:
                self._timed(browser, cookie)
            first = self._spent()
            for cookie in picked:
                self._timed(browser, cookie)
            second = self._spent()
            gateway, redis = (
                (first[n] - spent[n] - (second[n] - first[n])) / len(picked) / 1000 for n in (0, 1)
            )
            lines.append(
                row(
                    f"  {size:,} sessions",
                    f"{_at(misses, 0.5):.2f} / {_at(misses, 0.99):.2f}",
                    f"{_at(hits, 0.5):.2f} / {_at(hits, 0.99):.2f}",
                    f"{_at(misses, 0.5) / _at(hits, 0.5):.2f}",
                    f"{gateway:.0f} + {redis:.0f}",
                    f"{used:.0f}",
                )
            )
            self._say(f"{size:,} sessions")
        head = [
            "",
            row("first use of a session", "ms p50 / p99", "again", "ratio", "CPU us", "bytes"),
            row("", "", "p50 / p99", "p50", "gateway + redis", "in redis"),
        ]
        return head + lines + self._cached(browser, cookies)

    def _cached(self, browser, cookies):
        # Those that it holds already would make the figure too good.
        picked = sample(cookies[-2 * CACHED :], CACHED)
        for cookie in picked[: CACHED // 10]:
            browser.get(cookie)
        before = _resident(self.b.pid)
        for cookie in picked[CACHED // 10 :]:
            browser.get(cookie)
        each = (_resident(self.b.pid) - before) * 1024 / (CACHED * 9 // 10)
        return ["", f"memory of a cached session in the gateway: {each:.0f} bytes (resident)"]

    def _timed(self, browser, cookie):
        begun = time.perf_counter()
        status = browser.get(cookie)
        took = time.perf_counter() - begun
        if status != 200:
            raise Failure(f"a session in Redis was answered with {status}")
        return took * 1000

    def _spent(self):
        return [sum(proc.run_time(pid).values()) for pid in (self.b.pid, self.redis.pid)]

    def _say(self, text):
        print(text, flush=True)


def row(name, *cells):
    """One line of the table."""
    return f"{name:<26}" + "".join(f"{cell:>21}" for cell in cells)


def page(args, lines):
    """The section of the documentation page."""
    command = "benches/cluster.py" + (" --million" if args.million else "")
    command += choice.named(args)
    described = "\n".join(f"- {line}" for line in choice.described(args))
    return "\n".join(
        [
            "## Sessions in Redis",
            "",
            f"`{command}`, {time.strftime('%Y-%m-%d')}:",
            "",
            "```text",
            *lines,
            "```",
            "",
            described,
            f"- {WORKERS} workers each, Redis on the same machine; a first use reads the session from "
            "Redis, any further one does not",
        ]
    )


def _at(values, share):
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, math.ceil(len(ordered) * share) - 1)]


def _range(values):
    return f"{median(values):.1f} ({min(values):.1f}..{max(values):.1f})"


def _resident(pid):
    with open(f"/proc/{pid}/status", encoding="ascii") as status:
        for line in status:
            if line.startswith("VmRSS:"):
                return int(line.split()[1])
    raise Failure("the gateway is gone")


if __name__ == "__main__":
    sys.exit(main())
