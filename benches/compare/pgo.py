"""The gateway as packages ship it, compiled for what it did under load (profile-guided).

Two builds with a training between them: the first one counts what it does, the second one is laid
out by these counts. Both have folders of their own, so that ordinary builds stay valid.
"""

import hashlib
import os
import shutil

import profdata
import tools
import training
from stand import Failure

SEPARATOR = "\x1f"


def build(anew=False):
    """Build the trained gateway; returns the binary.

    A profile of the very program that would be trained again is used again, unless `anew`: several
    benchmarks in a row measure one build.
    """
    tools.require(*training.TOOLS)
    rust = profdata.compiler()
    merger = profdata.find(rust)
    folder = tools.target() / "trained"
    profile = folder / "portcullis.profdata"
    raw = folder / "raw"
    print("1 of 3: a gateway that counts what it does", flush=True)
    counting = _cargo(rust, folder / "counting", f"-Cprofile-generate={raw}")
    stamp = folder / "trained-with"
    if anew or not profile.is_file() or not _is(stamp, counting):
        print("2 of 3: training", flush=True)
        stamp.unlink(missing_ok=True)
        # cargo does not look into the profile: it would take what was built with the one before.
        shutil.rmtree(folder / "using" / rust.host, ignore_errors=True)
        record(counting, raw, training.run)
        profdata.merge(merger, raw, profile)
        shutil.rmtree(raw)
        stamp.write_text(_digest(counting), encoding="ascii")
    else:
        print("2 of 3: no training, this program has had it", flush=True)
    print("3 of 3: the trained gateway", flush=True)
    return _keep(_cargo(rust, folder / "using", f"-Cprofile-use={profile}"), folder / "portcullis")


def record(binary, raw, train):
    """Train a program that leaves its counts in the folder `raw`; only these are there then."""
    # Other calls of it, such as the one that hashes a password, leave theirs in the same file:
    # they go before the gateway ends, or they would pass for its own.
    train(binary, lambda: _empty(raw))
    if not any(path.stat().st_size for path in raw.glob("*.profraw")):
        raise Failure("the gateway left no profile of its training")


def _empty(folder):
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)


def with_flags(environment, *more):
    """The environment with flags for rustc beside those that it has."""
    given = environment.get("CARGO_ENCODED_RUSTFLAGS")
    if given is None:
        flags = environment.get("RUSTFLAGS", "").split()
    else:
        # Where both are set, cargo takes this one.
        flags = [flag for flag in given.split(SEPARATOR) if flag]
    # Not RUSTFLAGS, which a folder with a space in its name would break.
    return {**environment, "CARGO_ENCODED_RUSTFLAGS": SEPARATOR.join([*flags, *more])}


def _cargo(rust, folder, flag):
    # With a target named, the flags are not for build scripts and procedural macros.
    environment = with_flags(os.environ, flag)
    return tools.build("--target", rust.host, folder=folder, environment=environment)


def _keep(built, path):
    """Put a copy where it is easily found, also while the one before runs."""
    new = path.with_name(f"{path.name}.new")
    shutil.copy2(built, new)
    os.replace(new, path)
    return path


def _is(stamp, binary):
    return stamp.is_file() and stamp.read_text(encoding="ascii") == _digest(binary)


def _digest(binary):
    with open(binary, "rb") as program:
        return hashlib.file_digest(program, "sha256").hexdigest()
