"""Interleaves rounds of all contenders, and throws those away that were not clean."""

import load
import proc
import verify
from cases import ALL
from contenders import Site
from stand import Failure

WORKERS = 2


class Bench:
    """One run: the app, the proxies, a session, and the problems seen so far."""

    def __init__(self, stand, binary, args, who=ALL):
        self.args = args
        self.problems = []
        self.remarks = []
        # What a case has found out beside its figures.
        self.notes = {}
        self.site = Site(stand, WORKERS)
        self.password = self.site.prepare_gateway(binary)
        starts = {
            "nginx": self.site.start_nginx,
            "haproxy": self.site.start_haproxy,
            "portcullis": lambda: self.site.start_gateway(binary),
        }
        started = [starts[name]() for name in who]
        self.contenders = {contender.name: contender for contender in started}
        self.cookie = self.site.login(self.password)
        for contender in started:
            verify.alone(contender)
        self.tls = {
            contender.name: verify.negotiated(self.site, contender) for contender in started
        }

    def measure(self, cases):
        """{case name: [{contender: figures}, one per round]}"""
        results = {}
        for case in cases:
            who = [self.contenders[name] for name in case.who]
            for contender in who:
                self.remark(verify.case(self.site, contender, case.request, self.cookie))
                self._warm_up(contender, case)
            results[case.name] = self._rounds(case, who)
        return results

    def noise(self, case):
        """nginx against itself: rounds as of `measure`, the second one as "again"."""
        nginx = self.contenders["nginx"]
        rounds = []
        for _ in range(self.args.pairs):
            first, second = self._round(nginx, case), self._round(nginx, case)
            if first and second:
                rounds.append({"nginx": first, "again": second})
        return rounds

    def remark(self, remarks):
        """Keep what makes the comparison less than exact, once."""
        self.remarks += [remark for remark in remarks if remark not in self.remarks]

    def _rounds(self, case, who):
        rounds = []
        total = self.rounds(case)
        for number in range(total):
            # Change who goes first, so that a drift of the machine favours nobody.
            order = who if number % 2 == 0 else who[::-1]
            taken = {contender.name: self._round(contender, case) for contender in order}
            rounds.append({name: figures for name, figures in taken.items() if figures})
            figure = case.figures[0]
            said = ", ".join(
                f"{name} {rounds[-1][name][figure.name]:.{figure.digits}f}"
                for name in case.who
                if name in rounds[-1]
            )
            print(f"{case.name} {number + 1}/{total}, {figure.label}: {said}", flush=True)
        return rounds

    def rounds(self, case):
        """How many rounds the case gets."""
        return min(self.args.pairs, case.most)

    def _warm_up(self, contender, case):
        done = load.run(self.site, case.request, self.cookie, contender.port, 1)
        if done.requests == 0:
            raise Failure(f"{case.name}, {contender.name}: no answer, {'; '.join(done.problems)}")
        proc.settle(contender.pid)
        if verify.log_lines(contender, 1) == 0:
            raise Failure(f"{contender.name} wrote no access log: the comparison would be unfair")

    def _round(self, contender, case):
        """The figures of one clean round; None when it was not (and why is kept)."""
        sample = case.take(self, contender)
        self.remark(sample.remarks)
        if case.logged:
            self._account_for_log(contender, sample.requests)
        if sample.problems:
            self.problems.append(f"{case.name}, {contender.name}: {'; '.join(sample.problems)}")
            print(f"INVALID ROUND {self.problems[-1]}", flush=True)
            return None
        return sample.figures

    def _account_for_log(self, contender, requests):
        lines = verify.log_lines(contender, requests)
        if lines < requests * 0.99:
            share = lines / requests
            self.remark([f"{contender.name} dropped access-log lines (a round kept {share:.0%})"])
