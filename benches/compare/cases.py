"""All cases: what a round of each does, which figures it has, and what they should be.

The limits are those of the project: a ratio to nginx in the same run, or a figure by itself.
"""

from dataclasses import dataclass
from typing import Callable

import load
import measures
import tools
from start import start
from storm import storm
from syscalls import syscalls

ALL = ("nginx", "haproxy", "portcullis")


@dataclass(frozen=True)
class Figure:
    """One number of a round. `limits`: (at least, goal); `absolute`: not as a ratio to nginx."""

    name: str
    label: str
    digits: int = 1
    limits: tuple | None = None
    absolute: bool = False


@dataclass(frozen=True)
class Case:
    """Something to measure. `most` bounds the rounds of cases that need no more."""

    name: str
    take: Callable
    figures: tuple
    request: load.Case
    who: tuple = ALL
    most: int = 1000
    # Requests whose access-log lines must be there.
    logged: bool = True
    tools: tuple = ()
    # What must be built before.
    prepare: Callable | None = None


def _cpu(limits=None, label="CPU us/req"):
    return Figure("cpu", label, limits=limits)


_RATE = Figure("rate", "req/s", 0)
_H1_PUBLIC, _H1, _H2_PUBLIC, _H2 = load.CASES

CASES = (
    Case("h1-public", measures.saturated(_H1_PUBLIC), (_cpu(), _RATE), _H1_PUBLIC),
    Case("h1-signed-in", measures.saturated(_H1), (_cpu((0.85, 0.70)), _RATE), _H1),
    Case("h2-public", measures.saturated(_H2_PUBLIC), (_cpu(), _RATE), _H2_PUBLIC),
    Case("h2-signed-in", measures.saturated(_H2), (_cpu((0.90, 0.70)), _RATE), _H2),
    Case(
        "rate-h1",
        measures.steady(_H1),
        (
            _cpu((0.95, 0.80)),
            Figure("p50", "p50 us", 0, (1.0, 0.93)),
            Figure("p99", "p99 us", 0, (1.1, 0.9)),
        ),
        _H1,
    ),
    Case(
        "rate-h2",
        measures.steady(_H2),
        (_cpu(), Figure("p50", "p50 us", 0), Figure("p99", "p99 us", 0)),
        _H2,
    ),
    Case(
        "handshake-full",
        measures.handshakes("full"),
        (_cpu((0.50, 0.42), "CPU us/conn"),),
        _H1,
        prepare=tools.handshakes,
    ),
    Case(
        "handshake-resumed",
        measures.handshakes("resumed"),
        (_cpu((0.50, 0.43), "CPU us/conn"),),
        _H1,
        prepare=tools.handshakes,
    ),
    Case("download", measures.download, (_cpu((0.80, 0.72), "CPU ms/GiB"),), _H1),
    Case(
        "memory",
        measures.memory,
        (Figure("memory", "KiB/idle conn", limits=(24, 16), absolute=True),),
        _H1,
        most=2,
        logged=False,
    ),
    Case(
        "syscalls",
        syscalls,
        (Figure("calls", "calls/req", 2, (4.5, 4.3), True),),
        _H1,
        most=2,
        tools=("strace",),
    ),
    Case(
        "start",
        start,
        (Figure("start", "ms to answer", limits=(100, 30), absolute=True),),
        _H1,
        logged=False,
    ),
    Case(
        "storm",
        storm,
        (Figure("p99", "p99 / idle p99", 2, (2.0, 1.5), True),),
        _H1,
        who=("portcullis",),
        most=3,
        logged=False,
    ),
)
NAMES = tuple(case.name for case in CASES)
