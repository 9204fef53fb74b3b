"""One-shot search: one super-network a seed, scores of many patterns from it, fine-tuning for the best of them only.

Knows: the order of the work, and which job needs what of an earlier one. Does not know: how a super-network is trained,
Ray, SQL.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import zip_longest
from pathlib import Path
from typing import TYPE_CHECKING

from layersearch.errors import TrainingError
from layersearch.pattern import Pattern, thirds
from layersearch.search.agreement import Agreement, agreement_of, from_network
from layersearch.search.distill import TRIES, Distill
from layersearch.search.fronts import fronts, ranked, spread
from layersearch.search.objectives import Costs, reachable
from layersearch.search.quality import noise_of
from layersearch.search.trials import Direction, Row
from layersearch.search_space import SearchSpace
from layersearch.training.job import Job, Outcome
from layersearch.training.recipe import OneShotRecipe

if TYPE_CHECKING:
    from layersearch.search.study import Study

MOST_SHARED = 512  # patterns of a large space that a super-network scores
DRAWN = 256  # of them drawn evenly over the sizes; the rest are neighbours of the front,
AT_ONCE = 64  # so many at a time
MOST_TUNED = 12  # candidates fine-tuned after a super-network unless the user says how many
FEWEST_TUNED = 5  # so that it can be told whether its scores agree with theirs
AGREEING = 0.5  # rank correlation of shared scores and those of the fine-tuned candidates, below which they do not


def patterns_to_share(
    space: SearchSpace, num_layers: int, seed: int, costs: Costs | None = None
) -> tuple[Pattern, ...]:
    """What a super-network is trained for and scores first: all of a small space, else its start points and a draw.

    The draw holds as many patterns of each size as there are. Patterns over a limit of `costs` are left out.
    """
    if costs is not None and costs.limits:
        small = [pattern for pattern in reachable(space, num_layers, costs) if costs.allows(pattern)]
        if space.size(num_layers) <= MOST_SHARED:
            return tuple(small)
        drawn = [pattern for pattern in patterns_to_share(space, num_layers, seed) if costs.allows(pattern)]
        more = random.Random(seed).sample(small, min(len(small), MOST_SHARED - len(drawn)))
        return tuple(dict.fromkeys([*drawn, *more]))
    if space.size(num_layers) <= MOST_SHARED:
        return tuple(space.patterns(num_layers))
    found = dict.fromkeys(space.start_points(num_layers))
    rng = random.Random(seed)
    by_size: dict[int, list[Pattern]] = {}
    for _ in range(20 * DRAWN):
        pattern = space.sample(num_layers, rng)
        by_size.setdefault(thirds(pattern.blocks) // 3, []).append(pattern)
    for alike in zip_longest(*(by_size[size] for size in sorted(by_size))):
        found |= dict.fromkeys(pattern for pattern in alike if pattern is not None)
        if len(found) >= DRAWN:
            break
    return tuple(found)[:MOST_SHARED]


def first_patterns(space: SearchSpace, costs: Costs, seed: int, starts: Sequence[Pattern] = ()) -> tuple[Pattern, ...]:
    """What the super-networks of a search of `seed` are trained for: `starts` first, then `patterns_to_share`."""
    within = [p for p in starts if costs.allows(p)] if costs.limits else list(starts)
    return tuple(dict.fromkeys([*within, *patterns_to_share(space, costs.num_layers, seed, costs)]))


@dataclass
class OneShot:
    """What a one-shot search does next, for the search and for its confirmation alike.

    For each seed the unchanged model is fine-tuned first, a trial like any other; out of it the super-network is
    trained (no trial) and scores patterns of `space`, in a large one the neighbours of the front too; then the
    candidates of that seed start from its weights. Where the scores of those that are fine-tuned do not agree with the
    shared ones, `alone` asks for the rest. `known` are the scores of the search's own seed so far, `keep` stores new
    ones; `made` are the seeds whose network is there; `starts` are patterns to score in any case; `on_their_own` are
    planned patterns that `alone` found; `fallen_back` says that shared scores are no longer followed.
    """

    space: SearchSpace
    costs: Costs
    direction: Direction
    alone: Distill
    known: dict[str, float]
    keep: Callable[[Outcome], None]
    made: set[int] = field(default_factory=set)
    starts: tuple[Pattern, ...] = ()
    fallen_back: bool = False
    on_their_own: frozenset[str] = frozenset()
    how: OneShotRecipe = field(default_factory=OneShotRecipe)
    _out: set[int] = field(default_factory=set)
    _tried: set[str] = field(default_factory=set)
    _deaths: dict[int, int] = field(default_factory=dict)

    @property
    def planned(self) -> Sequence[tuple[str, int]]:
        """The confirmation's patterns and seeds."""
        return self.alone.planned

    def plan(self, pairs: Sequence[tuple[str, int]], front: Sequence[Row]) -> None:
        """Confirm `pairs`, patterns of `front` with fresh seeds, each the way that it was found."""
        self.alone.plan(pairs, front)
        self.on_their_own = frozenset(row.pattern for row in front if not from_network(row))

    @property
    def seed(self) -> int:
        """The search's own seed."""
        return self.alone.seed

    @property
    def unchanged(self) -> str:
        """The pattern of the unchanged model."""
        return self.alone.unchanged

    def ask(self, study: Study, wanted: int) -> Job | None:
        """The next job, or None while all that can be done is out."""
        if study.proposes and self.fallen_back:
            return self.alone.ask(study, wanted)
        if study.waiting():
            return self._prepared(study, study.ask(wanted))
        for seed in self.alone.fine_tuned(study):
            if seed in self._out:
                continue
            patterns = self._to_score(study, seed)
            if patterns:
                self._out.add(seed)
                return self._super_job(seed, patterns)
            following = self._following(study, seed)
            alone = following in self.on_their_own and not study.proposes
            again = self.alone.missing(seed) if alone else None
            if again is not None:
                self._out.add(seed)
                return again
            if following is not None:
                study.enqueue(following, seed)
                return self._prepared(study, study.ask(wanted))
        return None

    def tell(self, outcome: Outcome) -> None:
        """Take what became of a super-network. Raises TrainingError where it cannot be made."""
        self._out.discard(outcome.seed)
        if outcome.score is not None:
            self.alone.tell(outcome)
            return
        if outcome.reason is None:
            self.made.add(outcome.seed)
            if outcome.seed == self.seed:
                self.keep(outcome)
                self.known |= outcome.shared
            return
        self._deaths[outcome.seed] = self._deaths.get(outcome.seed, 0) + outcome.died
        if not outcome.lost or self._deaths[outcome.seed] >= TRIES:
            raise TrainingError(f"the super-network of seed {outcome.seed} cannot be trained: {outcome.reason}")

    def candidates(self) -> int:
        """How many candidates are fine-tuned unless the user says it: the front's, and enough to tell the agreement."""
        return min(max(len(self.front()), FEWEST_TUNED), MOST_TUNED, len(self._points()[0]))

    def agreement(self, rows: Sequence[Row]) -> Agreement | None:
        """How well shared scores rank the candidates that were fine-tuned from the network, if that can be told."""
        return agreement_of(rows, self.known, self.unchanged)

    def disagrees(self, rows: Sequence[Row]) -> bool:
        """Whether shared scores rank the fine-tuned candidates so badly that the search goes on without them.

        Scores that lie within the noise of their split cannot disagree.
        """
        found = self.agreement(rows)
        return found is not None and found.rho < AGREEING and found.spread > 4 * noise_of(rows)

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

    def _points(self) -> tuple[list[str], list[tuple[float, ...]]]:
        sign = 1.0 if self.direction == "maximize" else -1.0
        patterns = {text: Pattern.parse(text) for text in self.known if text != self.unchanged}
        texts = [text for text, pattern in patterns.items() if self.costs.allows(pattern)]
        return texts, [(sign * self.known[text], *self.costs.values(patterns[text])) for text in texts]

    def _to_score(self, study: Study, seed: int) -> tuple[Pattern, ...]:
        """What the network of `seed` is to score now, and to be trained for unless it is there."""
        if not study.proposes:
            without = {*self.on_their_own, self.unchanged}
            networked = any(its == seed and text not in without for text, its in self.alone.planned)
            return self._first if networked and seed not in self.made and self.alone.following(study, seed) else ()
        if seed != self.seed:
            return ()
        if seed not in self.made or not self.known:
            return self._first
        late = tuple(pattern for pattern in self.starts if str(pattern) not in {*self.known, *self._tried})
        self._tried |= set(map(str, late))
        if late:
            return late
        return self._near_the_front() if len(self._first) < self.space.size(self.costs.num_layers) else ()

    @cached_property
    def _first(self) -> tuple[Pattern, ...]:
        return first_patterns(self.space, self.costs, self.seed, self.starts)

    def _near_the_front(self) -> tuple[Pattern, ...]:
        """Patterns that differ in one layer from a member of the front and were not scored yet, drawn at random."""
        layers = self.costs.num_layers
        near = (other for text in self.front() for other in self.space.neighbours(Pattern.parse(text), layers))
        seen = {*self.known, *self._tried}
        new = [p for p in dict.fromkeys(near) if str(p) not in seen and self.costs.allows(p)]
        room = min(AT_ONCE, MOST_SHARED - len(self.known), len(new))
        drawn = tuple(random.Random(len(self.known)).sample(new, max(0, room)))
        self._tried |= set(map(str, drawn))
        return drawn

    def _following(self, study: Study, seed: int) -> str | None:
        """The pattern that comes next for `seed`, if there is one."""
        if not study.proposes:
            return self.alone.following(study, seed)
        asked = {(row.pattern, row.seed) for row in study.rows()}
        return next((text for text in self.ranked() if (text, seed) not in asked), None)

    def _super_job(self, seed: int, patterns: tuple[Pattern, ...]) -> Job:
        """The job that makes the super-network of `seed`; it is no trial, so its number is none of a trial's."""
        return Job(
            number=-1 - seed,
            pattern=self.unchanged,
            seed=seed,
            checkpoint=str(self._network(seed)),
            start=str(self.alone.unchanged_of(seed)) if seed not in self.made else None,
            patterns=tuple(map(str, patterns)),
            scores=seed == self.seed,
        )

    def _prepared(self, study: Study, job: Job | None) -> Job | None:
        """A trial's job with where it starts and what it may cost."""
        by_itself = job is not None and job.pattern in self.on_their_own and not study.proposes
        if job is None or job.pattern == self.unchanged or by_itself:
            return self.alone.prepared(job)
        return replace(job, start=str(self._network(job.seed)), budget=self.how.tuning)

    def clean_up(self) -> None:
        """Remove what fresh seeds left."""
        self.alone.clean_up()

    def _network(self, seed: int) -> Path:
        return self.alone.folder / f"super-{seed}"
