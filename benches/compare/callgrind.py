"""Counts the instructions of a part of a program's life, by asking callgrind to dump in between."""

import re
import subprocess

from stand import Failure, clean_environment


class Callgrind:
    """Counts for one program, which is started behind `wrapper`."""

    def __init__(self, stand):
        self.stand = stand
        self.out = stand.dir / "growth.callgrind"
        # Start-up is not counted: without it a program starts ten times as fast.
        self.wrapper = (
            "valgrind",
            "--tool=callgrind",
            "--instr-atstart=no",
            f"--callgrind-out-file={self.out}",
        )

    def begin(self, pid):
        """Begin to count."""
        self._control(pid, "-i", "on")

    def total(self, pid):
        """Instructions since the last call, or since `begin`."""
        known = set(self._dumps())
        self._control(pid, "-d")
        made = [path for path in self._dumps() if path not in known]
        totals = [read_total(path.read_text("utf-8", "replace")) for path in made]
        for path in made:
            path.unlink()
        if len(totals) != 1 or totals[0] is None:
            raise Failure(f"callgrind made {len(totals)} dumps instead of one")
        return totals[0]

    def _dumps(self):
        return list(self.stand.dir.glob(f"{self.out.name}.*"))

    def _control(self, pid, *what):
        ran = subprocess.run(
            ["callgrind_control", *what, str(pid)],
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
            env=clean_environment(self.stand.dir),
        )
        if ran.returncode != 0:
            raise Failure(f"callgrind_control {what[0]} failed: {(ran.stdout + ran.stderr)[-300:]}")


def read_total(text):
    """The instruction total of a callgrind file, if there is one."""
    total = re.search(r"^(?:summary|totals): (\d+)", text, re.MULTILINE)
    return int(total.group(1)) if total else None
