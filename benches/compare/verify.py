"""Looks before measuring: is it the right answer, the right identity, the agreed TLS?

Every finding is raised as `Failure` with what was expected; a figure for a wrong answer is worse
than no figure.
"""

import re
import subprocess
import time

import load
import proc
from contenders import BODY, USER_ID
from stand import Failure

FORGED = "forged-by-the-client"
FORWARDED = {"real": "X-Real-IP", "for": "X-Forwarded-For", "proto": "X-Forwarded-Proto"}


def alone(contender):
    """Nobody else may listen on the proxy's port."""
    others = proc.strangers(contender.port, contender.pid)
    if others:
        raise Failure(f"{others} foreign sockets listen on the port of {contender.name}")


def case(site, contender, which, cookie):
    """The case's request is answered by the app, and the app saw who asks.

    Returns remarks about what makes the comparison less than exact.
    """
    status, text = fetch(site, contender.port, which, which.path, cookie)
    if status != 200 or text != BODY:
        raise Failure(
            f"{contender.name}, {which.name}: expected 200 and the app's {len(BODY)} bytes, "
            f"got {status} and {len(text)} bytes: {text[:120]!r}"
        )
    status, text = fetch(site, contender.port, which, which.echo_path, cookie, FORGED)
    seen = dict(part.partition("=")[::2] for part in text.strip().split("|"))
    if status != 200 or "user" not in seen:
        raise Failure(f"{contender.name}, {which.name}: no echo, {status}: {text[:120]!r}")
    missing = [name for field, name in FORWARDED.items() if not seen.get(field)]
    if contender.name == "portcullis":
        _identity(site, contender, which, seen["user"])
    return [f"{contender.name} does not set {name}" for name in missing]


def _identity(site, contender, which, user):
    if not which.signed_in:
        if user:
            raise Failure(f"{which.name}: the app saw X-Auth-User {user!r} without a session")
        return
    if user not in (USER_ID, f"user/{USER_ID}"):
        raise Failure(f"{which.name}: the app saw X-Auth-User {user!r}, not {USER_ID!r}")
    status, text = fetch(site, contender.port, which, which.path, "none=0")
    if status == 200 or text == BODY:
        raise Failure(f"{which.name}: the protected page is open without a session")


def fetch(site, port, which, path, cookie, forged=None):
    """(status, body) of one request of the case, over its protocol."""
    sent = load.headers(which, cookie)
    if forged:
        sent["X-Auth-User"] = forged
    if which.protocol == "h1":
        status, _, text = site.fetch(port, path, sent)
        return status, text
    return _fetch_h2(site, port, path, sent)


def _fetch_h2(site, port, path, sent):
    # Two requests: nghttp mixes the body with the frames that it shows.
    argv = ["nghttp", "-y", "-t", "20"]
    for name, value in sent.items():
        argv.append(f"-H{name.lower()}: {value}")
    url = f"https://localhost:{port}{path}"
    environment = load.client_environment(site)
    body = _nghttp(argv + [url], environment)
    frames = _nghttp(argv + ["-v", "-n", "--no-dep", url], environment)
    status = re.search(r":status: (\d+)", frames)
    if not status:
        raise Failure(f"no HTTP/2 answer:\n{frames[-500:]}")
    return int(status.group(1)), body


def _nghttp(argv, environment):
    try:
        ran = subprocess.run(
            argv, capture_output=True, text=True, timeout=60, check=False, env=environment
        )
    except subprocess.TimeoutExpired as late:
        raise Failure("nghttp did not end in time") from late
    return ran.stdout


def negotiated(site, contender):
    """Protocol version, cipher and key exchange that the load generators get."""
    argv = ["openssl", "s_client", "-connect", f"127.0.0.1:{contender.port}"]
    ran = subprocess.run(
        [*argv, "-servername", "localhost"],
        input="",
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
        env=load.client_environment(site),
    )
    cipher = re.search(r"New, (TLS\S+), Cipher is (\S+)", ran.stdout)
    # OpenSSL 3.5 renamed the line.
    names = "Server Temp Key|Peer Temp Key|Negotiated TLS1.3 group"
    group = re.search(rf"(?:{names}): (\w+)", ran.stdout)
    if not cipher:
        raise Failure(f"{contender.name}: no TLS session:\n{ran.stderr[-300:]}")
    return f"{cipher.group(1)} {cipher.group(2)} {group.group(1) if group else '?'}"


def log_lines(contender, at_least, limit=3.0):
    """Access-log lines since the last call, waiting until there are `at_least`; empties the file.

    Emptying keeps a run of millions of requests off the disk; the contenders append.
    """
    if contender.access_log is None:
        return at_least
    deadline = time.monotonic() + limit
    while True:
        count = _count_lines(contender.access_log)
        if count >= at_least or time.monotonic() >= deadline:
            break
        time.sleep(0.05)
    try:
        with open(contender.access_log, "r+b") as log:
            log.truncate(0)
    except OSError:
        pass
    return count


def _count_lines(path):
    count = 0
    try:
        with open(path, "rb") as log:
            while chunk := log.read(1 << 20):
                count += chunk.count(b"\n")
    except OSError:
        pass
    return count
