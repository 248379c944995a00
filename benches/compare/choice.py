"""Which build of the gateway a benchmark measures, and how its report says so."""

from pathlib import Path

import pgo
import tools
from stand import Failure


def options(parser):
    """Add the options that choose; without one it is what packages ship."""
    either = parser.add_mutually_exclusive_group()
    either.add_argument(
        "--binary", type=Path, help="measure this gateway instead of building one"
    )
    either.add_argument(
        "--trained", action="store_true", help="measure the build that benches/trained.py makes"
    )


def program(args):
    """The gateway to measure, built when none is given."""
    print(build(args), flush=True)
    if not args.binary:
        return pgo.build() if args.trained else tools.build()
    binary = args.binary.resolve()
    if not binary.is_file():
        raise Failure("--binary names no file")
    return binary


def build(args):
    """A line that says which build is measured; a path is nobody else's business."""
    if args.binary:
        return "build: given by --binary"
    return "build: dist, trained with its own traffic (PGO)" if args.trained else "build: dist"


def described(args):
    """Lines that say what was measured, and on what."""
    return [*tools.machine(), build(args)]


def named(args):
    """What the command line in a report says of the choice."""
    return " --trained" if args.trained else ""
