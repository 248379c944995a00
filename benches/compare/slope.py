"""Says whether figures grow faster than the logarithm of a size. Pure arithmetic."""

import math

# Growth below this share of the first figure is no growth, per kind of figure: how well it repeats.
FLOOR = {"instr": 0.03, "us": 0.25}


def judge(sizes, figures, unit):
    """"flat", "logarithmic" or "WORSE": how the figures follow the sizes.

    A figure that follows the logarithm gains the same with every doubling. Worse is one whose last
    gain per doubling is more than twice the gain before it, or, where there is only one step,
    more than a tenth of the figure per doubling.
    """
    floor = FLOOR[unit] * figures[0]
    if max(figures) - figures[0] <= floor:
        return "flat"
    slopes = [
        (after - before) / math.log2(large / small)
        for before, after, small, large in zip(figures, figures[1:], sizes, sizes[1:])
    ]
    last = slopes[-1]
    if figures[-1] - figures[-2] <= floor:
        return "logarithmic"
    before = max([*slopes[:-1], 0.0]) if len(slopes) > 1 else figures[0] / 20
    # A first step that was lost in the noise may have gained as much as the noise.
    if len(slopes) > 1:
        before = max(before, floor / math.log2(sizes[-2] / sizes[0]) / 2)
    return "WORSE" if last > 2 * before else "logarithmic"
