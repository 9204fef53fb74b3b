"""Two studies side by side: hypervolume of their fronts, what both found, and how one's front does in the other.

Knows: records of studies, how far their scores can be trusted. Does not know: SQL, terminals, pictures.
"""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from statistics import fmean

from layersearch.errors import StudyError
from layersearch.search.quality import Point, error_of, hypervolume, point_of, reference_of
from layersearch.search.record import Record
from layersearch.search.trials import HALF_WIDTH, Row

DRAWS = 2000


@dataclass(frozen=True)
class Carried:
    """The front of one study in the other: its patterns, how many the other tried, and their share of its hypervolume.

    `share` is at the other's scores; None where the other's own front has no hypervolume.
    """

    patterns: int
    tried: int
    share: float | None


@dataclass(frozen=True)
class Comparison:
    """Two studies, first and second; `difference` is the second's hypervolume less the first's.

    `interval` (95 %) says what the difference may be if the same two fronts were scored again (`confirmed`: with other
    seeds, else on as many other examples); None where nothing is known of that. It does not say what another search
    would have found. `differ` names what was asked differently, with both answers.
    """

    first: Record
    second: Record
    confirmed: bool
    volumes: tuple[float, float]
    interval: tuple[float, float] | None
    common: tuple[str, ...]
    carried: tuple[Carried, Carried]
    differ: dict[str, tuple[object, object]] = field(default_factory=dict)

    @property
    def difference(self) -> float:
        """The second's hypervolume less the first's."""
        return self.volumes[1] - self.volumes[0]


def compare(first: Record, second: Record) -> Comparison:
    """Compare two studies of one metric and as many layers. Raises StudyError for others, and for one without a front.

    Hypervolume is over score and share of layer parameters, from the worst score of either study on. Scores are the
    confirmed ones where both fronts are confirmed with two seeds or more, else those of the search.
    """
    _require_alike(first, second)
    studies = (first, second)
    reference = reference_of(*((study.rows, study.purpose.direction, _layers(study)) for study in studies))
    confirmed = all(_is_confirmed(study) for study in studies)
    fronts = [_scored(study, confirmed=confirmed) for study in studies]
    if confirmed:  # a confirmed score may be worse than all that the searches saw
        worst = max(error for front in fronts for (error, _), _ in front)
        reference = (max(reference[0], worst), reference[1])
    volumes = [hypervolume([point for point, _ in front], reference) for front in fronts]
    on_fronts = [{row.pattern: None for row in study.front} for study in studies]
    return Comparison(
        first,
        second,
        confirmed,
        (volumes[0], volumes[1]),
        _interval(fronts, volumes[1] - volumes[0], reference),
        tuple(pattern for pattern in on_fronts[0] if pattern in on_fronts[1]),
        (_carried(first, second, reference), _carried(second, first, reference)),
        _differ(first, second),
    )


def _layers(study: Record) -> int:
    return int(study.facts["num_layers"])


def _require_alike(first: Record, second: Record) -> None:
    pairs = {
        "the metric": (first.purpose.metric, second.purpose.metric),
        "better": ("higher" if s.purpose.direction == "maximize" else "lower" for s in (first, second)),
        "the number of layers": (_layers(first), _layers(second)),
    }
    for what, values in pairs.items():
        there, here = values
        if there != here:
            raise StudyError(
                f"studies {first.name!r} and {second.name!r} cannot be compared: {what} is {there} in the first and "
                f"{here} in the second; name two studies of one metric and one depth"
            )
    for study in (first, second):
        if not study.front:
            raise StudyError(
                f"study {study.name!r} has no finished trial to compare; continue it with `layersearch run`"
            )


def _is_confirmed(study: Record) -> bool:
    found = [study.confirmed.get(row.pattern) for row in study.front]
    return all(confirmed is not None and confirmed.spread is not None for confirmed in found)


Scored = tuple[Point, float]


def _scored(study: Record, *, confirmed: bool) -> list[Scored]:
    """The front's points, each with the standard error of its score."""
    direction, layers = study.purpose.direction, _layers(study)
    if not confirmed:
        return [(point_of(row, direction, layers), _error_of_search(row)) for row in study.front]
    found = [study.confirmed[row.pattern] for row in study.front]
    spread = math.sqrt(fmean((one.spread or 0.0) ** 2 for one in found))  # pooled: a few seeds each tell little
    return [
        ((error_of(one.mean, direction), point_of(row, direction, layers)[1]), spread / math.sqrt(len(one.seeds)))
        for row, one in zip(study.front, found, strict=True)
    ]


def _error_of_search(row: Row) -> float:
    return 0.0 if row.interval is None else (row.interval[1] - row.interval[0]) / (2 * HALF_WIDTH)


def _interval(
    fronts: Sequence[Sequence[Scored]], difference: float, reference: Point, draws: int = DRAWS
) -> tuple[float, float] | None:
    """The basic bootstrap interval (Davison and Hinkley 1997, section 5.2) of a difference of hypervolumes.

    Every score is drawn anew from a normal distribution with its standard error. Noise makes the hypervolume of a draw
    larger; turned around the difference found, the quantiles take that back. Both fronts are taken for independent:
    where they share examples, the true interval is narrower.
    """
    if not any(error for front in fronts for _, error in front):
        return None
    rng = random.Random(0)

    def drawn(front: Sequence[Scored]) -> float:
        return hypervolume([(rng.gauss(point[0], error), point[1]) for point, error in front], reference)

    found = sorted(drawn(fronts[1]) - drawn(fronts[0]) for _ in range(draws))
    low, high = found[int(0.025 * draws)], found[int(0.975 * draws)]
    return 2 * difference - high, 2 * difference - low


def _carried(study: Record, other: Record, reference: Point) -> Carried:
    wanted = {row.pattern for row in study.front}
    rows = [row for row in other.rows if row.done]
    tried = [row for row in rows if row.pattern in wanted]
    direction, layers = other.purpose.direction, _layers(other)
    whole = hypervolume([point_of(row, direction, layers) for row in rows if row.allowed], reference)
    part = hypervolume([point_of(row, direction, layers) for row in tried if row.allowed], reference)
    return Carried(len(wanted), len({row.pattern for row in tried}), part / whole if whole else None)


def _differ(first: Record, second: Record) -> dict[str, tuple[object, object]]:
    """What the studies were asked differently, by name; spaces by the names that the user knows."""
    there, here = dict(first.purpose.values), dict(second.purpose.values)
    for values, study in ((there, first), (here, second)):
        values["space"] = study.facts.get("space_name")
        values |= {} if "replay" in values else {"training": study.purpose.training}
    return {
        name: (there.get(name), here.get(name)) for name in sorted({*there, *here}) if there.get(name) != here.get(name)
    }
