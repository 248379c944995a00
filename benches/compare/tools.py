"""Installs what is missing, builds the gateway and describes the machine.

Descriptions name kinds and versions only: no host name and no path.
"""

import functools
import json
import os
import platform
import re
import shutil
import subprocess
from pathlib import Path

from contenders import haproxy_path, nginx_path
from stand import Failure

ROOT = Path(__file__).resolve().parents[2]
# Seconds. An optimised build with LTO on a small machine takes long.
INSTALL_LIMIT = 600
BUILD_LIMIT = 3600
PACKAGES = {
    "callgrind_control": "valgrind",
    "haproxy": "haproxy",
    "h2load": "nghttp2-client",
    "nghttp": "nghttp2-client",
    "nginx": "nginx-light",
    "openssl": "openssl",
    "redis-check-rdb": "redis-tools",
    "strace": "strace",
    "valgrind": "valgrind",
    "wrk": "wrk",
}


def require(*names):
    """Make the named tools available, by apt where it exists."""
    missing = [name for name in names if not _path(name)]
    if not missing:
        return
    packages = sorted({PACKAGES[name] for name in missing})
    install = ["apt-get", "install", "-y", "--no-install-recommends", *packages]
    if not shutil.which("apt-get"):
        raise Failure(f"please install: {', '.join(missing)}")
    sudo = []
    if os.geteuid() != 0:
        if not shutil.which("sudo"):
            raise Failure(f"please run as root: {' '.join(install)}")
        sudo = ["sudo"]
    print(f"installing {', '.join(packages)}", flush=True)
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    for argv in (["apt-get", "update", "-q"], install):
        code, said = bounded(sudo + argv, INSTALL_LIMIT, stderr=subprocess.STDOUT, env=environment)
        if code != 0:
            raise Failure(f"{' '.join(argv)} failed:\n{said[-800:]}")
    still = [name for name in missing if not _path(name)]
    if still:
        raise Failure(f"installed, and yet not found: {', '.join(still)}")


def target():
    """Where cargo puts what it builds."""
    return ROOT / os.environ.get("CARGO_TARGET_DIR", "target")


def build(*more, folder=None, environment=None):
    """Build the gateway as packages ship it; returns the binary."""
    what = ("--profile", "dist", "--bin", "portcullis", *more)
    return _build("portcullis", what, folder, environment)


@functools.cache
def handshakes():
    """Build the client that opens a connection for every request; returns the binary."""
    manifest = ROOT / "benches" / "compare" / "handshakes" / "Cargo.toml"
    return _build("handshakes", ("--release", "--manifest-path", str(manifest)))


def _build(name, what, folder=None, environment=None):
    """Build a program with cargo; returns the binary."""
    print(f"building {name}", flush=True)
    argv = ["cargo", "build", "--locked", "--target-dir", str(folder or target()), *what]
    argv.append("--message-format=json-render-diagnostics")
    code, said = bounded(argv, BUILD_LIMIT, cwd=ROOT, env=environment)
    if code != 0:
        raise Failure(f"{name} does not build")
    for line in said.splitlines():
        message = json.loads(line)
        if message.get("executable") and message["target"]["name"] == name:
            return Path(message["executable"])
    raise Failure("cargo named no binary")


def machine():
    """Lines that say what the figures were measured on."""
    model = _search("/proc/cpuinfo", r"model name\s*:\s*(.+)") or platform.machine()
    memory = int(_search("/proc/meminfo", r"MemTotal:\s*(\d+)") or 0) // (1024 * 1024)
    kernel = ".".join(re.findall(r"\d+", platform.release())[:2])
    nginx = _said([nginx_path(), "-V"])
    h2load = _said(["h2load", "--version"])
    versions = [
        _first(r"nginx version: (\S+)", nginx),
        # What runs, not what it was built with, when nginx tells the two apart.
        _first(r"running with (OpenSSL \S+)", nginx) or _first(r"built with (OpenSSL \S+)", nginx),
        _first(r"(HAProxy version \S+)", _said([haproxy_path(), "-v"]) if haproxy_path() else ""),
        _first(r"(wrk \S+)", _said(["wrk", "-v"])),
        h2load.strip().splitlines()[0] if h2load.strip() else "",
    ]
    return [
        f"{os.cpu_count()} CPUs ({model.strip()}), {memory} GiB, Linux {kernel}",
        ", ".join(version for version in versions if version),
    ]


def bounded(argv, limit, **options):
    """(exit code, standard output) of a command that gets `limit` seconds."""
    try:
        ran = subprocess.run(
            argv, stdout=subprocess.PIPE, text=True, timeout=limit, check=False, **options
        )
    except FileNotFoundError as missing:
        raise Failure(f"{argv[0]} is not installed") from missing
    except subprocess.TimeoutExpired as late:
        raise Failure(f"{argv[0]} was not done after {limit} s") from late
    return ran.returncode, ran.stdout


def _path(name):
    found = {"nginx": nginx_path, "haproxy": haproxy_path}.get(name)
    return found() if found else shutil.which(name)


def _said(argv):
    ran = subprocess.run(argv, capture_output=True, text=True, timeout=30, check=False)
    return ran.stdout + ran.stderr


def _first(pattern, text):
    found = re.search(pattern, text)
    return found.group(1) if found else ""


def _search(path, pattern):
    try:
        with open(path, encoding="utf-8") as text:
            return _first(pattern, text.read())
    except OSError:
        return ""
