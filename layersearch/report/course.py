"""The course of a study: its hypervolume after each trial, over time and over work, and what ended before its time.

Knows: the rows of a study. Does not know: pictures, pages, SQL.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from layersearch.search.objectives import OVER
from layersearch.search.quality import Point, hypervolume, point_of, reference_of
from layersearch.search.record import Record
from layersearch.search.trials import BEATEN, LOW_RANKED, Row


@dataclass(frozen=True)
class Step:
    """What a study had after one complete trial.

    `seconds` count from the start of its first trial, breaks and all; `work` is in fine-tunings of the unchanged model.
    `volume` is the hypervolume (`reference_of`) of all trials so far.
    """

    trial: int
    seconds: float | None
    work: float | None
    volume: float


def course_of(record: Record) -> list[Step]:
    """A step for each complete trial, in the order in which they ended.

    A trial that was stopped has its work counted with the next; so has what was spent on the shared super-network.
    """
    layers, direction = int(record.facts["num_layers"]), record.purpose.direction
    reference = reference_of((record.rows, direction, layers))
    rows = sorted(record.rows, key=lambda row: (row.ended or datetime.max, row.number))
    began = _began(rows)
    steps: list[Step] = []
    best: list[Point] = []
    work = record.shared_work
    for row in rows:
        work += row.work or 0.0
        if not row.done:
            continue
        best = _with(best, point_of(row, direction, layers))
        since = None if began is None or row.ended is None else max(0.0, (row.ended - began).total_seconds())
        steps.append(Step(row.number, since, work or None, hypervolume(best, reference)))
    return steps


def _began(rows: Sequence[Row]) -> datetime | None:
    """When the first trial that was evaluated here began, to go by when it ended and how long it took."""
    here = [row for row in rows if row.done and row.reused is None]
    return min((row.ended - timedelta(seconds=row.seconds or 0.0) for row in here if row.ended), default=None)


def _with(best: list[Point], point: Point) -> list[Point]:
    """The points of `best` and `point` that no other beats."""
    if any(other[0] <= point[0] and other[1] <= point[1] for other in best):
        return best
    return [other for other in best if not (point[0] <= other[0] and point[1] <= other[1])] + [point]


@dataclass(frozen=True)
class Early:
    """Trials that ended without a score for one kind of reason, and what that reason means."""

    title: str
    meaning: str
    rows: tuple[Row, ...]


_KINDS = (
    ("stopped at a rung", "halving scored them on the way, and others did better there"),
    ("not trained: beaten", "at best no better than a trial with no more parameters"),
    ("not trained: low-ranked", "in the worst third of their size by a cheap score that the study bears out"),
    ("not trained: over a limit", "their size or cost alone broke a limit of the study"),
    ("repeats", "the same pattern with the same seed was proposed before"),
    ("failed", "training or scoring gave no usable number"),
    ("interrupted", "the run ended or a worker died; they were queued again"),
    ("others", "for a reason of their own"),
)


def ended_early(record: Record) -> list[Early]:
    """What ended without a score, by kind of reason; kinds that nothing belongs to are left out."""
    rows: dict[str, list[Row]] = {}
    for row in record.rows:
        if row.state in ("PRUNED", "FAIL"):
            rows.setdefault(_kind(row), []).append(row)
    return [Early(title, meaning, tuple(rows[title])) for title, meaning in _KINDS if title in rows]


def _kind(row: Row) -> str:
    reason = row.reason or ""
    if row.state == "FAIL":
        return "interrupted" if row.lost else "failed"
    if row.stopped:
        return "stopped at a rung"
    starts = {BEATEN: "not trained: beaten", LOW_RANKED: "not trained: low-ranked", "repeat": "repeats"}
    starts |= {OVER: "not trained: over a limit"}
    return next((kind for start, kind in starts.items() if reason.startswith(start)), "others")
