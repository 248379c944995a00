"""A fixed rate of requests over connections that are already open, and how long each took.

h2load paces each connection by itself; connections open one by one, so that they do not ask in
step. It is a closed loop on each connection: a request that waits for the one before it is timed
from when it is sent.
"""

import math
import subprocess
import time

import load
import proc
from stand import Failure, end_with_parent

# Seconds that the load runs before the window, when all connections are open.
WARM_UP = 1.0
# Seconds that opening the connections may take on a busy machine, in all and for each.
OPENING = 30
OPENING_EACH = 0.02
# Milliseconds between two new connections.
STEP_MS = 1


class Paced:
    """A running load. Use with `with`; `begin` and `end` are the window that counts."""

    def __init__(self, site, case, cookie, port, rate, seconds, connections=None):
        h1 = case.protocol == "h1"
        self.port = port
        self.connections = connections or (load.CONNECTIONS_H1 if h1 else load.CONNECTIONS_H2)
        each = rate / self.connections
        self.opening = OPENING + OPENING_EACH * self.connections
        # More than will be sent: the end of the window ends the load.
        number = math.ceil(each * (self.opening + WARM_UP + seconds + 1)) * self.connections
        amount = ["-n", str(number), "-r", "1", f"--rate-period={STEP_MS}ms", f"--rps={each:.3f}"]
        # Others may be open already, such as those that wait to log in.
        self.wanted = proc.established(port) + self.connections
        self.log = site.stand.dir / "paced.tsv"
        self.log.unlink(missing_ok=True)
        amount.append(f"--log-file={self.log}")
        streams = 1 if h1 else load.STREAMS_H2
        argv = load.h2load_command(
            site, case, cookie, port, amount, self.connections, streams, h1
        )
        self.child = subprocess.Popen(
            argv,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env=load.client_environment(site),
            preexec_fn=end_with_parent,
        )

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.child.kill()
        self.child.wait()

    def begin(self):
        """Wait until all connections are open and the load runs steadily; the window begins."""
        deadline = time.monotonic() + self.opening
        while (found := proc.established(self.port)) < self.wanted:
            if time.monotonic() > deadline or self.child.poll() is not None:
                raise Failure(f"h2load did not open all connections: {found} of {self.wanted}")
            time.sleep(0.05)
        time.sleep(WARM_UP)
        self.begun = time.time()

    def end(self):
        """The window ends here; returns the latencies of what was sent in it, in ms."""
        self.ended = time.time()
        # What is under way may still be answered.
        time.sleep(0.2)
        found = proc.established(self.port)
        if self.child.poll() is not None or found < self.connections:
            raise Failure(f"h2load lost connections: {found} of {self.connections} are left")
        self.child.kill()
        self.child.wait()
        return latencies(self.log.read_text("ascii"), self.begun, self.ended)


def latencies(text, begun, ended):
    """Milliseconds of the requests that were sent in the window, of h2load's log."""
    found = []
    # What follows the last line feed is still being written.
    for line in text.split("\n")[:-1]:
        sent, status, micros = (int(part) for part in line.split("\t")[:3])
        if status != 200:
            raise Failure(f"a request of the steady traffic was answered with {status}")
        if begun * 1e6 <= sent < ended * 1e6:
            found.append(micros / 1000)
    return found


def percentile(values, share):
    """The value that `share` of all do not exceed (nearest rank)."""
    ordered = sorted(values)
    return ordered[max(0, math.ceil(len(ordered) * share) - 1)]
