"""What issue 3 asks of a search, beside what the curves say.

Knows: the figures asked for, by the names of methods. Does not know: where curves come from.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from statistics import median
from typing import Any

from .courses import Method, above_from, times_as_much
from .volumes import at_costs

ONE_SHOT, DISTILL, HALVING, FULL = "one-shot", "distill", "halving", "layersearch, each fine-tuned"


def claims(methods: Sequence[Method]) -> list[dict[str, Any]]:
    """A line a claim and task, for every task that has what the claim is about."""
    found = []
    for task in dict.fromkeys(method.task for method in methods):
        named = {method.name: method for method in methods if method.task == task}
        for claim, measured, reached in _of_task(named):
            words = {True: "yes", False: "no", None: "too few runs to say"}
            found.append({"task": task, "asked": claim, "measured": measured, "reached": words[reached]})
    return found


def _of_task(named: dict[str, Method]) -> Iterator[tuple[str, str, bool | None]]:
    stock = [method for name, method in named.items() if name.startswith("stock")]
    if (one_shot := named.get(ONE_SHOT)) is not None:
        yield from _alone(one_shot)
        if DISTILL in named:
            end, work = _over(one_shot, named[DISTILL], "volumes"), _over(one_shot, named[DISTILL], "works")
            asked = "0.97 of the hypervolume of per-candidate distillation at a fifth of its work"
            yield asked, f"{end:.2f} at {work:.2f}", end >= 0.97 and work <= 0.2
        for other in stock:
            since, seconds = above_from(one_shot, other, "works"), above_from(one_shot, other, "seconds")
            first = "ends below"
            if since is not None and seconds is not None:
                first = f"from {since:.1f} fine-tunings ({seconds / 60:.1f} minutes) on"
            yield f"never below {other.name}", first, since is not None and since <= _start(other)
            times = times_as_much(one_shot, other, "seconds")
            asked = f"{other.name} needs 4 times the time for what it reaches"
            yield asked, "nothing reached" if times is None else f"{times:.1f} times", (times or 0) >= 4
    if HALVING in named and FULL in named:
        times = times_as_much(named[HALVING], named[FULL], "works")
        asked = "halving alone: at most half of the work of full fine-tuning at equal hypervolume"
        yield asked, "nothing reached" if times is None else f"{1 / times:.2f} of it", (times or 0) >= 2


def _alone(one_shot: Method) -> Iterator[tuple[str, str, bool | None]]:
    at_5 = median(at_costs(curve.works, curve.volumes, [5.0])[0] for curve in one_shot.curves)
    yield "1.45 of the exhaustive front for 5 fine-tunings' work", f"{at_5:.2f}", at_5 >= 1.45
    ends = [curve.volumes[-1] for curve in one_shot.curves]
    broken = sum(end < 1 for end in ends)
    asked = "no collapsed run in 20 (here: none below the exhaustive front)"
    yield (
        asked,
        f"{broken} of {len(ends)}; worst {min(ends):.2f}",
        False if broken else True if len(ends) >= 20 else None,
    )


def _over(one: Method, other: Method, what: str) -> float:
    """The medians of what the runs end with, divided."""
    mine, theirs = (median(getattr(curve, what)[-1] for curve in method.curves) for method in (one, other))
    return mine / theirs


def _start(method: Method) -> float:
    """The least work after which a run has any hypervolume."""
    points = ((w, v) for curve in method.curves for w, v in zip(curve.works, curve.volumes, strict=True))
    return min(work for work, volume in points if volume > 0)
