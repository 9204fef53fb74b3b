"""Two objectives, one good when large and one when small: fronts behind fronts, and parts that span them.

Knows: pairs of numbers. Does not know: trials, patterns, what the numbers mean.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence


def fronts(points: Sequence[tuple[float, float]]) -> list[list[int]]:
    """Places of `points` (good when large, good when small) by non-dominated front, the best front first.

    Within a front the largest size comes first. Of equal points only the first is on a front, the next on the one
    behind it. Takes n log n steps: with two objectives a point belongs to the first front whose best so far it beats
    (Jensen, IEEE Transactions on Evolutionary Computation 7(5), 2003).
    """
    found: list[list[int]] = []
    best: list[float] = []  # of each front so far, negated; it rises from front to front
    for place in sorted(range(len(points)), key=lambda place: (points[place][1], -points[place][0], place)):
        front = bisect_right(best, -points[place][0])
        if front == len(found):
            found.append([])
            best.append(0.0)
        found[front].append(place)
        best[front] = -points[place][0]
    return [front[::-1] for front in found]


def spread(front: Sequence[int]) -> list[int]:
    """The first, the last, then the middles of what lies between, so that any number of them covers the front."""
    places = dict.fromkeys((0, len(front) - 1))
    between = [(0, len(front) - 1)]
    for low, high in between:
        if high - low > 1:
            middle = (low + high) // 2
            places[middle] = None
            between += [(low, middle), (middle, high)]
    return [front[place] for place in places]


def ranked(points: Sequence[tuple[float, float]]) -> list[int]:
    """Places of `points`, the best first: by front, and within each as `spread` has them."""
    return [place for front in fronts(points) for place in spread(front)]
