"""Draws a bar chart as SVG, for light and dark pages. Pure text: it knows no cases."""

from dataclasses import dataclass
from html import escape

_WIDTH, _LEFT, _RIGHT, _BAR, _GAP, _HEAD, _FOOT = 760, 190, 60, 11, 12, 58, 34
_STYLE = """
  svg { font: 12px system-ui, sans-serif; }
  .back { fill: #ffffff; } text { fill: #24292f; } .soft { fill: #57606a; }
  .line { stroke: #8c959f; } .grid { stroke: #d8dee4; } .goal { stroke: #cf222e; stroke-width: 2; }
  .s0 { fill: #0969da; } .s1 { fill: #9a9fa6; } .s2 { fill: #1a7f37; } .s3 { fill: #9a6700; }
  @media (prefers-color-scheme: dark) {
    .back { fill: #0d1117; } text { fill: #e6edf3; } .soft { fill: #9198a1; }
    .line { stroke: #6e7681; } .grid { stroke: #30363d; } .goal { stroke: #ff7b72; }
    .s0 { fill: #4493f8; } .s1 { fill: #6e7681; } .s2 { fill: #3fb950; } .s3 { fill: #d29922; }
  }
"""


@dataclass
class Bars:
    """One row: a bar for each series (None: no bar), and where the goal lies, if there is one."""

    label: str
    values: tuple
    goal: float | None = None


def draw(title, unit, series, rows, most=None):
    """The chart as text. `most`: where longer bars are cut, with their number beside them."""
    numbers = [value for row in rows for value in (*row.values, row.goal) if value is not None]
    most = min(max(numbers, default=1.0) * 1.05, most or float("inf"))
    scale = (_WIDTH - _LEFT - _RIGHT) / most
    each = len(series) * _BAR + _GAP
    height = _HEAD + each * len(rows) + _FOOT
    out = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}" '
        f'width="{_WIDTH}" height="{height}" role="img" aria-label="{escape(title)}">',
        f"<style>{_STYLE}</style>",
        f'<rect class="back" width="{_WIDTH}" height="{height}"/>',
        f'<text x="12" y="22" font-weight="600">{escape(title)}</text>',
        *_legend(series, any(row.goal is not None for row in rows)),
        *_grid(most, scale, height, unit),
    ]
    for number, row in enumerate(rows):
        out += _row(row, _HEAD + number * each, scale, most)
    return "\n".join([*out, "</svg>", ""])


def _legend(series, goals):
    out, x = [], 12
    for number, name in enumerate(series):
        out.append(f'<rect class="s{number}" x="{x}" y="34" width="11" height="11"/>')
        out.append(f'<text x="{x + 16}" y="44">{escape(name)}</text>')
        x += 40 + 7 * len(name)
    if goals:
        out.append(f'<line class="goal" x1="{x}" y1="33" x2="{x}" y2="46"/>')
        out.append(f'<text x="{x + 8}" y="44">goal</text>')
    return out


def _grid(most, scale, height, unit):
    step = next(step for step in (0.1, 0.25, 0.5, 1, 2, 5, 10, 25, 50, 1e9) if most / step <= 10)
    out, number = [], 0
    bottom = height - _FOOT
    while number * step <= most:
        x = _LEFT + number * step * scale
        kind = "line" if number * step in (0, 1) else "grid"
        out.append(
            f'<line class="{kind}" x1="{x:.1f}" y1="{_HEAD - 6}" x2="{x:.1f}" y2="{bottom}"/>'
        )
        out.append(
            f'<text class="soft" x="{x:.1f}" y="{bottom + 14}" text-anchor="middle">'
            f"{number * step:g}</text>"
        )
        number += 1
    out.append(
        f'<text class="soft" x="{_WIDTH - 12}" y="{height - 6}" text-anchor="end">'
        f"{escape(unit)}</text>"
    )
    return out


def _row(row, top, scale, most):
    tall = len(row.values) * _BAR
    out = [
        f'<text x="{_LEFT - 8}" y="{top + tall / 2 + 4:.1f}" text-anchor="end">'
        f"{escape(row.label)}</text>"
    ]
    for number, value in enumerate(row.values):
        if value is None:
            continue
        long = min(value, most) * scale
        y = top + number * _BAR
        out.append(
            f'<rect class="s{number}" x="{_LEFT}" y="{y}" width="{long:.1f}" height="{_BAR - 2}"/>'
        )
        out.append(
            f'<text class="soft" font-size="10" x="{_LEFT + long + 4:.1f}" y="{y + 9}">'
            f"{value:.2f}</text>"
        )
    if row.goal is not None and row.goal <= most:
        x = _LEFT + row.goal * scale
        out.append(
            f'<line class="goal" x1="{x:.1f}" y1="{top - 3}" x2="{x:.1f}" y2="{top + tall + 1}"/>'
        )
    return out
