"""Turns rounds into medians, spreads and ratios, and writes them down.

Pure arithmetic and text; the only file that it may touch is the page given to `save`.
"""

import re
from dataclasses import dataclass
from statistics import median

NOISY = 0.20


@dataclass
class Round:
    """One measured load on one proxy: CPU microseconds per request and requests per second."""

    micros: float
    per_second: float


def summary(pairs):
    """Medians, extremes and ratios of [(base, other)] rounds."""
    ratios = [other.micros / base.micros for base, other in pairs]
    return {
        "base": _middle([base.micros for base, _ in pairs]),
        "other": _middle([other.micros for _, other in pairs]),
        "ratio": _middle(ratios),
        "rate": median(other.per_second / base.per_second for base, other in pairs),
        "spread": (max(ratios) - min(ratios)) / median(ratios),
        "pairs": len(pairs),
    }


def table(results, noise, asked):
    """The table as lines. `results`: {case name: pairs}; `noise`: pairs of nginx with itself."""
    row = "{:<15}{:>23}{:>23}{:>21}{:>8}{:>8}"
    lines = [
        row.format("", "nginx", "portcullis", "CPU ratio", "req/s", "valid"),
        row.format("case", "us/req (range)", "us/req (range)", "(range)", "ratio", "pairs"),
    ]
    entries = [(name, pairs) for name, pairs in results.items()]
    if noise:
        entries.append(("nginx = nginx", noise))
    for name, pairs in entries:
        if not pairs:
            lines.append(row.format(name, "-", "-", "-", "-", f"0/{asked}"))
            continue
        found = summary(pairs)
        lines.append(
            row.format(
                name,
                _range(found["base"], 1),
                _range(found["other"], 1),
                _range(found["ratio"], 2),
                f"{found['rate']:.2f}",
                f"{found['pairs']}/{asked}",
            )
        )
    return lines


def verdict(results, noise):
    """Sentences about how far the figures can be trusted."""
    said = []
    if noise:
        spread = summary(noise)["spread"]
        said.append(f"Noise: nginx against itself spreads over {spread:.0%} of its ratio.")
        if spread > NOISY:
            said.append(
                f"TOO NOISY (over {NOISY:.0%}): trust only differences larger than that, "
                "and instruction counts."
            )
    wide = [
        f"{name} {summary(pairs)['spread']:.0%}"
        for name, pairs in results.items()
        if pairs and summary(pairs)["spread"] > NOISY
    ]
    if wide:
        said.append(f"Wide range of pair ratios (over {NOISY:.0%}): {', '.join(wide)}.")
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
    value, low, high = (f"{number:.{digits}f}" for number in middle)
    return f"{value} ({low}..{high})"
