"""Tests of how llvm-profdata is found and used.

    python3 -m unittest discover benches/compare
"""

import contextlib
import io
import os
import tempfile
import unittest
from pathlib import Path
from unittest import mock

import profdata
from stand import Failure

HOST = "x86_64-unknown-linux-gnu"


def program(folder, name, text):
    """A shell script in the folder `bin`, which PATH is to consist of."""
    path = Path(folder) / "bin" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{text}\n", encoding="utf-8")
    path.chmod(0o755)
    return path


class InFolder(unittest.TestCase):
    """Each test has an empty folder and is silent."""

    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = Path(folder.name)
        self.said = io.StringIO()
        silent = contextlib.redirect_stdout(self.said)
        silent.__enter__()
        self.addCleanup(silent.__exit__, None, None, None)


class Merger(InFolder):
    """Which llvm-profdata is taken, and what it makes."""

    def setUp(self):
        super().setUp()
        self.rust = profdata.Compiler(HOST, "22", self.folder / "rust")
        self.own = self.rust.sysroot / "lib" / "rustlib" / HOST / "bin" / "llvm-profdata"
        (self.folder / "bin").mkdir()
        only = mock.patch.dict(os.environ, PATH=str(self.folder / "bin"))
        only.start()
        self.addCleanup(only.stop)

    def version(self, name, version):
        """A program of this version in PATH, which knows `--version` of a subcommand only."""
        text = f'[ "$1 $2" = "merge --version" ] && echo "  LLVM version {version}"'
        return program(self.folder, name, text)

    def test_the_compiler_names_its_llvm(self):
        said = f"rustc 1.95.0\nhost: {HOST}\nrelease: 1.95.0\nLLVM version: 22.1.2"
        text = f'[ "$1" = -vV ] && echo "{said}" || echo /some/where'
        program(self.folder, "rustc", text)
        self.assertEqual(profdata.compiler(), profdata.Compiler(HOST, "22", Path("/some/where")))
        program(self.folder, "rustc", "echo rustc 1.95.0")
        with self.assertRaisesRegex(Failure, "no LLVM version"):
            profdata.compiler()

    def test_the_toolchain_has_its_own(self):
        self.version("llvm-profdata", "22.0.0")
        self.own.parent.mkdir(parents=True)
        self.own.touch()
        self.assertEqual(profdata.find(self.rust), self.own)

    def test_rustup_adds_it(self):
        add = f'[ "$*" = "component add llvm-tools" ] || exit 1\n/bin/mkdir -p {self.own.parent}\n'
        program(self.folder, "rustup", f"{add}: >{self.own}")
        self.assertEqual(profdata.find(self.rust), self.own)

    def test_one_in_path_must_be_of_the_same_version(self):
        # A rustup that cannot is no reason to give up.
        program(self.folder, "rustup", "echo no network; exit 1")
        same = self.version("llvm-profdata", "22.0.7")
        self.assertEqual(profdata.find(self.rust), same)
        self.version("llvm-profdata", "14.0.6")
        with self.assertRaisesRegex(Failure, "is of LLVM 14: please run `rustup component add"):
            profdata.find(self.rust)
        other = self.version("llvm-profdata-22", "22.1.0")
        self.assertEqual(profdata.find(self.rust), other)

    def test_without_any_the_failure_says_what_to_do(self):
        with self.assertRaisesRegex(Failure, "no llvm-profdata of LLVM 22.*llvm-tools"):
            profdata.find(self.rust)

    def test_merging_makes_a_profile_or_fails(self):
        profile = self.folder / "profile"
        good = program(self.folder, "good", '[ "$1 $2" = "merge -o" ] && echo counts >"$3"')
        profdata.merge(good, self.folder, profile)
        self.assertEqual(profile.read_text(), "counts\n")
        with self.assertRaisesRegex(Failure, "unsupported version"):
            bad = program(self.folder, "bad", "echo unsupported version >&2; exit 1")
            profdata.merge(bad, self.folder, profile)
        with self.assertRaisesRegex(Failure, "made no profile"):
            empty = program(self.folder, "empty", ': >"$3"')
            profdata.merge(empty, self.folder, profile)


if __name__ == "__main__":
    unittest.main()
