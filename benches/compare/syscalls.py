"""System calls per request, counted by strace."""

import os
import re
import signal
import subprocess
import time

import load
import proc
from measures import H1, Sample
from stand import Failure, clean_environment, end_with_parent
from watch import Watch

# As many connections as the other cases have: how often a proxy asks for events depends on it.
REQUESTS = 8000


def syscalls(bench, contender):
    """One round: strace on all processes of the proxy while it answers `REQUESTS`."""
    out = bench.site.stand.dir / "strace.txt"
    out.unlink(missing_ok=True)
    argv = ["strace", "-c", "-f", "-o", str(out)]
    for pid in proc.tree(contender.pid):
        argv += ["-p", str(pid)]
    watch = Watch(bench.site, contender)
    tracer = subprocess.Popen(
        argv,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        env=clean_environment(bench.site.stand.dir),
        preexec_fn=end_with_parent,
    )
    try:
        _wait_until_traced(contender, tracer)
        amount, port = ["-n", str(REQUESTS)], contender.port
        many = load.CONNECTIONS_H1
        done = load.h2load(bench.site, H1, bench.cookie, port, amount, many, 1, h1=True)
    finally:
        tracer.send_signal(signal.SIGINT)
        said = tracer.communicate(timeout=30)[1]
    watch.close()
    problems = done.problems + watch.problems(done.requests)
    if not out.exists():
        raise Failure(f"strace left no counts: {said[-300:]}")
    counts = read_counts(out.read_text("utf-8"))
    remark = ", ".join(
        f"{name} {count / REQUESTS:.2f}"
        for name, count in sorted(counts.items(), key=lambda item: -item[1])
        if count > REQUESTS / 20
    )
    figures = {"calls": sum(counts.values()) / max(done.requests, 1)}
    bench.notes[f"{contender.name}, system calls per request"] = remark
    return Sample(figures, done.requests, problems)


def read_counts(text):
    """{system call: how often} of the table that `strace -c` prints."""
    rows = re.findall(r"^ *[\d.]+ +[\d.]+ +\d+ +(\d+) (?: *\d+)? *(\w+)$", text, re.MULTILINE)
    return {name: int(count) for count, name in rows if name != "total"}


def _wait_until_traced(contender, tracer, limit=10):
    deadline = time.monotonic() + limit
    while time.monotonic() < deadline and tracer.poll() is None:
        if all(_traced(pid, tid) for pid in proc.tree(contender.pid) for tid in _tasks(pid)):
            return
        time.sleep(0.02)
    if tracer.poll() is not None:
        raise Failure(f"strace does not work here: {tracer.stderr.read()[-300:]}")
    raise Failure("strace did not attach in time")


def _tasks(pid):
    return os.listdir(f"/proc/{pid}/task")


def _traced(pid, tid):
    with open(f"/proc/{pid}/task/{tid}/status", encoding="ascii", errors="replace") as status:
        return re.search(r"^TracerPid:\t(?!0$)", status.read(), re.MULTILINE) is not None
