"""Turns rounds into medians, spreads and ratios, and writes them down.

Pure arithmetic and text; the only file that it may touch is the page given to `save`.
"""

import re
from statistics import median

NOISY = 0.20
OURS = "portcullis"
_ROW = "{:<18}{:<15}{:>23}{:>19}{:>23}{:>19}{:>7}{:>7}{:>6}{:>7}"


def summary(rounds, figure, name):
    """Median and extremes of one contender's figure, and of its ratio to nginx in the same round.

    {"value": (median, low, high), "ratio": the same or None, "rounds": how many counted}; None
    without a clean round.
    """
    values = [taken[name][figure] for taken in rounds if name in taken]
    if not values:
        return None
    ratios = [
        taken[name][figure] / taken["nginx"][figure]
        for taken in rounds
        if name in taken and taken.get("nginx", {}).get(figure)
    ]
    return {
        "value": _middle(values),
        "ratio": _middle(ratios) if ratios else None,
        "rounds": len(values),
    }


def decisive(found, figure):
    """The number that the figure's limits are about, None when there is none."""
    middle = found and found["value" if figure.absolute else "ratio"]
    return middle[0] if middle else None


def grade(found, figure):
    """"goal", "yes" (at least), "NO", or "" when nothing is asked or nothing was measured."""
    number = decisive(found, figure)
    if figure.limits is None or number is None:
        return ""
    least, goal = figure.limits
    return "goal" if number <= goal else "yes" if number <= least else "NO"


def table(cases, results, asked):
    """The table as lines. `asked`: {case name: rounds that there should be}."""
    lines = [
        _ROW.format("", "", "nginx", "haproxy", OURS, OURS, "at", "", "", "clean"),
        _ROW.format(
            "case", "figure", "median (range)", "/ nginx", "median (range)", "/ nginx", "least",
            "goal", "met", "rounds",
        ),
    ]  # fmt: skip
    for case in cases:
        for figure in case.figures:
            lines.append(_line(case, figure, results[case.name], asked[case.name]).rstrip())
    return lines


def _line(case, figure, rounds, asked):
    base, other, ours = (
        summary(rounds, figure.name, name) for name in ("nginx", "haproxy", OURS)
    )
    least, goal = (f"{limit:g}" for limit in figure.limits) if figure.limits else ("", "")
    return _ROW.format(
        case.name if figure is case.figures[0] else "",
        figure.label,
        _range(base and base["value"], figure.digits),
        _range(other and other["ratio"], 2),
        _range(ours and ours["value"], figure.digits),
        _range(ours and ours["ratio"], 2),
        least,
        goal,
        grade(ours, figure),
        f"{ours['rounds'] if ours else 0}/{asked}",
    )


def verdict(cases, results, noise):
    """Sentences about how far the figures can be trusted. `noise`: nginx against itself."""
    said = []
    if noise:
        middle, low, high = summary(noise, "cpu", "again")["ratio"]
        spread = (high - low) / middle
        said.append(
            f"Noise: nginx against itself {middle:.2f}, over {spread:.0%} of the ratio "
            f"({low:.2f}..{high:.2f})."
        )
        if spread > NOISY:
            said.append(
                f"TOO NOISY (over {NOISY:.0%}): trust only differences larger than that, "
                "and instruction counts."
            )
    wide = []
    for case in cases:
        found = summary(results[case.name], case.figures[0].name, OURS)
        middle = found and (found["ratio"] or found["value"])
        if middle and (middle[2] - middle[1]) / middle[0] > NOISY:
            wide.append(f"{case.name} {(middle[2] - middle[1]) / middle[0]:.0%}")
    if wide:
        said.append(f"Wide range over the rounds (over {NOISY:.0%}): {', '.join(wide)}.")
    return said + _signing_in(results)


def _signing_in(results):
    said = []
    for protocol in ("h1", "h2"):
        ratios = [
            found["ratio"][0] if found and found["ratio"] else None
            for found in (
                summary(results.get(f"{protocol}-{kind}", []), "cpu", OURS)
                for kind in ("public", "signed-in")
            )
        ]
        if None not in ratios:
            more = ratios[1] / ratios[0] - 1
            said.append(
                f"Signed in against public, {protocol}: {more:+.0%} CPU "
                "(of the ratios to nginx; at least +10%, goal +5%)."
            )
    return said


def save(path, section, text):
    """Put `text` between the markers of `section` in a page, leaving the rest as it is."""
    begin, end = f"<!-- {section}: begin -->", f"<!-- {section}: end -->"
    block = f"{begin}\n{text.rstrip()}\n{end}"
    try:
        page = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        page = "# Performance\n"
    pattern = re.compile(re.escape(begin) + ".*?" + re.escape(end), re.DOTALL)
    if pattern.search(page):
        page = pattern.sub(lambda _: block, page)
    else:
        page = page.rstrip() + "\n\n" + block + "\n"
    path.parent.mkdir(exist_ok=True)
    path.write_text(page, encoding="utf-8")


def _middle(values):
    return median(values), min(values), max(values)


def _range(middle, digits):
    if not middle:
        return "-"
    value, low, high = (f"{number:.{digits}f}" for number in middle)
    return f"{value} ({low}..{high})"
