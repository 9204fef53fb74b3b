"""One-shot search: one super-network a seed, scores of many patterns from it, fine-tuning for the best of them only.

Knows: the order of the work, and which job needs what of an earlier one. Does not know: how a super-network is trained,
Ray, SQL.
"""

from __future__ import annotations

import random
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import zip_longest
from pathlib import Path

from layersearch.errors import TrainingError
from layersearch.pattern import PartCounts, Pattern, thirds
from layersearch.search.fronts import fronts, ranked, spread
from layersearch.search.study import Study
from layersearch.search.trials import Direction
from layersearch.search_space import SearchSpace
from layersearch.training.job import Job, Outcome

TRIES = 3  # for a super-network whose worker died
MOST_SHARED = 512  # patterns of a large space that a super-network is trained for and scores


def patterns_to_share(space: SearchSpace, num_layers: int, seed: int) -> tuple[Pattern, ...]:
    """The patterns of a one-shot search: all of a small space, else its start points and an equal number a size."""
    if space.size(num_layers) <= MOST_SHARED:
        return tuple(space.patterns(num_layers))
    found = dict.fromkeys(space.start_points(num_layers))
    rng = random.Random(seed)
    by_size: dict[int, list[Pattern]] = {}
    for _ in range(20 * MOST_SHARED):
        pattern = space.sample(num_layers, rng)
        by_size.setdefault(thirds(pattern.blocks) // 3, []).append(pattern)
    for alike in zip_longest(*(by_size[size] for size in sorted(by_size))):
        found |= dict.fromkeys(pattern for pattern in alike if pattern is not None)
        if len(found) >= MOST_SHARED:
            break
    return tuple(found)[:MOST_SHARED]


@dataclass
class OneShot:
    """What a one-shot search does next, for the search and for its confirmation alike.

    For each seed the unchanged model is fine-tuned first, a trial like any other; out of it the super-network is
    trained (no trial) and scores `patterns`; then the candidates of that seed start from its weights. `known` are the
    scores of the search's own `seed` so far, `keep` stores new ones; `made` are the seeds whose network is there, in
    `folder`; `planned` are the confirmation's candidates and seeds.
    """

    patterns: Sequence[Pattern]
    counts: PartCounts
    direction: Direction
    folder: Path
    seed: int
    known: Mapping[str, float]
    keep: Callable[[Outcome], None]
    made: set[int] = field(default_factory=set)
    planned: Sequence[tuple[str, int]] = ()
    _out: set[int] = field(default_factory=set)
    _deaths: dict[int, int] = field(default_factory=dict)

    @property
    def unchanged(self) -> str:
        """The pattern of the unchanged model."""
        return str(Pattern.full(self.counts.num_layers))

    def ask(self, study: Study, wanted: int) -> Job | None:
        """The next job, or None while all that can be done is out."""
        if study.waiting():
            return self._prepared(study.ask(wanted))
        for seed in self._begun(study):
            following = self._following(study, seed)
            blind = study.purpose.scored_on == "search" and not self.known
            if seed in self._out or (following is None and not blind):
                continue
            if seed not in self.made or following is None:
                self._out.add(seed)
                return self._super_job(seed)
            study.enqueue(following, seed)
            return self._prepared(study.ask(wanted))
        return None

    def _begun(self, study: Study) -> list[int]:
        """The seeds whose unchanged model is fine-tuned. Raises TrainingError if that of the search never will be."""
        rows = [row for row in study.rows() if row.pattern == self.unchanged]
        broken = [row.reason for row in rows if row.state == "FAIL" and not row.lost and row.seed == self.seed]
        if broken:
            raise TrainingError(f"the unchanged model cannot be fine-tuned: {broken[0]}; ask with another recipe")
        return sorted(row.seed for row in rows if row.done)

    def tell(self, outcome: Outcome) -> None:
        """Take what became of a super-network. Raises TrainingError where it cannot be made."""
        self._out.discard(outcome.seed)
        if outcome.reason is None:
            self.made.add(outcome.seed)
            if outcome.seed == self.seed:
                self.keep(outcome)
                self.known = outcome.shared
            return
        self._deaths[outcome.seed] = self._deaths.get(outcome.seed, 0) + outcome.died
        if not outcome.lost or self._deaths[outcome.seed] >= TRIES:
            raise TrainingError(f"the super-network of seed {outcome.seed} cannot be trained: {outcome.reason}")

    def front(self) -> list[str]:
        """The scored patterns that no other beats, without the unchanged model, in the order of `ranked`."""
        texts, points = self._points()
        return [texts[place] for front in fronts(points)[:1] for place in spread(front)]

    def ranked(self) -> list[str]:
        """The scored patterns: their front, then the front of the rest, and so on.

        Of each the largest and the smallest come first, then what lies between, so that any number covers all sizes.
        """
        texts, points = self._points()
        return [texts[place] for place in ranked(points)]

    def _points(self) -> tuple[list[str], list[tuple[float, float]]]:
        sign = 1.0 if self.direction == "maximize" else -1.0
        texts = [text for text in self.known if text != self.unchanged]
        return texts, [(sign * self.known[text], Pattern.parse(text).parameters(self.counts)) for text in texts]

    def _following(self, study: Study, seed: int) -> str | None:
        """The pattern that comes next for `seed`, if there is one."""
        asked = {(row.pattern, row.seed) for row in study.rows()}
        planned = (text for text, its_seed in self.planned if its_seed == seed)
        order = self.ranked() if study.purpose.scored_on == "search" else planned
        return next((text for text in order if (text, seed) not in asked), None)

    def _super_job(self, seed: int) -> Job:
        """The job that makes the super-network of `seed`; it is no trial, so its number is none of a trial's."""
        scored = tuple(str(pattern) for pattern in self.patterns)
        return Job(
            number=-1 - seed,
            pattern=self.unchanged,
            seed=seed,
            checkpoint=str(self._folder("super", seed)),
            start=str(self._folder("unchanged", seed)),
            patterns=scored,
            scores=seed == self.seed,
        )

    def _prepared(self, job: Job | None) -> Job | None:
        """A trial's job with what this method adds: the unchanged model is kept, all others start from its network."""
        if job is None:
            return None
        if job.pattern == self.unchanged:
            return replace(job, checkpoint=str(self._folder("unchanged", job.seed)))
        return replace(job, start=str(self._folder("super", job.seed)))

    def drop_networks_of_confirmation(self) -> None:
        """Remove the super-networks of fresh seeds: their candidates are scored and nobody exports them."""
        for entry in self.folder.glob("*-*"):
            if entry.name.split("-")[1] != str(self.seed):
                shutil.rmtree(entry) if entry.is_dir() else entry.unlink()

    def _folder(self, what: str, seed: int) -> Path:
        return self.folder / f"{what}-{seed}"
