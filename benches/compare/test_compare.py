"""Tests of the benchmark itself: would it notice a gateway that cheats or breaks?

    python3 -m unittest discover benches/compare

The gateways here are nginx behind a script that understands the gateway's command line; each has
one fault. They serve these tests only: their figures mean nothing.
"""

import os
import signal
import subprocess
import sys
import tempfile
import textwrap
import time
import unittest
from pathlib import Path
from unittest import mock

import load
import proc
import report
import tools
from stand import Failure, Stand

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))

import instructions  # noqa: E402 (the folder above must be known first)

FAKE = """#!@PYTHON@
import os, sys, tomllib
if sys.argv[1] == "hash-password":
    sys.stdin.readline()
    print("$fake$hash")
    sys.exit(0)
config = tomllib.load(open(sys.argv[3], "rb"))
values = {
    "LISTEN": config["server"]["listen"][0],
    "CERT": config["tls"]["certificates"][0]["cert"],
    "KEY": config["tls"]["certificates"][0]["key"],
    "LOG": config["log"]["access"],
    "APP": config["upstream"][0]["url"],
    "DIR": os.path.dirname(sys.argv[3]),
}
conf = '''@CONF@'''
for name, value in values.items():
    conf = conf.replace(f"%{name}%", value)
folder = values["DIR"]
open(folder + "/fake.conf", "w").write(conf)
os.execvp("nginx", ["nginx", "-e", folder + "/fake.err", "-c", folder + "/fake.conf"])
"""

CONF = """
@USER@
worker_processes 2; daemon off; pid %DIR%/fake.pid;
events { worker_connections 1024; }
http {
  access_log @LOG@; keepalive_requests 1000000;
  ssl_protocols TLSv1.3;
  ssl_certificate %CERT%; ssl_certificate_key %KEY%;
  map $http_cookie $known { default 0; ~__Host-portcullis=s3cret 1; }
  split_clients "$request_id" $unlucky { 1% 1; * 0; }
  proxy_http_version 1.1;
  server {
    listen %LISTEN% ssl http2;
    proxy_set_header Connection "";
    proxy_set_header X-Real-IP $remote_addr;
    proxy_set_header X-Forwarded-For $remote_addr;
    proxy_set_header X-Forwarded-Proto https;
    proxy_set_header X-Auth-User $identity;
    location = /auth/session {
      add_header Set-Cookie "__Host-portcullis=s3cret; Path=/; Secure; HttpOnly";
      return 201 "done";
    }
    location /public/ { set $identity ""; @PUBLIC@ proxy_pass %APP%; }
    location / { set $identity @IDENTITY@; @PROTECTED@ proxy_pass %APP%; }
  }
}
"""

HONEST = {
    "LOG": "%LOG%",
    "PUBLIC": "",
    "PROTECTED": "if ($known = 0) { return 401; }",
    "IDENTITY": "bench-user",
}


def fake_gateway(folder, **faults):
    """A gateway program with the given faults."""
    user = "user root root;" if os.geteuid() == 0 else ""
    text = FAKE.replace("@CONF@", CONF)
    for name, value in {**HONEST, "USER": user, "PYTHON": sys.executable, **faults}.items():
        text = text.replace(f"@{name}@", value)
    path = Path(folder) / "portcullis"
    path.write_text(text, encoding="utf-8")
    path.chmod(0o755)
    return path


class WholeRuns(unittest.TestCase):
    """The command, end to end, on gateways with and without faults."""

    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = Path(folder.name)
        self.temporary = self.folder / "tmp"
        self.temporary.mkdir()

    def start(self, case, *options, **faults):
        argv = [sys.executable, str(HERE / "run.py"), "--no-noise", "--case", case, *options]
        argv += ["--binary", str(fake_gateway(self.folder, **faults))]
        return subprocess.Popen(
            argv,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env={**os.environ, "TMPDIR": str(self.temporary)},
            start_new_session=True,
        )

    def run_case(self, case, **faults):
        child = self.start(case, "--pairs", "1", "--seconds", "1", **faults)
        said, _ = child.communicate(timeout=120)
        self.assert_nothing_left()
        return child.returncode, said

    def assert_nothing_left(self):
        self.assertEqual(list(self.temporary.iterdir()), [])
        left = []
        for entry in Path("/proc").glob("[0-9]*/cmdline"):
            try:
                if str(self.temporary).encode() in entry.read_bytes():
                    left.append(entry.parent.name)
            except OSError:
                continue
        self.assertEqual(left, [])

    def test_an_honest_gateway_gets_a_ratio(self):
        for case in ("h1-signed-in", "h2-public"):
            code, said = self.run_case(case)
            self.assertEqual(code, 0, said)
            self.assertRegex(said, case + r" +[\d.]+ \(.*1/1")

    def test_an_open_door_is_noticed(self):
        code, said = self.run_case("h2-signed-in", PROTECTED="")
        self.assertEqual(code, 1)
        self.assertIn("open without a session", said)

    def test_a_forged_identity_is_noticed(self):
        code, said = self.run_case("h1-signed-in", IDENTITY="$http_x_auth_user")
        self.assertEqual(code, 1)
        self.assertIn("forged-by-the-client", said)

    def test_a_wrong_body_is_noticed(self):
        code, said = self.run_case("h1-public", PUBLIC='return 200 "short";')
        self.assertEqual(code, 1)
        self.assertIn("got 200 and 5 bytes", said)

    def test_a_missing_access_log_is_noticed(self):
        code, said = self.run_case("h1-public", LOG="off")
        self.assertEqual(code, 1)
        self.assertIn("wrote no access log", said)

    def test_failures_and_redirects_under_load_make_a_round_invalid(self):
        for answer, protocol in (("503", "h1"), ("302 /auth/login", "h1"), ("302 /", "h2")):
            fault = "if ($unlucky) { return %s; }" % answer
            code, said = self.run_case(f"{protocol}-public", PUBLIC=fault)
            self.assertEqual(code, 1, said)
            # One request in a hundred may also hit the checks before the round.
            self.assertRegex(said, "INVALID ROUND|expected 200")

    def test_an_interrupted_run_cleans_up(self):
        for number, code in ((signal.SIGINT, 130), (signal.SIGTERM, 143)):
            child = self.start("h1-public", "--pairs", "50")
            deadline = time.monotonic() + 30
            while not list(self.temporary.glob("*/gateway-access.log")):
                self.assertLess(time.monotonic(), deadline, "the run did not start")
                time.sleep(0.05)
            child.send_signal(number)
            said, _ = child.communicate(timeout=30)
            self.assertEqual(child.returncode, code, said)
            self.assert_nothing_left()


class Parts(unittest.TestCase):
    """Reading and reckoning."""

    def test_threads_that_begin_count_from_zero(self):
        self.assertEqual(proc.spent({(1, 1): 5, (1, 2): 9}, {(1, 1): 7, (1, 3): 4}), 6)

    def test_a_stranger_on_the_port_is_seen(self):
        listen = "import socket, sys; s = socket.create_server(('127.0.0.1', 0)); "
        listen += "print(s.getsockname()[1], flush=True); sys.stdin.read()"
        child = subprocess.Popen(
            [sys.executable, "-c", listen], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        self.addCleanup(child.wait)
        self.addCleanup(child.stdin.close)
        self.addCleanup(child.stdout.close)
        port = int(child.stdout.readline())
        self.assertEqual(proc.strangers(port, child.pid), 0)
        self.assertEqual(proc.strangers(port, 1 << 30), 1)

    def test_a_template_with_an_unfilled_hole_is_refused(self):
        with Stand() as stand, self.assertRaises(KeyError):
            stand.render("wrk.lua", "wrk.lua")

    def test_missing_tools_are_installed_or_asked_for(self):
        with tempfile.TemporaryDirectory() as folder, mock.patch.dict(os.environ, PATH=folder):
            with self.assertRaisesRegex(Failure, "please install: wrk"):
                tools.require("wrk")
            apt = f'#!/bin/sh\n[ "$1" = install ] && /bin/cp "$0" {folder}/"$4"\nexit 0\n'
            for name, text in (("apt-get", apt), ("sudo", '#!/bin/sh\nexec "$@"\n')):
                path = Path(folder) / name
                path.write_text(text, encoding="utf-8")
                path.chmod(0o755)
            tools.require("wrk")
            with self.assertRaisesRegex(Failure, "not found: h2load"):
                tools.require("h2load")

    def test_instruction_limits(self):
        counts = {"h1-public": (100.0, 90.0)}
        self.assertEqual(instructions.gate(counts, {"h1-public": 90}), 0)
        self.assertEqual(instructions.gate(counts, {"h1-public": 89}), 1)
        self.assertEqual(instructions.gate(counts, {"h2-public": 1000}), 1)

    def test_callgrind_totals(self):
        with tempfile.TemporaryDirectory() as folder:
            out = Path(folder) / "callgrind.out"
            self.assertIsNone(instructions.read_total(out))
            out.write_text("events: Ir\n5 5\n")
            self.assertIsNone(instructions.read_total(out))
            out.write_text("events: Ir\nsummary: 12\n5 5\n")
            self.assertEqual(instructions.read_total(out), 12)

    def test_h2load_redirects_are_problems(self):
        said = textwrap.dedent(
            """\
            Application protocol: h2
            finished in 1.00s, 90.00 req/s, 1MB/s
            requests: 100 total, 90 succeeded, 10 failed, 0 errored, 0 timeout
            status codes: 90 2xx, 10 3xx, 0 4xx, 0 5xx
            """
        )
        found = load.read_h2load(said, "h2")
        self.assertEqual(found.requests, 90)
        self.assertEqual(found.problems[0], "10 answers with 3xx")
        self.assertTrue(load.read_h2load(said, "http/1.1").problems[-1].startswith("the proxy did"))
        with self.assertRaises(Failure):
            load.read_h2load("connection refused", "h2")

    def test_wrk_errors_are_problems(self):
        said = 'RESULT {"requests":7,"micros":2000000,"connect":0,"read":0,"write":0,'
        said += '"status":3,"timeout":0}'
        found = load.read_wrk(said)
        self.assertEqual((found.requests, found.per_second), (7, 3.5))
        self.assertEqual(found.problems, ["3 status errors"])

    def test_the_ratio_is_the_median_of_pairs(self):
        pairs = [
            (report.Round(10.0, 100.0), report.Round(8.0, 110.0)),
            (report.Round(20.0, 100.0), report.Round(10.0, 130.0)),
            (report.Round(10.0, 100.0), report.Round(9.0, 90.0)),
        ]
        found = report.summary(pairs)
        self.assertEqual(found["ratio"], (0.8, 0.5, 0.9))
        self.assertEqual(found["rate"], 1.1)
        self.assertAlmostEqual(found["spread"], 0.5)
        self.assertIn("TOO NOISY", "\n".join(report.verdict({}, pairs)))

    def test_a_page_keeps_what_is_not_ours(self):
        with tempfile.TemporaryDirectory() as folder:
            page = Path(folder) / "docs" / "performance.md"
            report.save(page, "compare", "one")
            page.write_text(page.read_text() + "\nby hand\n")
            report.save(page, "instructions", "two")
            report.save(page, "compare", r"three \1")
            text = page.read_text()
        self.assertIn("by hand", text)
        self.assertIn("two", text)
        self.assertIn(r"three \1", text)
        self.assertNotIn("one", text)


if __name__ == "__main__":
    unittest.main()
