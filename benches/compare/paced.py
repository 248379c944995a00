"""A fixed rate of requests over connections that are already open, and how long each took.

h2load paces each connection by itself; connections open one by one, so that they do not ask in
step. It is a closed loop on each connection: a request that waits for the one before it is timed
from when it is sent.
"""

import math
import subprocess
import time

import load
from stand import Failure, end_with_parent

# Seconds until a few connections are in their rhythm; many need longer.
WARM_UP = 1.0
# Milliseconds between two new connections.
STEP_MS = 1


class Paced:
    """A running load. Use with `with`; `begin` and `end` are the window that counts."""

    def __init__(self, site, case, cookie, port, rate, seconds, connections=None):
        h1 = case.protocol == "h1"
        connections = connections or (load.CONNECTIONS_H1 if h1 else load.CONNECTIONS_H2)
        each = rate / connections
        self.warm_up = WARM_UP + connections * 2 * STEP_MS / 1000
        number = math.ceil(each * (self.warm_up + seconds + 0.5)) * connections
        amount = ["-n", str(number), "-r", "1", f"--rate-period={STEP_MS}ms", f"--rps={each:.3f}"]
        self.protocol = "http/1.1" if h1 else "h2"
        self.log = site.stand.dir / "paced.tsv"
        self.log.unlink(missing_ok=True)
        amount.append(f"--log-file={self.log}")
        streams = 1 if h1 else load.STREAMS_H2
        argv = load.h2load_command(site, case, cookie, port, amount, connections, streams, h1)
        self.limit = self.warm_up + seconds * 3 + 30
        self.child = subprocess.Popen(
            argv,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env=load.client_environment(site),
            preexec_fn=end_with_parent,
        )

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.child.kill()
        self.child.wait()
        self.child.stdout.close()

    def begin(self):
        """Wait until the load runs steadily; the window begins."""
        time.sleep(self.warm_up)
        self.begun = time.time()

    def end(self):
        """The window ends here."""
        self.ended = time.time()

    def finish(self):
        """Wait for the rest; (what h2load reported, latencies of the window in ms)."""
        try:
            said, _ = self.child.communicate(timeout=self.limit)
        except subprocess.TimeoutExpired as late:
            raise Failure("h2load could not keep the rate by far: it did not end") from late
        return load.read_h2load(said, self.protocol), self.times()

    def times(self):
        """Latencies of the window in ms, also while the load still runs."""
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
