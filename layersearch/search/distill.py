"""Candidates by themselves, but warm: each starts from the fine-tuned unchanged model and learns from its answers too.

Knows: that the unchanged model of a seed comes first, and where its weights lie. Does not know: how a candidate is
taught, super-networks, Ray, SQL.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from layersearch.errors import TrainingError
from layersearch.pattern import Pattern
from layersearch.search.study import Study
from layersearch.search.trials import Row
from layersearch.training.job import Job, Outcome


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

    @property
    def unchanged(self) -> str:
        """The pattern of the unchanged model."""
        return str(Pattern.full(self.num_layers))

    def ask(self, study: Study, wanted: int) -> Job | None:
        """The next job, or None while all that can be done is out."""
        if study.waiting():
            return self.prepared(study.ask(wanted))
        for seed in self.fine_tuned(study):
            if study.proposes:
                return self.prepared(study.ask(wanted))
            following = self.following(study, seed)
            if following is not None:
                study.enqueue(following, seed)
                return self.prepared(study.ask(wanted))
        return None

    def plan(self, pairs: Sequence[tuple[str, int]], _front: Sequence[Row]) -> None:
        """Confirm `pairs`, patterns of the front with fresh seeds."""
        self.planned = pairs

    def tell(self, outcome: Outcome) -> None:
        """Nothing but trials is asked for, and the study takes those."""
        raise AssertionError(outcome)

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

    def prepared(self, job: Job | None) -> Job | None:
        """A trial's job with what this method adds: the unchanged model is kept, all others start from it."""
        if job is None:
            return None
        whole = str(self.folder / f"unchanged-{job.seed}")
        if job.pattern == self.unchanged:
            return replace(job, checkpoint=whole)
        return replace(job, start=whole)
