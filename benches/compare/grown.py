"""Gateways with any number of routes, groups and sessions. It measures nothing."""

import json
import socket
import subprocess

import load
from answer import read_answer
from contenders import Contender, Site
from nodes import Browser
from stand import Failure

USERS = 200
# bcrypt is cheap at its lowest cost, and looks at 72 bytes only: a password with more is not hashed
# anew by the gateway. Known to everybody, for a gateway on loopback that lives for minutes.
PASSWORD = "growth-of-sessions-" * 5
HASH = "$2b$04$abcdefghijklmnopqrstuuKeU6b.WtckLIrJ.DDGL3rs40jpIaufu"


class Grown(Site):
    """The app, and gateways in front of it."""

    password = PASSWORD

    def __init__(self, stand, binary):
        super().__init__(stand, workers=2)
        self.binary = binary

    def start(self, name, store="data", routes=1, groups=1, workers=1, wrapper=(), limit=60):
        """Start a gateway of this size on the sessions of the named store."""
        port, admin = self.stand.ports(2)
        names = [f"group-{number:03}" for number in range(groups)]
        users = [f'[[group]]\nname = "{group}"\n' for group in names]
        for number in range(USERS):
            user = f"u{number:07d}"
            users.append(
                f'[[user]]\nid = "{user}"\nname = "{user}"\npassword = "{HASH}"\n'
                f"groups = {json.dumps(names)}\n"
            )
        self.stand.write(f"{name}-users.toml", "\n".join(users))
        rest = "".join(
            f'\n[[route]]\npath = "{route_path(number)}/"\nupstream = "app"\n'
            'allow = "authenticated"\n'
            for number in range(1, routes)
        )
        config = self.stand.render(
            "grown.toml",
            f"{name}.toml",
            dir=self.stand.dir,
            name=name,
            store=store,
            public=self.gateway_port,
            port=port,
            admin=admin,
            workers=workers,
            upstream=self.app_port,
            routes=rest,
        )
        argv = (*wrapper, self.binary, "run", "--config", config)
        child = self.stand.start(name, argv)
        self.stand.wait_for(name, child, lambda: self._refuses(port), limit)
        return Contender(name, port, child, self.stand.dir / f"{name}-access.log", argv)

    def authority(self, port):
        """The same on every gateway."""
        return f"localhost:{self.gateway_port}"

    def _refuses(self, port):
        try:
            headers = {"Host": self.authority(port), "Accept": "application/json"}
            return self.fetch(port, "/app/page", headers)[0] == 401
        except Failure:
            return False

    def sessions(self, contender, count):
        """Sign in this many times, users by turns; the Cookie header values."""
        browser = Browser(self, contender.port)
        return [browser.login(number % USERS) for number in range(count)]

    def add_sessions(self, contender, count):
        """Sign in this many times as fast as it goes, keeping no cookie."""
        for number in range(USERS):
            share = count // USERS + (number < count % USERS)
            if share:
                self._sign_in(contender, number, share)

    def _sign_in(self, contender, number, count):
        body = {"username": f"u{number:07d}", "password": PASSWORD}
        file = self.stand.write("login.json", json.dumps(body))
        host = self.authority(contender.port)
        argv = ["h2load", "--h1", "-t", "1", "-c", str(min(16, count)), "-n", str(count)]
        argv += ["-d", str(file), f"--connect-to=127.0.0.1:{contender.port}"]
        argv += ["-H", "content-type: application/json", "-H", "accept: application/json"]
        argv += ["-H", f"origin: https://{host}", f"https://{host}/auth/session"]
        ran = subprocess.run(
            argv, capture_output=True, text=True, timeout=900, check=False,
            env=load.client_environment(self),
        )  # fmt: skip
        done = load.read_h2load(ran.stdout, "http/1.1")
        if done.problems or done.requests != count:
            raise Failure(f"{done.requests} of {count} logins: {'; '.join(done.problems)}")

    def groups_seen(self, contender, cookie):
        """How many groups the gateway knows of whoever has the cookie."""
        headers = {"Host": self.authority(contender.port), "Accept": "application/json"}
        status, _, text = self.fetch(
            contender.port, "/auth/session", {**headers, "Cookie": cookie}
        )
        if status != 200:
            raise Failure(f"/auth/session was answered with {status}")
        return len(json.loads(text)["groups"])

    def ask(self, contender, path, cookies, count):
        """Send `count` requests over one connection, cookies by turns; every answer must be 200."""
        plain = socket.create_connection(("127.0.0.1", contender.port), timeout=60)
        with self.tls.wrap_socket(plain, server_hostname="localhost") as secured:
            for number in range(count):
                secured.sendall(self._request(contender, path, cookies[number % len(cookies)]))
                try:
                    read_answer(secured)
                except ValueError as wrong:
                    said = self.stand.tail(contender.name)
                    raise Failure(f"request {number} of {path} was {wrong}:\n{said}") from wrong

    def _request(self, contender, path, cookie):
        fields = {"Host": self.authority(contender.port), **load.headers(SIGNED_IN, cookie)}
        lines = [f"GET {path} HTTP/1.1", *(f"{name}: {text}" for name, text in fields.items())]
        return ("\r\n".join(lines) + "\r\n\r\n").encode("ascii")


SIGNED_IN = next(case for case in load.CASES if case.name == "h1-signed-in")


def route_path(number):
    """The path of a route; 0 is the one for all the rest."""
    return f"/app-{number:05d}" if number else "/app"
