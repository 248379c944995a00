"""What a storm of logins does to the people who are signed in already."""

import json
import os
import time

import measures
import paced
from contenders import STORM_NAME
from stand import Failure

LOGINS = 200
# Requests a second of the signed-in traffic: little, so that only the storm disturbs it.
RATE = 500
# Seconds that the traffic goes on after the storm began; only those until its end count.
LONGEST = 60


def storm(bench, contender):
    """One round: p99 of signed-in requests while nothing else happens, and during the storm."""
    idle = _idle(bench, contender)
    said, times = _during(bench, contender)
    problems = []
    if said["statuses"] != {"201": LOGINS}:
        problems.append(f"{LOGINS} logins were answered with {said['statuses']}")
    calm, busy = paced.percentile(idle, 0.99), paced.percentile(times, 0.99)
    bench.notes["login storm"] = (
        f"{LOGINS} logins took {said['seconds']:.1f} s; p99 {calm:.2f} ms before, {busy:.2f} ms during it"
    )
    return measures.Sample({"p99": busy / calm}, len(times), problems)


def _idle(bench, contender):
    with _traffic(bench, contender, bench.args.seconds) as running:
        running.begin()
        time.sleep(bench.args.seconds)
        times = running.end()
    if not times:
        raise Failure("login storm: no signed-in request before it")
    return times


def _during(bench, contender):
    gate, opener = os.pipe()
    sent = login_request(bench, contender)
    script = measures.start_script(
        bench, "logins.py", contender, sent, LOGINS, gate, keep=(gate,)
    )
    os.close(gate)
    try:
        if script.stdout.readline() != b"ready\n":
            raise Failure("login storm: its connections were not opened")
        with _traffic(bench, contender, LONGEST) as running:
            running.begin()
            os.write(opener, b"!")
            said = script.stdout.readline()
            times = running.end()
    finally:
        os.close(opener)
        script.kill()
        script.communicate()
    if not said or not times:
        raise Failure("login storm: no answer")
    return json.loads(said), times


def _traffic(bench, contender, seconds):
    return paced.Paced(bench.site, measures.H1, bench.cookie, contender.port, RATE, seconds)


def login_request(bench, contender):
    """The login as bytes."""
    host = bench.site.authority(contender.port)
    body = json.dumps({"username": STORM_NAME, "password": bench.password})
    lines = [
        "POST /auth/session HTTP/1.1",
        f"Host: {host}",
        f"Origin: https://{host}",
        "Content-Type: application/json",
        "Accept: application/json",
        f"Content-Length: {len(body)}",
    ]
    return ("\r\n".join(lines) + "\r\n\r\n" + body).encode("ascii")
