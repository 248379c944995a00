"""What the kernel says about a process tree: CPU time, members, listening sockets.

Reads /proc only. It starts nothing and judges nothing.
"""

import os
import time


def tree(root):
    """Process ids of `root` and all its descendants."""
    children = {}
    for entry in os.listdir("/proc"):
        if not entry.isdigit():
            continue
        try:
            with open(f"/proc/{entry}/stat", encoding="utf-8", errors="replace") as stat:
                text = stat.read()
        except OSError:
            continue
        # The command name may hold blanks and brackets: the parent follows the last bracket.
        parent = int(text[text.rindex(")") + 2 :].split()[1])
        children.setdefault(parent, []).append(int(entry))
    found, queue = [], [root]
    while queue:
        pid = queue.pop()
        found.append(pid)
        queue += children.get(pid, [])
    return sorted(found)


def run_time(root):
    """Nanoseconds on a CPU so far, for every thread of the tree, as {(pid, tid): ns}."""
    times = {}
    for pid in tree(root):
        try:
            for tid in os.listdir(f"/proc/{pid}/task"):
                with open(f"/proc/{pid}/task/{tid}/schedstat", encoding="ascii") as stat:
                    times[(pid, int(tid))] = int(stat.read().split()[0])
        except OSError:
            continue
    return times


def spent(before, after):
    """Nanoseconds used between two `run_time` answers.

    A thread that began in between counts from zero; one that ended is not counted.
    """
    return sum(ns - before.get(thread, 0) for thread, ns in after.items())


def settle(root, limit=2.0):
    """Wait until the tree is idle (under 2 ms of CPU in 50 ms), at most `limit` seconds."""
    deadline = time.monotonic() + limit
    before = run_time(root)
    while time.monotonic() < deadline:
        time.sleep(0.05)
        after = run_time(root)
        if spent(before, after) < 2_000_000:
            return
        before = after


def memory(root):
    """KiB of memory of the tree; what processes share is counted once (PSS)."""
    total = 0
    for pid in tree(root):
        try:
            with open(f"/proc/{pid}/smaps_rollup", encoding="ascii") as lines:
                total += sum(int(line.split()[1]) for line in lines if line.startswith("Pss:"))
        except OSError:
            continue
    return total


def strangers(port, root):
    """How many sockets that listen on `port` do not belong to the tree of `root`.

    SO_REUSEPORT lets a left-over process take a share of the connections unseen, which would
    make every figure too good.
    """
    inodes = {f"socket:[{row[9]}]" for row in _sockets(port, "0A")}
    for pid in tree(root):
        try:
            descriptors = os.listdir(f"/proc/{pid}/fd")
        except OSError:
            continue
        for descriptor in descriptors:
            try:
                inodes.discard(os.readlink(f"/proc/{pid}/fd/{descriptor}"))
            except OSError:
                continue
    return len(inodes)


def established(port):
    """How many connections to the local `port` are open."""
    return len(_sockets(port, "01"))


def _sockets(port, state):
    """Rows of the kernel's table of TCP sockets on the local port in this state."""
    found = []
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        try:
            with open(table, encoding="ascii") as lines:
                rows = [line.split() for line in lines][1:]
        except OSError:
            continue
        found += [
            row for row in rows if row[3] == state and int(row[1].rsplit(":", 1)[1], 16) == port
        ]
    return found
