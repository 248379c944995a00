"""A Redis server of the run's own, and a client that is just enough to look at it and to fill it."""

import shutil
import socket

from stand import Failure, clean_environment


class Refused(Failure):
    """The server answered with an error."""


class Redis:
    """The server, reachable by a port and for this program by a socket."""

    def __init__(self, stand):
        self.stand = stand
        (self.port,) = stand.ports(1)
        self.path = stand.dir / "redis.sock"
        lines = [
            "bind 127.0.0.1",
            f"port {self.port}",
            f"unixsocket {self.path}",
            f"dir {stand.dir}",
            'save ""',
            "appendonly no",
            "maxmemory-policy noeviction",
        ]
        conf = stand.write("redis.conf", "\n".join(lines) + "\n")
        self.child = stand.start("redis", [_program(stand), conf])
        stand.wait_for("redis", self.child, self._answers, 20)
        self.client = Client(self.path)

    @property
    def pid(self):
        """Root of the process tree whose CPU time counts."""
        return self.child.pid

    @property
    def url(self):
        """What a gateway is configured with."""
        return f"redis://127.0.0.1:{self.port}/0"

    def info(self, field):
        """A field of INFO."""
        for line in self.client.ask("INFO", "everything").splitlines():
            name, _, value = line.partition(":")
            if name == field:
                return value
        raise Failure(f"redis does not tell {field}")

    def forget_calls(self):
        """Count calls from now on."""
        self.client.ask("CONFIG", "RESETSTAT")

    def calls(self):
        """{command: calls} since then, without what this program asks itself."""
        calls = {}
        for line in self.client.ask("INFO", "commandstats").splitlines():
            name, _, rest = line.partition(":calls=")
            if rest and name not in ("cmdstat_info", "cmdstat_config|resetstat"):
                calls[name.removeprefix("cmdstat_")] = int(rest.split(",")[0])
        return calls

    def keys(self):
        """The names of all keys."""
        return set(self.client.ask("KEYS", "*"))

    def _answers(self):
        try:
            return Client(self.path).ask("PING") == "PONG"
        except OSError:
            return False


class Client:
    """One connection. Texts are bytes read as Latin-1, so that any value survives a round trip."""

    def __init__(self, path):
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.settimeout(60)
        self.socket.connect(str(path))
        self.file = self.socket.makefile("rb")

    def ask(self, *words):
        """The answer to one command."""
        self.socket.sendall(encode(words))
        return self.read()

    def ask_all(self, commands):
        """Send many commands at once; any error among the answers is raised."""
        self.socket.sendall(b"".join(encode(words) for words in commands))
        return [self.read() for _ in commands]

    def read(self):
        """The next answer."""
        line = self.file.readline()[:-2].decode("latin-1")
        kind, rest = line[:1], line[1:]
        if kind == "+":
            return rest
        if kind == "-":
            raise Refused(f"redis: {rest}")
        if kind == ":":
            return int(rest)
        if kind == "$":
            return None if rest == "-1" else self.file.read(int(rest) + 2)[:-2].decode("latin-1")
        if kind == "*":
            return [self.read() for _ in range(int(rest))]
        raise Failure(f"redis: not the protocol: {line!r}")


def encode(words):
    """One command as bytes."""
    parts = [b"*%d\r\n" % len(words)]
    for word in words:
        data = str(word).encode("latin-1")
        parts.append(b"$%d\r\n%s\r\n" % (len(data), data))
    return b"".join(parts)


def _program(stand):
    path = clean_environment("/")["PATH"]
    for name in ("redis-server", "valkey-server"):
        found = shutil.which(name, path=path)
        if found:
            return found
    # Debian's redis-tools holds the server under this name; what it does depends on the name.
    checker = shutil.which("redis-check-rdb", path=path)
    if not checker:
        raise Failure("redis-server is not installed")
    link = stand.dir / "redis-server"
    link.symlink_to(checker)
    return link
