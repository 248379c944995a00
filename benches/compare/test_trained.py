"""Tests of the trained build, as far as they need no compiler, and of the choice of a build.

    python3 -m unittest discover benches/compare
"""

import argparse
import contextlib
import io
import os
import sys
import unittest
from argparse import Namespace
from pathlib import Path
from unittest import mock

import choice
import pgo
import profdata
import tools
import training
from stand import Failure
from test_profdata import HOST, InFolder

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))

import cluster  # noqa: E402 (the folder above must be known first)
import growth  # noqa: E402
import instructions  # noqa: E402
import run  # noqa: E402


class Builds(InFolder):
    """Flags, folders and the order of the steps."""

    def test_flags_join_those_of_the_environment(self):
        def flags(**environment):
            return pgo.with_flags(environment, "-Cmine")["CARGO_ENCODED_RUSTFLAGS"].split("\x1f")

        self.assertEqual(flags(), ["-Cmine"])
        self.assertEqual(flags(RUSTFLAGS=" -Ca  -C b"), ["-Ca", "-C", "b", "-Cmine"])
        self.assertEqual(flags(RUSTFLAGS="-Ca", CARGO_ENCODED_RUSTFLAGS=""), ["-Cmine"])
        self.assertEqual(flags(CARGO_ENCODED_RUSTFLAGS="-Ca\x1f-C b"), ["-Ca", "-C b", "-Cmine"])
        self.assertEqual(pgo.with_flags({"HOME": "x"}, "-Cmine")["HOME"], "x")

    def test_the_target_folder_is_that_of_cargo(self):
        for given, wanted in (("/else/where", "/else/where"), ("near", tools.ROOT / "near")):
            with mock.patch.dict(os.environ, CARGO_TARGET_DIR=given):
                self.assertEqual(tools.target(), Path(wanted))
        with mock.patch.dict(os.environ):
            os.environ.pop("CARGO_TARGET_DIR", None)
            self.assertEqual(tools.target(), tools.ROOT / "target")

    def test_a_training_leaves_a_profile_or_fails(self):
        raw = self.folder / "raw"
        raw.mkdir()

        def train(at_first, at_last):
            def run(_binary, before_end):
                for text in at_first:
                    (raw / "default_1.profraw").write_text(text)
                before_end()
                self.assertEqual(list(raw.iterdir()), [])
                for text in at_last:
                    (raw / "default_1.profraw").write_text(text)

            return run

        # Twice: what an earlier training left is gone.
        for _ in range(2):
            pgo.record("binary", raw, train(["of another call"], ["counts"]))
        for at_first, at_last in ((["of another call"], []), ([], [""]), ([], [])):
            with self.assertRaisesRegex(Failure, "left no profile"):
                pgo.record("binary", raw, train(at_first, at_last))

    def test_what_was_trained_is_not_trained_again_unless_asked(self):
        built, trained = [], []

        def build(*more, folder, environment):
            built.append((more, folder.name, environment["CARGO_ENCODED_RUSTFLAGS"]))
            path = folder / HOST / "portcullis"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(folder.name)
            return path

        def merge(_program, _raw, profile):
            profile.write_text(f"profile {len(trained)}")

        rust = profdata.Compiler(HOST, "22", self.folder)
        with (
            mock.patch.dict(os.environ, CARGO_TARGET_DIR=str(self.folder), RUSTFLAGS="-Ca"),
            mock.patch.multiple(tools, require=mock.DEFAULT, build=build),
            mock.patch.multiple(profdata, compiler=lambda: rust, find=mock.DEFAULT, merge=merge),
            mock.patch.object(pgo, "record", lambda *_: self._raw(trained)),
        ):
            for anew, times in ((False, 1), (False, 1), (True, 2)):
                kept = pgo.build(anew)
                self.assertEqual(len(trained), times)
                self.assertEqual(kept, self.folder / "trained" / "portcullis")
                self.assertEqual(kept.read_text(), "using")
        folder = self.folder / "trained"
        aim = ("--target", HOST)
        counting = (aim, "counting", f"-Ca\x1f-Cprofile-generate={folder / 'raw'}")
        using = (aim, "using", f"-Ca\x1f-Cprofile-use={folder / 'portcullis.profdata'}")
        self.assertEqual(built, [counting, using] * 3)

    def _raw(self, trained):
        (self.folder / "trained" / "raw").mkdir()
        trained.append(True)

    def test_only_clean_traffic_is_a_training(self):
        training.check("h1-public", 5, [])
        with self.assertRaisesRegex(Failure, "h1-public: no request was answered"):
            training.check("h1-public", 0, [])
        with self.assertRaisesRegex(Failure, "h1-public: 3 status errors"):
            training.check("h1-public", 5, ["3 status errors"])

    def test_the_cases_of_the_training_are_cases_of_the_comparison(self):
        self.assertLessEqual(set(training.NAMES), set(run.NAMES))


class Choice(InFolder):
    """The options that all benchmarks share."""

    def parsed(self, *argv):
        parser = argparse.ArgumentParser()
        choice.options(parser)
        return parser.parse_args(argv)

    def test_one_build_is_chosen(self):
        with (
            mock.patch.object(tools, "build", lambda: "plain"),
            mock.patch.object(pgo, "build", lambda: "trained"),
        ):
            self.assertEqual(choice.program(self.parsed()), "plain")
            self.assertEqual(choice.program(self.parsed("--trained")), "trained")
        given = self.folder / "gateway"
        with self.assertRaisesRegex(Failure, "--binary names no file"):
            choice.program(self.parsed("--binary", str(given)))
        given.touch()
        self.assertEqual(choice.program(self.parsed("--binary", str(given))), given.resolve())
        with self.assertRaises(SystemExit), contextlib.redirect_stderr(io.StringIO()):
            self.parsed("--trained", "--binary", str(given))

    def test_all_reports_say_which_build_it_was(self):
        more = {"pairs": 1, "seconds": 1, "cases": None, "no_noise": True, "requests": 1000}
        more |= {"rate": 1, "handshakes": 1, "connections": 1, "million": False}
        trained = ("- build: dist, trained with its own traffic (PGO)", " --trained")
        for argv, (line, command) in (
            ((), ("- build: dist", "")),
            (("--trained",), trained),
            (("--binary", "secret/place"), ("- build: given by --binary", "")),
        ):
            args = Namespace(**more, **vars(self.parsed(*argv)))
            for bench in (run, instructions, growth, cluster):
                with mock.patch.object(tools, "machine", lambda: ["a machine"]):
                    page = bench.page(args, ["a table"])
                self.assertIn(f"- a machine\n{line}\n", page)
                self.assertEqual(" --trained" in page, bool(command))
                self.assertNotIn("secret", page)


if __name__ == "__main__":
    unittest.main()
