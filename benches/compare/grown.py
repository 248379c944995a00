"""Gateways with any number of routes, groups and sessions. It measures nothing."""

import json
import socket
from contextlib import ExitStack

import load
from answer import read_answer
from contenders import Contender, Site
from nodes import Browser, user_name
from stand import Failure

# Whoever signs in often has many sessions, which each login of theirs goes through: sessions by the
# million belong to many users.
USERS = 200
MANY_USERS = 20_000
# Logins on their way at once: the store writes what has come together.
AT_ONCE = 64
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

    def start(
        self, name, store="data", users=USERS, routes=1, groups=1, workers=1, wrapper=(), limit=60
    ):
        """Start a gateway of this size on the sessions of the named store."""
        port, admin = self.stand.ports(2)
        names = [f"group-{number:03}" for number in range(groups)]
        tables = [f'[[group]]\nname = "{group}"\n' for group in names]
        for number in range(users):
            user = user_name(number)
            tables.append(
                f'[[user]]\nid = "{user}"\nname = "{user}"\npassword = "{HASH}"\n'
                f"groups = {json.dumps(names)}\n"
            )
        self.stand.write(f"{name}-users.toml", "\n".join(tables))
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

    def add_sessions(self, contender, count, users=USERS):
        """Sign in this many times as fast as it goes, users by turns, keeping no cookie."""
        with ExitStack() as stack:
            held = [stack.enter_context(self._connect(contender)) for _ in range(AT_ONCE)]
            for first in range(0, count, AT_ONCE):
                some = held[: count - first]
                for number, connection in enumerate(some, first):
                    connection.sendall(self._login(contender, number % users))
                try:
                    for connection in some:
                        read_answer(connection, 201)
                except ValueError as wrong:
                    raise Failure(f"a login was {wrong}") from wrong

    def _login(self, contender, number):
        body = json.dumps({"username": user_name(number), "password": PASSWORD})
        host = self.authority(contender.port)
        fields = {
            "Host": host,
            "Origin": f"https://{host}",
            "Accept": "application/json",
            "Content-Type": "application/json",
            "Content-Length": str(len(body)),
        }
        return request("POST /auth/session", fields) + body.encode("ascii")

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
        with self._connect(contender) as secured:
            for number in range(count):
                secured.sendall(self._request(contender, path, cookies[number % len(cookies)]))
                try:
                    read_answer(secured)
                except ValueError as wrong:
                    said = self.stand.tail(contender.name)
                    raise Failure(f"request {number} of {path} was {wrong}:\n{said}") from wrong

    def _request(self, contender, path, cookie):
        fields = {"Host": self.authority(contender.port), **load.headers(SIGNED_IN, cookie)}
        return request(f"GET {path}", fields)

    def _connect(self, contender):
        plain = socket.create_connection(("127.0.0.1", contender.port), timeout=60)
        return self.tls.wrap_socket(plain, server_hostname="localhost")


SIGNED_IN = next(case for case in load.CASES if case.name == "h1-signed-in")


def request(line, fields):
    """The head of an HTTP/1.1 request."""
    lines = [f"{line} HTTP/1.1", *(f"{name}: {text}" for name, text in fields.items())]
    return ("\r\n".join(lines) + "\r\n\r\n").encode("ascii")


def route_path(number):
    """The path of a route; 0 is the one for all the rest."""
    return f"/app-{number:05d}" if number else "/app"
