"""Gateways of one site over one store, sessions by the thousand, and a client that keeps its
connection.

It measures nothing.
"""

import base64
import hashlib
import http.client
import json
import random
import secrets
import uuid

from contenders import Contender, Site, hash_password
from stand import Failure

USERS = 1000
# As many as one login may leave; more than any user gets here.
PER_USER = 10_000
TABLE = '[[user]]\nid = "{id}"\nname = "{id}"\npassword = "{hash}"\ngroups = ["readers"]\n'


class Nodes(Site):
    """The app, and any number of gateways in front of it that share one users file."""

    def __init__(self, stand, workers, binary):
        super().__init__(stand, workers)
        self.binary = binary
        self.password = secrets.token_urlsafe(18)
        hashed = hash_password(binary, self.password, stand.dir)
        users = [TABLE.format(id=user_name(number), hash=hashed) for number in range(USERS)]
        stand.write("users.toml", '[[group]]\nname = "readers"\n\n' + "\n".join(users))

    def gateway(self, name, store, limit=30):
        """Start a gateway on the given lines of its [store] table."""
        port, admin = self.stand.ports(2)
        log = self.stand.dir / f"{name}-access.log"
        config = self.stand.render(
            "node.toml",
            f"{name}.toml",
            dir=self.stand.dir,
            name=name,
            public=self.gateway_port,
            port=port,
            admin=admin,
            store=store,
            per_user=PER_USER,
            workers=self.workers,
            upstream=self.app_port,
            log=log,
        )
        child = self.stand.start(name, [self.binary, "run", "--config", config])
        self.stand.wait_for(name, child, lambda: self._answers(port), limit)
        return Contender(name, port, child, log)

    def authority(self, port):
        """The same on every node."""
        return f"localhost:{self.gateway_port}"

    def fetch(self, port, path, headers=(), method="GET", body=None):
        """As for one gateway, under the name of the site."""
        host = {"Host": self.authority(port)}
        return super().fetch(port, path, {**host, **dict(headers)}, method, body)

    def open(self, contender):
        """A connection that is kept."""
        return Browser(self, contender.port)


def user_name(number):
    """The name, which is the id, too."""
    return f"u{number:07d}"


class Browser:
    """One keep-alive connection to one node."""

    def __init__(self, site, port):
        self.host = site.authority(port)
        self.origin = f"https://{self.host}"
        self.password = site.password
        self.connection = http.client.HTTPSConnection(
            "localhost", port, timeout=30, context=site.tls
        )

    def ask(self, method, path, cookie="", body=None):
        """(status, headers) of one request."""
        headers = {"Host": self.host, "Origin": self.origin, "Accept": "application/json"}
        if cookie:
            headers["Cookie"] = cookie
        if body is not None:
            headers["Content-Type"] = "application/json"
        self.connection.request(method, path, body=body, headers=headers)
        answer = self.connection.getresponse()
        answer.read()
        return answer.status, answer.headers

    def get(self, cookie):
        """The status of the page that only signed-in users see."""
        return self.ask("GET", "/app/page", cookie)[0]

    def login(self, number):
        """Sign a user in; the Cookie header value."""
        body = json.dumps({"username": user_name(number), "password": self.password})
        status, headers = self.ask("POST", "/auth/session", body=body)
        cookies = headers.get_all("Set-Cookie") or []
        if status != 201 or len(cookies) != 1:
            raise Failure(f"login was answered with {status} and {len(cookies)} cookies")
        return cookies[0].split(";", 1)[0]

    def logout(self, cookie):
        """End the session."""
        status, _ = self.ask("DELETE", "/auth/session", cookie)
        if status != 204:
            raise Failure(f"logout was answered with {status}")


class Forge:
    """Puts sessions into Redis by copying what one login has put there, whatever that is."""

    def __init__(self, redis, browser):
        self.redis = redis
        before = redis.keys()
        cookie = browser.login(0)
        self.name, _, token = cookie.partition("=")
        self.old = _names(token, user_name(0))
        self.entries = []
        for key in redis.keys() - before:
            kind = redis.client.ask("TYPE", key)
            life = redis.client.ask("PTTL", key)
            self.entries += [(command, life) for command in _commands(redis.client, kind, key)]
        if not any(self.old[0] in str(entry) or self.old[1] in str(entry) for entry in self.entries):
            raise Failure("the login has put nothing into redis that names its session")

    def make(self, count):
        """Add sessions; the Cookie header values of all of them."""
        cookies, batch = [], []
        for number in range(count):
            user = user_name(number % USERS)
            identity, secret = uuid.UUID(bytes=secrets.token_bytes(16), version=4), secrets.token_bytes(32)
            token = f"{_code(identity.bytes)}.{_code(secret)}"
            pairs = list(zip(self.old, _names(token, user)))
            for words, life in self.entries:
                made = [_replace(word, pairs) for word in words]
                batch.append(made)
                if life > 0:
                    batch.append(["PEXPIRE", made[1], life])
            cookies.append(f"{self.name}={token}")
            if len(batch) >= 2000:
                self.redis.client.ask_all(batch)
                batch = []
        self.redis.client.ask_all(batch)
        return cookies


def sample(items, count):
    """Some of them, in any order."""
    return random.sample(items, min(count, len(items)))


def _names(token, user):
    """All spellings of a session's id, its secret's hash, and its user."""
    public, _, secret = token.partition(".")
    identity = uuid.UUID(bytes=_decode(public))
    hashed = hashlib.sha256(_decode(secret)).digest()
    raw = identity.bytes.decode("latin-1")
    return [str(identity), identity.hex, public, raw, _code(hashed), hashed.hex(), user]


def _replace(word, pairs):
    word = str(word)
    for old, new in pairs:
        word = word.replace(old, new)
    return word


def _commands(client, kind, key):
    """What makes the key anew."""
    if kind == "string":
        return [["SET", key, client.ask("GET", key)]]
    if kind == "hash":
        return [["HSET", key, *client.ask("HGETALL", key)]]
    if kind == "set":
        return [["SADD", key, *client.ask("SMEMBERS", key)]]
    if kind == "zset":
        found = client.ask("ZRANGE", key, 0, -1, "WITHSCORES")
        pairs = zip(found[1::2], found[0::2])
        return [["ZADD", key, *(word for pair in pairs for word in pair)]]
    raise Failure(f"redis holds a {kind}: teach this program to copy it")


def _code(data):
    return base64.urlsafe_b64encode(data).decode("ascii").rstrip("=")


def _decode(text):
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
