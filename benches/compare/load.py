"""The cases, their one fixed request, and the load generators that send it.

A round that is not clean comes back with its problems in words; it is never repaired here.
"""

import json
import re
import subprocess
from dataclasses import dataclass, field

from stand import Failure, clean_environment, end_with_parent

CONNECTIONS_H1 = 64
CONNECTIONS_H2 = 16
STREAMS_H2 = 4


@dataclass(frozen=True)
class Case:
    """One kind of request."""

    name: str
    protocol: str
    path: str
    signed_in: bool

    @property
    def echo_path(self):
        """Where the app answers with what it saw, under the same route."""
        return self.path.rsplit("/", 1)[0] + "/echo"


CASES = (
    Case("h1-public", "h1", "/public/page?id=42", False),
    Case("h1-signed-in", "h1", "/app/page?id=42", True),
    Case("h2-public", "h2", "/public/page?id=42", False),
    Case("h2-signed-in", "h2", "/app/page?id=42", True),
)


@dataclass
class Load:
    """What a load generator reported."""

    requests: int
    per_second: float
    problems: list = field(default_factory=list)
    # Bytes of all answers' bodies, where the tool counts them.
    body: int = 0


def headers(case, cookie):
    """The request's headers but Host: what a browser sends, and the session when signed in."""
    sent = {
        "User-Agent": "Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0",
        "Accept": "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8",
        "Accept-Language": "en-US,en;q=0.5",
        "Accept-Encoding": "gzip, deflate, br",
        "Sec-Fetch-Site": "same-origin",
    }
    if case.signed_in:
        sent["Cookie"] = f"{cookie}; theme=dark"
    return sent


def run(site, case, cookie, port, seconds):
    """Saturate one proxy with the case's request for `seconds`."""
    if case.protocol == "h1":
        return _wrk(site, case, cookie, port, seconds)
    return h2load(site, case, cookie, port, ["-D", str(seconds)], CONNECTIONS_H2, STREAMS_H2)


def _wrk(site, case, cookie, port, seconds):
    lines = (
        f"wrk.headers[{json.dumps(name)}] = {json.dumps(value)}"
        for name, value in {"Host": site.authority(port), **headers(case, cookie)}.items()
    )
    script = site.stand.render("wrk.lua", "wrk.lua", headers="\n".join(lines))
    argv = ["wrk", "-t", "2", "-c", str(CONNECTIONS_H1), "-d", f"{seconds}s", "--timeout", "10s"]
    argv += ["-s", str(script), f"https://localhost:{port}{case.path}"]
    return read_wrk(_output(site, argv, seconds))


def read_wrk(text):
    """The result line that our script prints."""
    found = re.search(r"^RESULT (\{.*\})$", text, re.MULTILINE)
    if not found:
        raise Failure(f"wrk reported no result:\n{text[-500:]}")
    said = json.loads(found.group(1))
    problems = [
        f"{said[kind]} {kind} errors"
        for kind in ("connect", "read", "write", "status", "timeout")
        if said[kind]
    ]
    seconds = max(said["micros"], 1) / 1e6
    return Load(said["requests"], said["requests"] / seconds, problems)


def h2load(site, case, cookie, port, amount, connections, streams, h1=False):
    """h2load for a time (`-D S`) or a number of requests (`-n N`)."""
    argv = h2load_command(site, case, cookie, port, amount, connections, streams, h1)
    limit = float(amount[1]) if amount[0] == "-D" else 300
    return read_h2load(_output(site, argv, limit), "http/1.1" if h1 else "h2")


def h2load_command(site, case, cookie, port, amount, connections, streams, h1=False):
    """What `h2load` runs."""
    argv = ["h2load", "-t", "1", "-c", str(connections), "-m", str(streams), *amount]
    argv += ["--tls13-ciphers=TLS_AES_128_GCM_SHA256", "--groups=X25519"]
    argv += [f"--connect-to=127.0.0.1:{port}", *(["--h1"] if h1 else [])]
    for name, value in headers(case, cookie).items():
        argv += ["-H", f"{name.lower()}: {value}"]
    return [*argv, f"https://{site.authority(port)}{case.path}"]


def read_h2load(text, protocol):
    """h2load's summary; only 2xx answers count, anything else is a problem."""
    rate = re.search(r"^finished in .*?, ([\d.]+) req/s", text, re.MULTILINE)
    codes = re.search(r"^status codes: (\d+) 2xx, (\d+) 3xx, (\d+) 4xx, (\d+) 5xx", text, re.M)
    counts = re.search(r"(\d+) failed, (\d+) errored, (\d+) timeout", text)
    if not (rate and codes and counts):
        raise Failure(f"h2load reported no result:\n{text[-500:]}")
    ok, *others = (int(number) for number in codes.groups())
    problems = [
        f"{number} answers with {kind}"
        for number, kind in zip(others, ("3xx", "4xx", "5xx"))
        if number
    ]
    failed, errored, timeout = (int(number) for number in counts.groups())
    if failed or errored or timeout:
        problems.append(f"{failed} failed, {errored} errored, {timeout} timed out")
    if f"Application protocol: {protocol}" not in text:
        problems.append(f"the proxy did not agree to {protocol}")
    body = re.search(r"^traffic: .*\((\d+)\) data", text, re.MULTILINE)
    return Load(ok, float(rate.group(1)), problems, int(body.group(1)) if body else 0)


def _output(site, argv, seconds):
    try:
        ran = subprocess.run(
            argv,
            capture_output=True,
            text=True,
            timeout=seconds + 60,
            check=False,
            env=client_environment(site),
            preexec_fn=end_with_parent,
        )
    except subprocess.TimeoutExpired as late:
        raise Failure(f"{argv[0]} did not end in time") from late
    if ran.returncode != 0:
        raise Failure(f"{argv[0]} failed ({ran.returncode}):\n{(ran.stdout + ran.stderr)[-500:]}")
    return ran.stdout


def client_environment(site):
    """Environment of a load generator: the one cipher and key exchange that it may offer."""
    # wrk has no option for it: its OpenSSL reads what to offer from this file.
    conf = str(site.stand.dir / "openssl.cnf")
    return {**clean_environment(site.stand.dir), "OPENSSL_CONF": conf}
