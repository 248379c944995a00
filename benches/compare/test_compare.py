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
from xml.etree import ElementTree

import callgrind
import cases
import chart
import load
import paced
import proc
import report
import run
import slope
import syscalls
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
  split_clients "$request_id" $unlucky { 10% 1; * 0; }
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
            self.assertRegex(said, case + r" +CPU us/req +[\d.]+ \(.*1/1")

    def test_an_honest_gateway_passes_the_other_cases(self):
        names = ("rate-h2", "handshake-resumed", "download", "memory", "start", "storm")
        more = [option for name in names[1:] for option in ("--case", name)]
        few = ("--handshakes", "40", "--connections", "40", "--rate", "200")
        child = self.start(names[0], "--pairs", "1", "--seconds", "1", *few, *more)
        said, _ = child.communicate(timeout=300)
        self.assert_nothing_left()
        self.assertEqual(child.returncode, 0, said)
        for name in names:
            self.assertRegex(said, rf"(?m)^{name} +\S.* 1/1$")

    def test_failures_on_new_connections_make_a_round_invalid(self):
        fault = "if ($unlucky) { return 503; } if ($known = 0) { return 401; }"
        code, said = self.run_case("handshake-full", PROTECTED=fault)
        self.assertEqual(code, 1, said)
        self.assertRegex(said, "INVALID ROUND .*503|expected 200|no echo")

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
            # One request in ten may also hit the checks before the round.
            self.assertRegex(said, "INVALID ROUND|expected 200|no echo")

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

    def test_the_ratio_is_the_median_of_rounds(self):
        rounds = [
            {"nginx": {"cpu": 10.0}, "portcullis": {"cpu": 8.0}, "haproxy": {"cpu": 10.0}},
            {"nginx": {"cpu": 20.0}, "portcullis": {"cpu": 10.0}},
            {"nginx": {"cpu": 10.0}, "portcullis": {"cpu": 9.0}},
            # nginx's round was not clean: a value, and no ratio.
            {"portcullis": {"cpu": 30.0}},
        ]
        found = report.summary(rounds, "cpu", "portcullis")
        self.assertEqual(found["ratio"], (0.8, 0.5, 0.9))
        self.assertEqual((found["value"], found["rounds"]), ((9.5, 8.0, 30.0), 4))
        self.assertEqual(report.summary(rounds, "cpu", "haproxy")["rounds"], 1)
        self.assertIsNone(report.summary([{}], "cpu", "portcullis"))

    def test_noise_and_the_price_of_signing_in_are_told(self):
        noise = [{"nginx": {"cpu": 10.0}, "again": {"cpu": 8.0 + n}} for n in range(5)]
        results = {
            "h1-public": [{"nginx": {"cpu": 10.0}, "portcullis": {"cpu": 5.0}}],
            "h1-signed-in": [{"nginx": {"cpu": 10.0}, "portcullis": {"cpu": 6.0}}],
        }
        picked = [case for case in cases.CASES if case.name in results]
        said = "\n".join(report.verdict(picked, results, noise))
        self.assertIn("TOO NOISY", said)
        self.assertIn("h1: +20% CPU", said)

    def test_limits_are_graded(self):
        ratio = cases.Figure("cpu", "", limits=(0.85, 0.7))
        found = {"value": (90.0, 0, 0), "ratio": (0.8, 0, 0)}
        self.assertEqual(report.grade(found, ratio), "yes")
        self.assertEqual(report.grade({**found, "ratio": (0.7, 0, 0)}, ratio), "goal")
        self.assertEqual(report.grade({**found, "ratio": (0.9, 0, 0)}, ratio), "NO")
        self.assertEqual(report.grade({**found, "ratio": None}, ratio), "")
        self.assertEqual(report.grade(None, ratio), "")
        self.assertEqual(report.grade(found, cases.Figure("cpu", "")), "")
        self.assertEqual(
            report.grade(found, cases.Figure("start", "", limits=(100, 30), absolute=True)), "yes"
        )

    def test_a_table_has_a_line_for_every_figure(self):
        picked = [case for case in cases.CASES if case.name in ("rate-h1", "storm")]
        taken = {"cpu": 60.0, "p50": 200.0, "p99": 900.0}
        results = {
            "rate-h1": [{"nginx": taken, "portcullis": {**taken, "cpu": 45.0}}],
            "storm": [],
        }
        lines = report.table(picked, results, {"rate-h1": 1, "storm": 3})
        self.assertEqual(len(lines), 2 + 3 + 1)
        self.assertRegex(lines[2], r"^rate-h1 .* 0\.75 \(0\.75\.\.0\.75\) .* goal +1/1$")
        self.assertRegex(lines[5], r"^storm .* 0/3$")

    def test_latencies_come_from_the_window_only(self):
        log = "1000000\t200\t500\n2000000\t200\t1500\n3000000\t200\t700\n2500000\t20"
        self.assertEqual(paced.latencies(log, 1.5, 3.0), [1.5])
        with self.assertRaises(Failure):
            paced.latencies("1000000\t503\t500\n", 0, 9)
        self.assertEqual(paced.percentile([3.0, 1.0, 2.0], 0.5), 2.0)
        self.assertEqual(paced.percentile(list(range(1, 201)), 0.99), 198)

    def test_bodies_are_counted(self):
        said = textwrap.dedent(
            """\
            Application protocol: http/1.1
            finished in 1.00s, 8.00 req/s, 80.0MB/s
            requests: 8 total, 8 started, 8 done, 8 succeeded, 0 failed, 0 errored, 0 timeout
            status codes: 8 2xx, 0 3xx, 0 4xx, 0 5xx
            traffic: 80.00MB (83887000) total, 912B (912) headers (space savings 0.00%), 80.00MB (83886080) data
            """
        )
        self.assertEqual(load.read_h2load(said, "http/1.1").body, 83886080)

    def test_system_calls_are_counted(self):
        said = textwrap.dedent(
            """\
            % time     seconds  usecs/call     calls    errors syscall
            ------ ----------- ----------- --------- --------- ------------------
             51.28    0.018113           4      4004           writev
             48.72    0.000100           4      1200        31 epoll_wait
            ------ ----------- ----------- --------- --------- ------------------
            100.00    0.018213           4      5204        31 total
            """
        )
        self.assertEqual(syscalls.read_counts(said), {"writev": 4004, "epoll_wait": 1200})

    def test_growth_is_judged(self):
        sizes = [1, 10, 100]
        self.assertEqual(slope.judge(sizes, [1000, 1010, 1005], "instr"), "flat")
        self.assertEqual(slope.judge(sizes, [1000, 1200, 1400], "instr"), "logarithmic")
        self.assertEqual(slope.judge(sizes, [1000, 1200, 3200], "instr"), "WORSE")
        # Linear with a small first step is linear all the same.
        self.assertEqual(slope.judge(sizes, [1000, 1010, 2000], "instr"), "WORSE")
        self.assertEqual(slope.judge(sizes, [1000, 1500, 1510], "instr"), "logarithmic")
        self.assertEqual(slope.judge([1, 2], [40.0, 44.0], "us"), "flat")
        self.assertEqual(slope.judge([1, 2], [40.0, 80.0], "us"), "WORSE")

    def test_callgrind_dumps(self):
        self.assertEqual(callgrind.read_total("events: Ir\ntotals: 77\n"), 77)
        self.assertIsNone(callgrind.read_total("events: Ir\n"))

    def test_a_chart_is_well_formed_and_cuts_what_is_too_long(self):
        rows = [chart.Bars("a <b>", (0.5, 1.0), 0.7), chart.Bars("c", (9.0, None))]
        root = ElementTree.fromstring(chart.draw("a & b", "ratio", ("x", "y"), rows, most=2.5))
        bars = [bar for bar in root.iter() if bar.get("class") in ("s0", "s1") and bar.get("height") == "9"]
        self.assertEqual(len(bars), 3)
        for bar in bars:
            self.assertLessEqual(float(bar.get("x")) + float(bar.get("width")), 760)

    def test_goals_become_marks_of_the_chart(self):
        picked = [case for case in cases.CASES if case.name in ("h1-signed-in", "memory", "storm")]
        both = {"cpu": 10.0, "rate": 1.0}
        results = {
            "h1-signed-in": [{"nginx": both, "portcullis": both}],
            "memory": [{"nginx": {"memory": 10.0}, "portcullis": {"memory": 20.0}}],
            "storm": [{"portcullis": {"p99": 1.2}}],
        }
        drawn = run.picture(picked, results)
        self.assertIn(">h1-signed-in<", drawn)
        self.assertIn(">memory<", drawn)
        self.assertNotIn("storm", drawn)
        self.assertEqual(drawn.count('class="goal"'), 2)

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
