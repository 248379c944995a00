"""The test stand: one temporary directory and the processes started for a run.

Whatever way a run ends, `close` leaves neither process nor file behind. It knows nothing of
proxies, requests or figures.
"""

import ctypes
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

TEMPLATES = Path(__file__).resolve().parent / "templates"
_PR_SET_PDEATHSIG = 1
_LIBC = ctypes.CDLL(None)


class Failure(Exception):
    """The run cannot go on; the text says what happened and what to do."""


class Stand:
    """Owns the temporary directory and every child process. Use with `with`."""

    def __init__(self):
        self.dir = Path(tempfile.mkdtemp(prefix="compare-"))
        # nginx workers drop root and still have to reach their temporary files.
        self.dir.chmod(0o711)
        self._children = []

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def ports(self, count):
        """Free loopback ports, chosen by the system and all different."""
        sockets = [socket.socket() for _ in range(count)]
        try:
            for held in sockets:
                held.bind(("127.0.0.1", 0))
            return [held.getsockname()[1] for held in sockets]
        finally:
            for held in sockets:
                held.close()

    def write(self, name, text, mode=0o644):
        """Write a file of the run and return its path."""
        path = self.dir / name
        path.write_text(text, encoding="utf-8")
        path.chmod(mode)
        return path

    def render(self, template, name, /, **values):
        """Fill the {{holes}} of a template and write it under `name`."""
        text = (TEMPLATES / template).read_text(encoding="utf-8")
        # A hole without a value is a KeyError: a half-filled config must not start.
        filled = re.sub(r"\{\{(\w+)\}\}", lambda hole: str(values[hole.group(1)]), text)
        return self.write(name, filled)

    def start(self, name, argv):
        """Start a child in its own process group; its output goes to `<name>.log`."""
        with open(self.dir / f"{name}.log", "wb") as log:
            child = subprocess.Popen(
                [str(part) for part in argv],
                cwd=self.dir,
                env=clean_environment(self.dir),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                # Not the terminal's group: Ctrl-C reaches only this program, which then cleans up.
                start_new_session=True,
                preexec_fn=end_with_parent,
            )
        self._children.append((name, child))
        return child

    def wait_for(self, name, child, ready, limit):
        """Poll `ready` until it is true; fail when the child ends or `limit` seconds pass."""
        deadline = time.monotonic() + limit
        while time.monotonic() < deadline:
            if child.poll() is not None:
                raise Failure(f"{name} ended with code {child.returncode}:\n{self.tail(name)}")
            if ready():
                return
            time.sleep(0.05)
        raise Failure(f"{name} was not ready within {limit} s:\n{self.tail(name)}")

    def tail(self, name, lines=15):
        """The last lines that a child has printed."""
        try:
            text = (self.dir / f"{name}.log").read_text(encoding="utf-8", errors="replace")
        except OSError:
            return "(no output)"
        return "\n".join(text.splitlines()[-lines:]) or "(no output)"

    def stop(self, child, limit=5.0):
        """End one child and its whole group: SIGTERM, then SIGKILL after `limit` seconds.

        Returns whether the group's leader ended by itself in time.
        """
        deadline = time.monotonic() + limit
        while child.poll() is None and time.monotonic() < deadline:
            # Again every few seconds: a single nginx process can miss one just before it sleeps.
            _signal_group(child, signal.SIGTERM)
            try:
                child.wait(min(5.0, limit))
            except subprocess.TimeoutExpired:
                continue
        in_time = child.poll() is not None
        _signal_group(child, signal.SIGKILL)
        child.wait()
        self._children = [entry for entry in self._children if entry[1] is not child]
        return in_time

    def close(self):
        """End all children, newest first, and remove the directory."""
        # A second Ctrl-C must not leave half of it standing.
        numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGALRM)
        held = {number: signal.signal(number, signal.SIG_IGN) for number in numbers}
        try:
            for _, child in reversed(list(self._children)):
                self.stop(child)
            shutil.rmtree(self.dir, ignore_errors=True)
        finally:
            for number, handler in held.items():
                signal.signal(number, handler)


def clean_environment(home):
    """The little environment that children get, so that the caller's settings change nothing."""
    path = os.environ.get("PATH", os.defpath)
    return {"PATH": f"{path}:/usr/sbin:/sbin", "HOME": str(home), "LANG": "C.UTF-8"}


def guard(limit):
    """Turn termination signals and `limit` seconds of run time into exceptions."""

    def ended(number, _frame):
        sys.exit(128 + number)

    def expired(_number, _frame):
        raise Failure(f"not done after {limit:.0f} s: gave up")

    signal.signal(signal.SIGTERM, ended)
    signal.signal(signal.SIGHUP, ended)
    signal.signal(signal.SIGALRM, expired)
    signal.alarm(int(limit) + 1)


def end_with_parent():
    """For `preexec_fn`: the child gets SIGTERM when this program dies, even by kill -9."""
    # SIGTERM, not SIGKILL: the master of a process group passes it on to its workers.
    _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


def reachable(port):
    """Whether something accepts connections on the loopback port."""
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
        return True
    except OSError:
        return False


def _signal_group(child, number):
    try:
        os.killpg(child.pid, number)
    except ProcessLookupError:
        pass
