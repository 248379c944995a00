"""What a proxy and the app did between two moments, and whether it can be believed."""

import proc


class Watch:
    """Begins when it is made; `close` ends it and fills the figures in."""

    def __init__(self, site, contender):
        self.site = site
        self.contender = contender
        self.members = proc.tree(contender.pid)
        self.counters = site.app_counters()
        self.before = proc.run_time(contender.pid)

    def close(self, settle=True):
        """CPU time (`micros`), app connections opened (`opened`) and app answers (`answered`)."""
        if settle:
            proc.settle(self.contender.pid)
        # In the same order as at the beginning: under load, both windows move by the same time.
        counters = self.site.app_counters()
        after = proc.run_time(self.contender.pid)
        self.micros = proc.spent(self.before, after) / 1000
        # The question for the first counters is in the second ones.
        self.opened, self.answered = (
            now - earlier - 1 for now, earlier in zip(counters, self.counters)
        )
        self.same = proc.tree(self.contender.pid) == self.members
        return self

    def problems(self, requests):
        """Why a round with this many good answers must not count."""
        found = []
        if not self.same:
            found.append("its processes changed during the round")
        # Some clients do not count redirects as errors: what the app did not answer is no answer.
        if self.answered < requests:
            found.append(f"{requests} answers, but the app gave only {self.answered}")
        if requests == 0:
            found.append("no request was answered")
        return found
