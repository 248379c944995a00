"""Starts the app, nginx and the gateway in the same surroundings, and logs in.

It measures nothing: who calls it decides how many workers run, and under which wrapper.
"""

import http.client
import json
import os
import pwd
import secrets
import shutil
import ssl
import subprocess
from dataclasses import dataclass
from pathlib import Path

from stand import Failure, clean_environment, reachable

BODY = "0123456789abcdef" * 64
ECHO = (
    "user=$http_x_auth_user|real=$http_x_real_ip|"
    "for=$http_x_forwarded_for|proto=$http_x_forwarded_proto"
)
# What the download case fetches: 10 MiB.
BIG = 10 * 1024 * 1024
USER_ID = "bench-user"
USER_NAME = "bench"
# Logs in while others work, so that the sessions of USER_NAME stay below their limit.
STORM_NAME = "storm"


@dataclass
class Contender:
    """A running proxy. `access_log` is None when it writes none; `argv` starts it again."""

    name: str
    port: int
    child: subprocess.Popen
    access_log: Path | None
    argv: tuple = ()

    @property
    def pid(self):
        """Root of the process tree whose CPU time counts."""
        return self.child.pid


class Site:
    """Certificate, app and ports that both contenders share."""

    def __init__(self, stand, workers):
        self.stand = stand
        self.workers = workers
        ports = stand.ports(5)
        self.app_port, self.nginx_port, self.gateway_port, self.admin_port = ports[:4]
        self.haproxy_port = ports[4]
        make_certificate(stand.dir)
        stand.render("openssl.cnf", "openssl.cnf")
        self.tls = ssl.create_default_context(cafile=str(stand.dir / "cert.pem"))
        with open(stand.dir / "big", "wb") as big:
            big.truncate(BIG)
        self.app, _ = self._start_nginx_conf("upstream", self.app_port, body=BODY, echo=ECHO)

    def authority(self, port):
        """What clients of the proxy on this port call the site, as in Host."""
        return f"localhost:{port}"

    def start_nginx(self, wrapper=(), master=True):
        """nginx as a plain TLS proxy. `wrapper` is put before the command, as valgrind is."""
        log = self.stand.dir / "nginx-access.log"
        child, argv = self._start_nginx_conf(
            "nginx",
            self.nginx_port,
            wrapper,
            workers=self.workers,
            master="on" if master else "off",
            log=log,
            upstream=self.app_port,
        )
        return Contender("nginx", self.nginx_port, child, log, argv)

    def start_haproxy(self):
        """HAProxy as a plain TLS proxy."""
        folder = self.stand.dir
        both = (folder / "cert.pem").read_text() + (folder / "key.pem").read_text()
        self.stand.write("both.pem", both, 0o600)
        config = self.stand.render(
            "haproxy.cfg",
            "haproxy.cfg",
            dir=folder,
            port=self.haproxy_port,
            workers=self.workers,
            upstream=self.app_port,
        )
        # -db: in the foreground.
        argv = (haproxy_path(), "-db", "-f", config)
        child = self.stand.start("haproxy", argv)
        self.stand.wait_for("haproxy", child, lambda: reachable(self.haproxy_port), 30)
        return Contender("haproxy", self.haproxy_port, child, None, argv)

    def prepare_gateway(self, binary):
        """Write the gateway's config and its one user; returns the user's password."""
        log = self.stand.dir / "gateway-access.log"
        password = secrets.token_urlsafe(18)
        hashed = hash_password(binary, password, self.stand.dir)
        names = {"id": USER_ID, "name": USER_NAME, "storm": STORM_NAME}
        self.stand.render("users.toml", "users.toml", hash=hashed, **names)
        self.stand.render(
            "gateway.toml",
            "gateway.toml",
            dir=self.stand.dir,
            port=self.gateway_port,
            admin=self.admin_port,
            workers=self.workers,
            upstream=self.app_port,
            log=log,
        )
        return password

    def start_gateway(self, binary, wrapper=(), limit=20):
        """The gateway on the files that `prepare_gateway` wrote."""
        config = self.stand.dir / "gateway.toml"
        argv = (*wrapper, binary, "run", "--config", config)
        child = self.stand.start("gateway", argv)
        port = self.gateway_port
        self.stand.wait_for("gateway", child, lambda: self._answers(port), limit)
        return Contender("portcullis", port, child, self.stand.dir / "gateway-access.log", argv)

    def restart(self, contender):
        """Stop a contender and start it anew: the same with fresh memory."""
        self.stand.stop(contender.child)
        contender.child = self.stand.start(contender.name, contender.argv)
        ready = lambda: self._answers(contender.port)  # noqa: E731
        self.stand.wait_for(contender.name, contender.child, ready, 30)

    def fetch(self, port, path, headers=(), method="GET", body=None):
        """One request over a new HTTP/1.1 connection: (status, headers, body text)."""
        connection = http.client.HTTPSConnection("localhost", port, timeout=30, context=self.tls)
        try:
            connection.request(method, path, body=body, headers=dict(headers))
            answer = connection.getresponse()
            text = answer.read().decode("utf-8", "replace")
            return answer.status, answer.headers, text
        except (OSError, http.client.HTTPException) as error:
            raise Failure(f"{method} {path} got no answer: {error}") from error
        finally:
            connection.close()

    def login(self, password):
        """Log in at the gateway; returns the Cookie header value of the session."""
        origin = f"https://localhost:{self.gateway_port}"
        status, headers, text = self.fetch(
            self.gateway_port,
            "/auth/session",
            {"Content-Type": "application/json", "Accept": "application/json", "Origin": origin},
            "POST",
            json.dumps({"username": USER_NAME, "password": password}),
        )
        cookies = headers.get_all("Set-Cookie") or []
        if status != 201 or not cookies:
            raise Failure(f"login was answered with {status}, {len(cookies)} cookies: {text[:300]}")
        return "; ".join(cookie.split(";", 1)[0] for cookie in cookies)

    def app_counters(self):
        """(connections accepted, requests) of the app so far, this question included."""
        connection = http.client.HTTPConnection("127.0.0.1", self.app_port, timeout=30)
        try:
            connection.request("GET", "/upstream-status")
            numbers = connection.getresponse().read().decode("ascii").split("\n")[2].split()
        finally:
            connection.close()
        return int(numbers[0]), int(numbers[2])

    def _start_nginx_conf(self, name, port, wrapper=(), **values):
        config = self.stand.render(
            f"{name}.conf", f"{name}.conf", dir=self.stand.dir, port=port, user=_user(), **values
        )
        # -e: errors before the config is read must not go to the system's log.
        argv = (*wrapper, nginx_path(), "-e", self.stand.dir / f"{name}.err", "-c", config)
        child = self.stand.start(name, argv)
        self.stand.wait_for(name, child, lambda: reachable(port), 30)
        return child, argv

    def _answers(self, port):
        try:
            return self.fetch(port, "/public/page")[0] == 200
        except Failure:
            return False


def nginx_path():
    """nginx, also where only root's PATH would find it."""
    return shutil.which("nginx", path=clean_environment("/")["PATH"])


def haproxy_path():
    """HAProxy, also where only root's PATH would find it."""
    return shutil.which("haproxy", path=clean_environment("/")["PATH"])


def make_certificate(folder):
    """A self-signed ECDSA P-256 certificate for localhost."""
    argv = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"]
    argv += ["-nodes", "-sha256", "-days", "7", "-subj", "/CN=localhost"]
    argv += ["-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"]
    argv += ["-keyout", str(folder / "key.pem"), "-out", str(folder / "cert.pem")]
    made = subprocess.run(argv, capture_output=True, text=True, timeout=60, check=False)
    if made.returncode != 0:
        raise Failure(f"openssl could not make a certificate:\n{made.stderr[-500:]}")


def hash_password(binary, password, folder):
    """The PHC hash that `portcullis hash-password` prints for a password on standard input."""
    try:
        ran = subprocess.run(
            [str(binary), "hash-password"],
            input=password + "\n",
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
            cwd=folder,
            env=clean_environment(folder),
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise Failure(f"hash-password does not run: {error}") from error
    lines = [line.strip() for line in ran.stdout.splitlines() if line.strip().startswith("$")]
    if ran.returncode != 0 or not lines:
        said = (ran.stderr or ran.stdout)[-300:]
        raise Failure(f"hash-password printed no hash (code {ran.returncode}): {said}")
    return lines[-1]


def _user():
    # Without this line root's workers become another user, who cannot read the run's files.
    if os.geteuid() != 0:
        return ""
    return f"user {pwd.getpwuid(0).pw_name} root;"
