"""llvm-profdata: finds or obtains the one that reads what this compiler's programs record, and
merges with it.

The format belongs to LLVM's major version: one of another version refuses the files, or misreads
them.
"""

import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

import tools
from stand import Failure

ASK_LIMIT = 60
MERGE_LIMIT = 600


@dataclass(frozen=True)
class Compiler:
    """What rustc says of itself: target of this machine, major version of its LLVM, its folder."""

    host: str
    major: str
    sysroot: Path


def compiler():
    """The compiler that cargo takes for the gateway."""
    said = _asked("rustc", "-vV")
    host = re.search(r"^host: (\S+)$", said, re.MULTILINE)
    major = llvm_major(said)
    if not host or not major:
        raise Failure(f"rustc -vV names no host or no LLVM version:\n{said[-300:]}")
    return Compiler(host.group(1), major, Path(_asked("rustc", "--print", "sysroot").strip()))


def llvm_major(said):
    """Major version of LLVM in what a program says of itself, "" when it does not say."""
    found = re.search(r"LLVM version:? (\d+)", said)
    return found.group(1) if found else ""


def find(rust):
    """llvm-profdata of the toolchain, of rustup, or of the system when its version is the same."""
    own = rust.sysroot / "lib" / "rustlib" / rust.host / "bin" / "llvm-profdata"
    if not own.is_file() and shutil.which("rustup"):
        _install()
    if own.is_file():
        return own
    seen = []
    # Debian adds the version to the name of any but its usual one.
    for name in ("llvm-profdata", f"llvm-profdata-{rust.major}"):
        path = shutil.which(name)
        if not path:
            continue
        # Of a subcommand: some versions know no other `--version`.
        _, said = tools.bounded([path, "merge", "--version"], ASK_LIMIT)
        major = llvm_major(said)
        if major == rust.major:
            return Path(path)
        seen.append(f"{name} in PATH is of LLVM {major or '?'}")
    raise Failure(
        f"no llvm-profdata of LLVM {rust.major}, which rustc is built with"
        + "".join(f"; {one}" for one in seen)
        + ": please run `rustup component add llvm-tools`, or put one of that version into PATH"
    )


def merge(program, raw, profile):
    """Merge all recordings below the folder `raw` into the file `profile`."""
    argv = [str(program), "merge", "-o", str(profile), str(raw)]
    code, said = tools.bounded(argv, MERGE_LIMIT, stderr=subprocess.STDOUT)
    if code != 0:
        raise Failure(f"llvm-profdata could not merge what was recorded:\n{said[-500:]}")
    if not profile.is_file() or profile.stat().st_size == 0:
        raise Failure("llvm-profdata made no profile")


def _install():
    print("installing llvm-tools of the Rust toolchain", flush=True)
    argv = ["rustup", "component", "add", "llvm-tools"]
    code, said = tools.bounded(
        argv, tools.INSTALL_LIMIT, cwd=tools.ROOT, stderr=subprocess.STDOUT
    )
    # Not the end: there may be one in PATH.
    if code != 0:
        print(f"{' '.join(argv)} failed:\n{said[-300:]}", flush=True)


def _asked(*argv):
    """What a program prints, in the folder where cargo runs: rustup chooses by it."""
    code, said = tools.bounded(list(argv), ASK_LIMIT, cwd=tools.ROOT)
    if code != 0:
        raise Failure(f"{' '.join(argv)} failed ({code})")
    return said
