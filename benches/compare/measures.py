"""One round of each case: load a proxy in the case's way, and say what it cost.

Every function takes the bench and a proxy and returns a `Sample`. It neither compares nor repeats.
"""

import json
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

import load
import paced
import proc
import tools
from contenders import BIG
from stand import Failure, end_with_parent
from watch import Watch

HERE = Path(__file__).resolve().parent
GIB = 1 << 30
DOWNLOADS = 48
IDLE_CONNECTIONS = 5000
CIPHER = "TLS_AES_128_GCM_SHA256"
H1 = next(case for case in load.CASES if case.name == "h1-signed-in")
H2 = next(case for case in load.CASES if case.name == "h2-signed-in")
BIG_FILE = load.Case("download", "h1", "/app/big", True)


@dataclass
class Sample:
    """One round: its figures by name, its good answers, and why it must not count."""

    figures: dict
    requests: int
    problems: list = field(default_factory=list)
    remarks: list = field(default_factory=list)


def saturated(case):
    """As many requests as the proxy can answer."""

    def take(bench, contender):
        watch = Watch(bench.site, contender)
        done = load.run(bench.site, case, bench.cookie, contender.port, bench.args.seconds)
        watch.close()
        problems = done.problems + watch.problems(done.requests)
        figures = {"cpu": watch.micros / max(done.requests, 1), "rate": done.per_second}
        return Sample(figures, done.requests, problems, _few_kept(contender, case, watch, done))

    return take


def _few_kept(contender, case, watch, done):
    if watch.opened * 20 > done.requests:
        return [f"{contender.name} keeps few app connections open ({case.name})"]
    return []


def steady(case):
    """A fixed rate over open connections; only the window in the middle counts."""

    def take(bench, contender):
        rate, seconds = bench.args.rate, bench.args.seconds
        site, cookie = bench.site, bench.cookie
        with paced.Paced(site, case, cookie, contender.port, rate, seconds) as running:
            running.begin()
            watch = Watch(site, contender)
            time.sleep(seconds)
            watch.close(settle=False)
            times = running.end()
        # The log has their statuses; the app's window is a little another one on a busy machine.
        problems = watch.problems(len(times) // 2)
        reached = len(times) / (running.ended - running.begun) / rate
        if reached < 0.9:
            problems.append(f"the rate was only {reached:.0%} of {rate}/s")
        if not times:
            raise Failure(f"{case.name}, {contender.name}: no request in the window")
        figures = {
            "cpu": watch.micros / max(watch.answered, 1),
            "p50": paced.percentile(times, 0.5) * 1000,
            "p99": paced.percentile(times, 0.99) * 1000,
        }
        return Sample(figures, watch.answered, problems)

    return take


def handshakes(kind):
    """A new connection for every request: `full` or `resumed` handshake."""

    def take(bench, contender):
        count = bench.args.handshakes
        watch = Watch(bench.site, contender)
        said = client(bench, [tools.handshakes()], contender, count, kind)
        watch.close()
        done = said["done"]
        problems = [*said["errors"], *watch.problems(done)]
        if said["cipher"] != [CIPHER]:
            problems.append(f"agreed on {said['cipher']}, not {CIPHER}")
        wanted = done if kind == "resumed" else 0
        # A ticket may be too young or its key may just have changed.
        if abs(said["resumed"] - wanted) > done / 50:
            problems.append(f"{said['resumed']} of {done} handshakes were resumed")
        # Answers that do not count, which fetched the first tickets, cost as well.
        figures = {"cpu": watch.micros / max(watch.answered, 1)}
        return Sample(figures, watch.answered, problems)

    return take


def download(bench, contender):
    """10 MiB answers over eight connections."""
    watch = Watch(bench.site, contender)
    amount = ["-n", str(DOWNLOADS)]
    done = load.h2load(bench.site, BIG_FILE, bench.cookie, contender.port, amount, 8, 1, h1=True)
    watch.close()
    problems = done.problems + watch.problems(done.requests)
    if done.body != DOWNLOADS * BIG:
        problems.append(f"{done.body} bytes arrived, not {DOWNLOADS * BIG}")
    gib = max(done.body, 1) / GIB
    return Sample({"cpu": watch.micros / 1000 / gib}, done.requests, problems)


def memory(bench, contender):
    """Memory per idle connection, of a proxy that was just started."""
    bench.site.restart(contender)
    # What is made once, at the first requests, is no connection's memory.
    load.run(bench.site, H1, bench.cookie, contender.port, 1)
    proc.settle(contender.pid)
    before = proc.memory(contender.pid)
    count = bench.args.connections
    process = start_client(bench, "idle.py", contender, count)
    try:
        line = process.stdout.readline()
        after = proc.memory(contender.pid)
    finally:
        process.kill()
        process.communicate()
    said = json.loads(line or "{}")
    problems = list(said.get("errors", ["the client ended"]))
    if said.get("open") != count:
        problems.append(f"only {said.get('open')} of {count} connections stayed open")
    return Sample({"memory": (after - before) / count}, count, problems)


def client(bench, program, contender, *arguments):
    """Run one of our clients on the signed-in request; what it printed, read as JSON."""
    sent = request(bench, contender)
    process = _start(bench, program, contender, sent, *arguments)
    try:
        said, _ = process.communicate(timeout=180)
    except subprocess.TimeoutExpired as late:
        process.kill()
        process.communicate()
        raise Failure(f"{program[-1]} did not end in time") from late
    if process.returncode != 0:
        raise Failure(f"{program[-1]} failed ({process.returncode})")
    return json.loads(said)


def start_client(bench, script, contender, *arguments):
    """Start one of our clients; its standard input is the signed-in request."""
    return start_script(bench, script, contender, request(bench, contender), *arguments)


def start_script(bench, script, contender, sent, *arguments, keep=()):
    """Start one of our scripts with the request bytes `sent`; `keep` names descriptors it gets."""
    program = [sys.executable, HERE / script]
    return _start(bench, program, contender, sent, *arguments, keep=keep)


def _start(bench, program, contender, sent, *arguments, keep=()):
    argv = [*map(str, program), str(contender.port), *map(str, arguments)]
    process = subprocess.Popen(
        argv,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=load.client_environment(bench.site),
        preexec_fn=end_with_parent,
        pass_fds=keep,
    )
    process.stdin.write(sent)
    process.stdin.close()
    process.stdin = None
    return process


def request(bench, contender):
    """The signed-in request over HTTP/1.1, as bytes."""
    fields = {"Host": bench.site.authority(contender.port), **load.headers(H1, bench.cookie)}
    lines = [f"GET {H1.path} HTTP/1.1", *(f"{name}: {value}" for name, value in fields.items())]
    return ("\r\n".join(lines) + "\r\n\r\n").encode("ascii")
