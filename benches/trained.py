#!/usr/bin/env python3
"""Builds the gateway trained with its own traffic (profile-guided), and prints where it is.

One command does everything: installs missing tools, builds a gateway that counts what it does,
loads it, builds the one that is laid out by these counts, cleans up. The last line is the path.
"""

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent / "compare"))

import pgo  # noqa: E402 (the folder above must be known first)
from stand import Failure  # noqa: E402


def main():
    argparse.ArgumentParser(description=__doc__.splitlines()[0]).parse_args()
    try:
        binary = pgo.build(anew=True)
    except Failure as failure:
        print(f"trained: {failure}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("trained: interrupted, cleaned up", file=sys.stderr)
        return 130
    print(binary)
    return 0


if __name__ == "__main__":
    sys.exit(main())
