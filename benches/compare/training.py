"""The traffic that the gateway is trained with: cases of the comparison, and what else clients do.

Only the gateway and the app are started. What is not clean is no training: a profile of errors
would lay the program out for errors.
"""

import signal
from argparse import Namespace

import load
import verify
from bench import Bench
from cases import CASES
from stand import Failure, Stand, guard

NAMES = (
    "h1-public",
    "h1-signed-in",
    "h2-public",
    "h2-signed-in",
    "rate-h1",
    "handshake-full",
    "handshake-resumed",
    "download",
)
TOOLS = ("nginx", "wrk", "h2load", "nghttp", "openssl")
ARGS = Namespace(seconds=3, rate=2000, handshakes=3200)
LOGINS = 5
# Of each kind that clients send less often.
FEW = 100
POSTS = 5000
FORM = "field=value&" * 80
# Seconds: all together, several times what it should take; for the end, writing the counts down.
LIMIT = 600
END_LIMIT = 60


def run(binary, before_end):
    """Load a gateway with everything, and end it: only then it writes its counts down.

    `before_end` is called between the two.
    """
    cases = [case for case in CASES if case.name in NAMES]
    for case in cases:
        if case.prepare:
            case.prepare()
    guard(LIMIT)
    try:
        with Stand() as stand:
            bench = Bench(stand, binary, ARGS, who=("portcullis",))
            gateway = bench.contenders["portcullis"]
            _train(bench, gateway, cases)
            before_end()
            _end(stand, gateway.child)
    finally:
        # A build follows, which has a limit of its own.
        signal.alarm(0)


def _train(bench, gateway, cases):
    for case in cases:
        verify.case(bench.site, gateway, case.request, bench.cookie)
        sample = case.take(bench, gateway)
        check(case.name, sample.requests, sample.problems)
        # Otherwise the log of all these requests would stay on the disk.
        verify.log_lines(gateway, 1)
    _posts(bench, gateway)
    _seldom(bench.site, gateway.port, bench.cookie)
    for _ in range(LOGINS):
        bench.site.login(bench.password)


def _end(stand, child):
    in_time = stand.stop(child, END_LIMIT)
    if not in_time or child.returncode != 0:
        said = f"code {child.returncode}" if in_time else f"not within {END_LIMIT} s"
        raise Failure(f"the trained gateway did not end decently, {said}")


def check(name, requests, problems):
    """Say what a part of the training did; fail when it was not clean."""
    if problems or requests == 0:
        said = "; ".join(problems) or "no request was answered"
        raise Failure(f"training, {name}: {said} (a quiet machine helps; what is built is kept)")
    print(f"{name}: {requests} requests", flush=True)


def _posts(bench, gateway):
    """Requests with bodies, over both protocols."""
    form = bench.site.stand.write("form", FORM)
    for case in load.CASES:
        if not case.signed_in:
            continue
        h1 = case.protocol == "h1"
        many, streams = (8, 1) if h1 else (load.CONNECTIONS_H2, load.STREAMS_H2)
        amount = ["-n", str(POSTS), "-d", str(form)]
        done = load.h2load(
            bench.site, case, bench.cookie, gateway.port, amount, many, streams, h1
        )
        check(f"{case.protocol}-post", done.requests, done.problems)


def _seldom(site, port, cookie):
    """HEAD, pages that have not changed, bodies of unknown length, and people without a session."""
    page = next(case for case in load.CASES if case.name == "h1-signed-in")
    sent = load.headers(page, cookie)
    _, known, _ = site.fetch(port, "/app/big", sent, "HEAD")
    again = {**sent, "If-None-Match": known["ETag"]}
    asked = (
        ("head", page.path, sent, "HEAD", None, 200),
        ("not-modified", "/app/big", again, "GET", None, 304),
        ("chunked", page.path, sent, "POST", [b"some ", b"pieces"], 200),
        ("signed-out", page.path, load.headers(page, "none=0"), "GET", None, 303),
    )
    for name, path, fields, method, body, wanted in asked:
        for _ in range(FEW):
            status, _, _ = site.fetch(port, path, fields, method, body)
            if status != wanted:
                raise Failure(f"training, {name}: expected {wanted}, got {status}")
        check(name, FEW, [])
