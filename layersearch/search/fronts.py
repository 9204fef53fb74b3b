"""Objectives, the first good when large and the others when small: fronts behind fronts, and parts that span them.

Knows: points, two numbers or more each. Does not know: trials, patterns, what the numbers mean.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence

Point = Sequence[float]  # good when large, good when small, ...


def fronts(points: Sequence[Point]) -> list[list[int]]:
    """Places of `points` by non-dominated front, the best front first.

    Within a front the largest size comes first. Of equal points only the first is on a front, the next on the one
    behind it. Takes n log n steps: with two objectives a point belongs to the first front whose best so far it beats
    (Jensen, IEEE Transactions on Evolutionary Computation 7(5), 2003); with more of them n² at most, one front after
    another.
    """
    if points and len(points[0]) > 2:
        return _peeled(points)
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


def _peeled(points: Sequence[Point]) -> list[list[int]]:
    """`fronts` of any number of objectives. What comes later in this order cannot beat what came before."""
    order = sorted(range(len(points)), key=lambda place: (*points[place][1:], -points[place][0], place))
    found: list[list[int]] = []
    for place in order:
        behind = (
            n for n, front in enumerate(found) if not any(_covers(points[other], points[place]) for other in front)
        )
        front = next(behind, len(found))
        if front == len(found):
            found.append([])
        found[front].append(place)
    return [front[::-1] for front in found]


def _covers(one: Point, other: Point) -> bool:
    """Whether `one` is at least as good as `other` in everything."""
    return one[0] >= other[0] and all(mine <= its for mine, its in zip(one[1:], other[1:], strict=True))


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


def ranked(points: Sequence[Point]) -> list[int]:
    """Places of `points`, the best first: by front, and within each as `spread` has them."""
    return [place for front in fronts(points) for place in spread(front)]


def thinned(points: Sequence[Point]) -> list[int]:
    """Places of the `points` of a front in the order in which they are best done without.

    Each time the one goes whose neighbours lie nearest to each other, by the crowding distance of NSGA-II (Deb et al.,
    IEEE Transactions on Evolutionary Computation 6(2), 2002), counted anew among those that are left. The ends of the
    front are the last two; of them the one that is good when small stays longer.
    """
    left, gone = list(range(len(points))), []
    while left:
        crowding = _crowding([points[place] for place in left])
        next_one = min(range(len(left)), key=lambda n: (crowding[n], [-size for size in points[left[n]][1:]]))
        gone.append(left.pop(next_one))
    return gone


def _crowding(points: Sequence[Point]) -> list[float]:
    found = [0.0] * len(points)
    for axis in range(len(points[0])):
        order = sorted(range(len(points)), key=lambda place: points[place][axis])
        width = points[order[-1]][axis] - points[order[0]][axis] or 1.0
        found[order[0]] = found[order[-1]] = float("inf")
        for before, place, after in zip(order, order[1:], order[2:], strict=False):
            found[place] += (points[after][axis] - points[before][axis]) / width
    return found
