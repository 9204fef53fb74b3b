"""What somebody wants of a front, in the language of budgets, and what the study answers: a pick and its neighbours.

Knows: limits as they are typed, the rows of a study and their confirmation. Does not know: SQL, terminals, models;
nothing is computed anew but differences.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from layersearch.errors import StudyError, WordsError
from layersearch.search.divergence import came_to_nothing
from layersearch.search.fronts import fronts
from layersearch.search.objectives import Limit
from layersearch.search.quality import error_of

if TYPE_CHECKING:
    from layersearch.search.record import Record
    from layersearch.search.trials import Row

NANOSECONDS = 1e6  # of a millisecond


@dataclass(frozen=True)
class Wish:
    """What a candidate shall keep to. With `knee` the pick is where the front bends most."""

    max_params: Limit | None = None
    max_drop: Limit | None = None
    max_latency: Limit | None = None
    knee: bool = False

    @property
    def limits(self) -> tuple[Limit, ...]:
        """The limits that were set."""
        return tuple(limit for limit in (self.max_params, self.max_drop, self.max_latency) if limit is not None)


@dataclass(frozen=True)
class Member:
    """A candidate with the score that counts, and what it costs; `drop` is what it loses of the unchanged score.

    `latency` is in milliseconds for a batch of one, None where it was not measured.
    """

    row: Row
    score: float
    drop: float
    share: float
    latency: float | None

    @property
    def parameters(self) -> int:
        """Its parameters."""
        return self.row.parameters or 0


@dataclass(frozen=True)
class Answer:
    """What the study says. Without a `pick` nothing fits, and `nearest` misses what `misses` tells.

    `larger` and `smaller` are the next points of the front on either side of the pick. The scores are `confirmed` or
    those of the search. `left_out` are the trials that would fit, but came to nothing (`divergence.py`).
    """

    confirmed: bool
    unchanged: Member
    pick: Member | None = None
    runner_up: Member | None = None
    larger: Member | None = None
    smaller: Member | None = None
    nearest: Member | None = None
    misses: tuple[str, ...] = ()
    left_out: tuple[int, ...] = ()


def best(record: Record, wish: Wish) -> Answer:
    """The candidate of the front that a wish asks for, what comes next to it, or what comes nearest.

    Of what fits, the pick has the best score; with `max_drop`, which says what may be lost, the fewest parameters; with
    `knee` it lies farthest above the straight line between the smallest and the largest (Satopää et al., "Finding a
    Kneedle in a Haystack", ICDCS workshops 2011). What is over the study's own limits is never picked, nor is what came
    to nothing, but for the unchanged model. Scores are the confirmed ones where all of the front and the unchanged
    model are confirmed, else those of the search. Raises StudyError where the study cannot tell.
    """
    members = _members(record)
    unchanged = next((m for m in members if m.row.pattern == record.unchanged), None)
    if unchanged is None:
        raise StudyError(
            f"study {record.name!r} has no score of the unchanged model to compare with; continue it with "
            "`layersearch run`"
        )
    _require_latency(record, wish, members)
    _require_drop(record, wish, unchanged)
    confirmed = _all_confirmed(record)
    members = [member for member in members if member.row.allowed]
    if not members:
        limits = record.purpose.values.get("limits")
        raise StudyError(
            f"study {record.name!r} has no candidate that keeps its own limits ({limits}); continue it with "
            "`layersearch run --trials`"
        )
    over = {member.row.number: _over(member, unchanged, wish, _point(record, unchanged)) for member in members}
    lost = [member for member in members if member != unchanged and _came_to_nothing(record, member.row)]
    left_out = tuple(member.row.number for member in lost if not over[member.row.number])
    members = [member for member in members if member not in lost]
    if not members:
        raise StudyError(
            f"of study {record.name!r} all candidates that keep its own limits diverged; train longer (--epochs) or "
            "with another --lr, under a new --study"
        )
    fitting = [member for member in members if not over[member.row.number]]
    if not fitting:
        nearest = min(members, key=lambda member: max(over[member.row.number].values()))
        misses = tuple(_missed(limit, nearest) for limit in wish.limits if limit.of in over[nearest.row.number])
        return Answer(confirmed, unchanged, nearest=nearest, misses=misses, left_out=left_out)
    pick, *others = sorted(fitting, key=_order(record, wish, members))
    front = _undominated(record, members)
    larger = [member for member in front if member.parameters > pick.parameters]
    smaller = [member for member in front if member.parameters < pick.parameters]
    return Answer(
        confirmed,
        unchanged,
        pick,
        others[0] if others else None,
        larger[-1] if larger else None,
        smaller[0] if smaller else None,
        left_out=left_out,
    )


def to_export(record: Record) -> Member | None:
    """What to export of a front: what `best` picks at its knee, or the runner-up to the unchanged model.

    None where there is none. Raises as `best` does.
    """
    answer = best(record, Wish(knee=True))
    return next((m for m in (answer.pick, answer.runner_up) if m and m.row.pattern != record.unchanged), None)


def _came_to_nothing(record: Record, row: Row) -> bool:
    return came_to_nothing(row, record.divergences.get(row.pattern), record.purpose.direction)


def _all_confirmed(record: Record) -> bool:
    return bool(record.confirmed) and all(row.pattern in record.confirmed for row in record.shown())


def _members(record: Record) -> list[Member]:
    """The front and the unchanged model, largest first."""
    confirmed, direction = _all_confirmed(record), record.purpose.direction

    def score(row: Row) -> float:
        return record.confirmed[row.pattern].mean if confirmed else (row.score or 0.0)

    baseline = record.baseline
    full = None if baseline is None else error_of(score(baseline), direction)
    return [
        Member(
            row,
            score(row),
            0.0 if full is None else error_of(score(row), direction) - full,
            (row.parameters or 0) / record.parameters,
            record.latency(row),
        )
        for row in record.shown()
    ]


def _require_latency(record: Record, wish: Wish, members: Sequence[Member]) -> None:
    limit = wish.max_latency
    if limit is None:
        return
    if all(member.latency is None for member in members):
        raise StudyError(
            f"{limit.option} cannot be answered: no latency was measured in study {record.name!r}; "
            f"`layersearch time {record.name}` does"
        )
    if limit.is_share and not any(m.latency for m in members if m.row.pattern == record.unchanged):
        raise StudyError(
            f"{limit.option} cannot be answered: the latency of the unchanged model was not measured; give milliseconds"
        )


def _require_drop(record: Record, wish: Wish, unchanged: Member) -> None:
    """Refuse a bare number that is all of a score between 0 and 1: most who type 1 mean a point."""
    limit = wish.max_drop
    if limit is None or limit.is_share or "pt" in limit.text or limit.number < 1:
        return
    if record.purpose.direction == "maximize" and unchanged.score <= 1:
        raise WordsError(
            f"{limit.option} lets the score fall by more than there is: {record.purpose.metric} is 1 at most; allowed: "
            f"points ({limit.text}pt is {limit.number / 100:g}), a share ({limit.text}%), or a number below 1"
        )


def _point(record: Record, unchanged: Member) -> float:
    """What a point of the score is: 1 of a metric in percent, 0.01 of any other."""
    return 1.0 if record.purpose.direction == "maximize" and 1 < unchanged.score <= 100 else 0.01


def _over(member: Member, unchanged: Member, wish: Wish, point: float) -> dict[str, float]:
    """By what is limited, how far a member is over it, as a share of the limit; limits that it keeps are left out."""
    found: dict[str, float] = {}
    if wish.max_params is not None:
        found["parameters"] = _share_over(member.parameters, wish.max_params.bound(unchanged.parameters))
    if wish.max_drop is not None:
        scale = abs(unchanged.score)
        bound = wish.max_drop.bound(scale) * (100 * point if "pt" in wish.max_drop.text else 1)
        found["drop"] = (member.drop - bound) / max(bound, point)
    if wish.max_latency is not None:
        bound = wish.max_latency.bound(NANOSECONDS * (unchanged.latency or 0.0)) / NANOSECONDS
        found["latency"] = float("inf") if member.latency is None else _share_over(member.latency, bound)
    return {option: by for option, by in found.items() if by > 1e-9}


def _share_over(value: float, bound: float) -> float:
    return (value - bound) / (bound or 1.0)


def _missed(limit: Limit, member: Member) -> str:
    has = {
        "parameters": f"{member.share:.1%} of the parameters ({member.parameters:,})",
        "drop": f"a score {member.drop:.4f} worse than the unchanged model's",
        "latency": "no measured latency" if member.latency is None else f"{member.latency:.3g} ms",
    }
    return f"it has {has[limit.of]} ({limit.option}{_percent_forgotten(limit)})"


def _percent_forgotten(limit: Limit) -> str:
    """What most mean who allow 100 parameters or fewer, or a part of one."""
    if limit.of != "parameters" or limit.is_share or limit.number > 100:
        return ""
    share = limit.number if limit.number >= 1 else 100 * limit.number
    return f" counts parameters; did you mean {share:g}%?"


def _order(record: Record, wish: Wish, members: Sequence[Member]) -> Callable[[Member], tuple[float, float]]:
    """What a better member has less of; the front of all `members` is what bends."""
    if wish.knee:
        bends = _bends(record, members)
        return lambda member: (-bends.get(member.row.number, -1.0), member.drop)
    if wish.max_drop is not None:
        return lambda member: (member.parameters, member.drop)
    return lambda member: (member.drop, member.parameters)


def _undominated(record: Record, members: Sequence[Member]) -> list[Member]:
    """The members that none beats by the scores that count, largest first."""
    points = [(-error_of(m.score, record.purpose.direction), float(m.parameters)) for m in members]
    return [members[place] for front in fronts(points)[:1] for place in front]


def _bends(record: Record, members: Sequence[Member]) -> dict[int, float]:
    """How far each member lies above the line between the smallest and the largest, with both sides scaled to 1."""
    front = _undominated(record, members)
    large, small = front[0], front[-1]
    width, height = large.share - small.share, small.drop - large.drop
    return {
        m.row.number: (small.drop - m.drop) / (height or 1.0) - (m.share - small.share) / (width or 1.0) for m in front
    }
