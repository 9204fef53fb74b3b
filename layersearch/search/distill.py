"""Candidates by themselves, but warm: each starts from the fine-tuned unchanged model and learns from its answers too.

Knows: that the unchanged model of a seed comes first, and where its weights lie. Does not know: how a candidate is
taught, super-networks, Ray, SQL.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from layersearch.errors import TrainingError
from layersearch.pattern import Pattern
from layersearch.search.study import Study
from layersearch.search.trials import Row
from layersearch.training.job import Job, Outcome

TRIES = 3  # for what others start from, when its worker dies


def to_hold(confirmation: Study, planned: Sequence[tuple[str, int]]) -> int:
    """How many trials a confirmation shall hold: those that are there or queued, and those that are planned."""
    return len({*planned, *((row.pattern, row.seed) for row in confirmation.rows())})


@dataclass
class Distill:
    """What a search does next whose candidates start from the unchanged model, and its confirmation alike.

    For each seed the unchanged model is fine-tuned first, a trial like any other, and its weights stay in `folder`. The
    search asks the sampler for the rest; `planned` are the confirmation's patterns and seeds.
    """

    num_layers: int
    folder: Path
    seed: int
    planned: Sequence[tuple[str, int]] = ()
    _out: set[int] = field(default_factory=set)
    _deaths: int = 0

    @property
    def unchanged(self) -> str:
        """The pattern of the unchanged model."""
        return str(Pattern.full(self.num_layers))

    def ask(self, study: Study, wanted: int) -> Job | None:
        """The next job, or None while all that can be done is out.

        A job with a number below zero is no trial: it makes the unchanged model of a seed again.
        """
        if study.waiting():
            return self.prepared(study.ask(wanted))
        for seed in self.fine_tuned(study):
            following = None if study.proposes else self.following(study, seed)
            if seed in self._out or not (study.proposes or following):
                continue
            again = self.missing(seed)
            if again is not None:
                self._out.add(seed)
                return again
            if following is not None:
                study.enqueue(following, seed)
            return self.prepared(study.ask(wanted))
        return None

    def plan(self, pairs: Sequence[tuple[str, int]], _front: Sequence[Row]) -> None:
        """Confirm `pairs`, patterns of the front with fresh seeds."""
        self.planned = pairs

    def missing(self, seed: int) -> Job | None:
        """The job that makes the unchanged model of `seed` again, where it was cleaned up or --files has changed."""
        from layersearch.models.checkpoint import is_complete

        folder = self.unchanged_of(seed)
        return None if is_complete(folder) else Job(-1 - seed, self.unchanged, seed, checkpoint=str(folder))

    def tell(self, outcome: Outcome) -> None:
        """Take what became of an unchanged model that was made again. Raises TrainingError where it cannot be made."""
        self._out.discard(outcome.seed)
        self._deaths += outcome.died
        if outcome.checkpoint is None and (self._deaths >= TRIES or not outcome.lost):
            reason = outcome.reason or outcome.note
            raise TrainingError(f"the unchanged model of seed {outcome.seed} cannot be made again: {reason}")

    def fine_tuned(self, study: Study) -> list[int]:
        """The seeds whose unchanged model is fine-tuned. Raises TrainingError if that of the search never will be."""
        rows = [row for row in study.rows() if row.pattern == self.unchanged]
        broken = [row.reason for row in rows if row.state == "FAIL" and not row.lost and row.seed == self.seed]
        if broken:
            raise TrainingError(f"the unchanged model cannot be fine-tuned: {broken[0]}; ask with another recipe")
        return sorted(row.seed for row in rows if row.done)

    def following(self, study: Study, seed: int) -> str | None:
        """The pattern that the confirmation has planned next for `seed`, if there is one."""
        asked = {(row.pattern, row.seed) for row in study.rows()}
        return next((text for text, its in self.planned if its == seed and (text, seed) not in asked), None)

    def unchanged_of(self, seed: int) -> Path:
        """Where the fine-tuned unchanged model of `seed` lies."""
        return self.folder / f"unchanged-{seed}"

    def clean_up(self) -> None:
        """Remove what fresh seeds left: their candidates are scored and nobody exports them."""
        for entry in self.folder.glob("*-*"):
            if entry.suffix == ".part" or entry.name.split("-")[1] != str(self.seed):
                shutil.rmtree(entry) if entry.is_dir() else entry.unlink()

    def prepared(self, job: Job | None) -> Job | None:
        """A trial's job with what this method adds: the unchanged model is kept, all others start from it."""
        if job is None:
            return None
        whole = str(self.unchanged_of(job.seed))
        if job.pattern == self.unchanged:
            return replace(job, checkpoint=whole)
        return replace(job, start=whole)
