"""Which files of a search stay on the disk, and where those of a candidate go.

Knows: the rows of the study, what the user wants kept, how much disk the study may take. Does not know: what is in the
files, who trains, when. A checkpoint that went is no loss of a result: the study can train it again (`again.py`).
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from layersearch.counts import count
from layersearch.errors import LayersearchError, WordsError
from layersearch.kinds import KINDS
from layersearch.pattern import Pattern
from layersearch.search.files import (
    bytes_in,
    checkpoint_of,
    checkpoints_in,
    drop,
    drop_remains,
    drop_states,
    is_whole,
    shown,
    state_of,
)
from layersearch.search.fronts import fronts, thinned
from layersearch.search.question import NETWORKS, How, Keep, Prepared, Question
from layersearch.search.replicates import averaged, contested
from layersearch.search.study import Study
from layersearch.search.trials import Row, front_of
from layersearch.training.job import Job
from layersearch.training.recipe import BYTES_A_PARAMETER, Recipe

BESIDE = 1 << 16  # bytes of a checkpoint beside its weights: the manifest, names of tensors


@dataclass(frozen=True)
class Keeping:
    """What of a search's weights is kept: those of the front, all, or none; and the `disk` that the study may take.

    `disk` is in bytes of all that lies in the study's folder, what is being written included; None does not count.
    `parameters` counts those of a pattern; `to_confirm` bytes are needed once the search is over. Under a cap the least
    useful weights go first: those that are not on the front, the worst first, then as `thinned` has it. The last ones
    stay, and so does what others start from. A paused candidate takes `state` bytes a parameter. The front is
    that of the means over `further` seeds. As long as more of such seeds are `awaited`, all of those stay too whom they
    could bring onto it, and under a cap they go after the others behind it, those farthest from it first; once the
    seeds are there, `tidy` knows better.
    """

    keep: Keep = "front"
    disk: int | None = None
    parameters: Callable[[Pattern], int] | None = None
    to_confirm: int = 0
    state: int = Recipe().state_bytes
    further: Sequence[Row] = ()
    awaited: bool = False

    def begin(self, study: Study) -> None:
        """Remove what a driver that was killed left half written, and what is not kept any more."""
        drop_remains(study.folder, _running(study))
        self.tidy(study)

    def tidy(self, study: Study, out: Iterable[Job] = ()) -> None:
        """Remove checkpoints that are not kept, and states of candidates that will not go on; `out` are being run."""
        running = _running(study)
        drop_states(study.folder, running)
        for number in self._left_behind(study, running):
            drop(checkpoint_of(study.folder, number))
        self.make_room(study, sum(self._bytes(job) for job in out))

    def _left_behind(self, study: Study, running: set[int]) -> list[int]:
        """The trials whose checkpoints go; the only one does not, unless none shall be kept."""
        front = {row.number for row in self._front(study)} | {*self._contested(study)}
        done = {row.number for row in study.rows() if row.done}
        wanted = running | {"front": front, "all": done, "none": set[int]()}[self.keep]
        there = checkpoints_in(study.folder)
        going = [number for number in there if number not in wanted]
        if self.keep == "none" or any(number not in going and is_whole(path) for number, path in there.items()):
            return going
        rows = [row for row in study.rows() if row.number in going and row.done and is_whole(there[row.number])]
        return [number for number in going if number not in self._least_useful(rows, study)[-1:]]

    def make_room(self, study: Study, needed: int) -> bool:
        """Whether `needed` bytes more fit under the cap, the least useful checkpoints removed for it."""
        if self.disk is None:
            return True
        there, running = checkpoints_in(study.folder), _running(study)
        rows = [row for row in study.rows() if row.done and row.number in there and row.number not in running]
        for number in self._least_useful(rows, study)[:-1]:
            if bytes_in(study.folder) + needed <= self.disk:
                return True
            drop(there[number])
        return bytes_in(study.folder) + needed <= self.disk

    def placed(self, study: Study, job: Job, out: Iterable[Job] = ()) -> Job:
        """The job with the place of its weights and the front that they have to be on; no place where they do not fit.

        `out` are the jobs that are being run, whose weights need room too.
        """
        writing = sum(self._bytes(other) for other in out)
        if job.checkpoint is not None:  # others start from it
            self.make_room(study, writing + self._bytes(job))
            return job
        found = replace(job, checkpoint=str(checkpoint_of(study.folder, job.number)))
        if self.keep == "none" or not self.make_room(study, writing + self._bytes(found)):
            return job
        if self.keep == "all" or self.awaited:  # what is behind the front may count yet
            return found
        return replace(found, front=_points(self._front(study), study))

    def state_for(self, study: Study, job: Job, out: Iterable[Job] = ()) -> str | None:
        """Where a candidate is put down between two rungs; None where that does not fit: it would begin anew then."""
        place = str(state_of(study.folder, job.number))
        if self.disk is None or Path(place).exists():
            return place
        writing = sum(self._bytes(other) for other in (*out, replace(job, state=place)))
        return place if bytes_in(study.folder) + writing <= self.disk else None

    def _front(self, study: Study) -> list[Row]:
        return (
            front_of(averaged(study.rows(), self.further), study.purpose.direction) if self.further else study.front()
        )

    def _contested(self, study: Study) -> list[int]:
        """The trials that the seeds to come may bring onto the front or off it, the closest first."""
        rows = averaged(study.rows(), self.further) if self.awaited else []
        numbers = {row.pattern: row.number for row in rows if row.done}
        return [numbers[pattern] for pattern in contested(rows, study.purpose.direction)]

    def _least_useful(self, rows: list[Row], study: Study) -> list[int]:
        """The trials of `rows`, those first that are best done without."""
        on_front = {row.number: row for row in self._front(study)}
        waiting = [number for number in reversed(self._contested(study)) if number not in on_front]
        behind = [row for row in rows if row.number not in on_front and row.number not in waiting]
        front = [on_front[row.number] for row in rows if row.number in on_front]
        worst = [behind[place].number for layer in reversed(fronts(_points(behind, study))) for place in layer]
        there = {row.number for row in rows}
        return [*worst, *(n for n in waiting if n in there), *(front[p].number for p in thinned(_points(front, study)))]

    def _bytes(self, job: Job) -> int:
        """What a job may write: its weights, and a state beside the one that is there."""
        if self.parameters is None:
            return 0
        number = self.parameters(Pattern.parse(job.pattern))
        weights, state = BYTES_A_PARAMETER * number + BESIDE, self.state * number + BESIDE
        return weights * (job.checkpoint is not None) + state * (job.state is not None)


def _running(study: Study) -> set[int]:
    return {row.number for row in study.rows() if row.state == "RUNNING"}


def _points(rows: Iterable[Row], study: Study) -> tuple[tuple[float, ...], ...]:
    sign = 1.0 if study.purpose.direction == "maximize" else -1.0
    return tuple((sign * row.score, *row.sizes) for row in rows if row.score is not None)


def keeping_of(question: Question, how: How, confirm: int, further: Sequence[Row], rounds: int = 0) -> Keeping:
    """What `how` asks to be kept of a search with rows of `further` seeds, which up to `rounds` of such seeds follow.

    Rounds that are over count too: what a search finds when it goes on may ask for more seeds in any of them. It is
    confirmed with `confirm` fresh seeds.
    """
    if not isinstance(question, Prepared):
        return Keeping(how.keep, how.disk, question.parameters_of, further=further)
    later, state = _fresh_bytes(question, rounds + confirm), question.what.recipe.state_bytes
    return Keeping(how.keep, how.disk, question.parameters_of, later, state, further, rounds > 0)


def require_disk(prepared: Prepared, how: How, seeds: int, *, confirming: bool = False) -> None:
    """Refuse to start where not even a few checkpoints of the unchanged model (fp32) fit, on the disk or under a cap.

    `confirming` is said by a confirmation of its own, which has the cap of its study and leaves no weights but those
    that fresh seeds start from. Raises LayersearchError.
    """
    method = prepared.what.method
    if confirming and method not in NETWORKS:
        return
    checkpoints = {"fine-tune": 2, "halving": 5}.get(method, 4 + 2 * seeds)
    needed = checkpoints * BYTES_A_PARAMETER * prepared.counts.total
    free = shutil.disk_usage(next(place for place in how.folder.parents if place.exists())).free
    if free < needed:
        raise LayersearchError(
            f"{free / 1e6:.0f} MB are free at {how.files} and {count(checkpoints, 'checkpoint')} need "
            f"{needed / 1e6:.0f} MB; free some space, or name another place with --files"
        )
    kept = 0 if confirming or how.keep == "none" else _whole_bytes(prepared)
    started = NETWORKS.get(method, 0) * _network_bytes(prepared)
    least = started + kept + max(kept, _fresh_bytes(prepared, seeds))
    if how.disk is not None and how.disk < least:
        fresh = f" and of {count(seeds, 'fresh seed')}" if started and seeds else ""
        beside = f" beside the models that candidates of the search{fresh} start from" if started else ""
        small = f"--disk {shown(how.disk)} holds no checkpoint while the next is written{beside}"
        enough = f"--disk {shown(least, up=True)}"
        if confirming:
            fewer = ", or give fewer --seeds" if fresh else ""
            raise WordsError(f"the study's {small}; continue it with `layersearch run ... {enough}` or more{fewer}")
        raise WordsError(f"{small}; give {enough} or more{', or --confirm 0' if fresh else ''}")


def _fresh_bytes(prepared: Prepared, seeds: int) -> int:
    """What the candidates of so many fresh seeds start from, all of which is there at once."""
    return seeds * NETWORKS.get(prepared.what.method, 0) * _network_bytes(prepared)


def _whole_bytes(prepared: Prepared) -> int:
    return BYTES_A_PARAMETER * prepared.counts.total + BESIDE


def _network_bytes(prepared: Prepared) -> int:
    """A model that others start from, and what it answers to the training examples."""
    task, recipe = prepared.task, prepared.what.recipe
    units = len(prepared.splits.train) * (recipe.max_length if KINDS[task.kind].per_token else 1)
    answers = 0 if prepared.what.method == "tune-drop-tune" else 4 * units * max(1, task.num_labels)
    return _whole_bytes(prepared) + answers
