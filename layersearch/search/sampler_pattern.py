"""The sampler that knows patterns: it learns from finished trials which layers matter, and tries what may add most.

Knows: a search space, Optuna's trials and the pattern that each stands for. Does not know: SQL, training, the
mathematics (`surrogate.py`).
"""

from __future__ import annotations

import math
import random
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution
from optuna.samplers import BaseSampler, RandomSampler
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState

from layersearch.pattern import Pattern
from layersearch.search.fronts import fronts
from layersearch.search.objectives import LISTED, Costs, reachable
from layersearch.search.quality import error_of, layer_share
from layersearch.search.surrogate import Floats, coded, differing, expected_growth, fitted, one_thread
from layersearch.search.trials import RUNGS, Direction
from layersearch.search_space import SearchSpace

POOL = 2048  # patterns drawn from a larger space at the start, beside the neighbours of its front
FRESH = 32  # and with each proposal
WEIGHED = 384  # candidates a proposal
LEARNT_FROM = 128  # finished trials: the front, and others at random
DARING = 0.25  # of the standard deviations that the process gives: with all of them it tries too many tiny patterns
NEAR = 2  # halves in which a pattern differs from a member of the front


class PatternSampler(BaseSampler):
    """Proposes the unseen pattern of `space` that may be expected to add most hypervolume to the front.

    A Gaussian process over kept halves is fitted to the finished trials; running ones count with the errors that it
    expects of them, so that several workers do not try the same. Only the first objective is learnt; the others are
    known from the pattern: shares of the layers' parameters, or `costs`, whose limits a proposal keeps. Trials that
    halving paused or stopped are seen and teach nothing: their scores are not of the whole recipe.
    """

    def __init__(self, space: SearchSpace, num_layers: int, seed: int, costs: Costs | None = None) -> None:
        self._space = space
        self._costs = None if costs is None or costs.is_default else costs
        self._num_layers = num_layers
        self._random = random.Random(seed)
        self._numbers = np.random.default_rng(seed)
        self._independent = RandomSampler(seed=seed)
        self._distributions = _distributions(space, num_layers)
        self._read: set[int] = set()  # finished trials that are learnt, by number
        self._known: dict[str, float] = {}  # errors of complete trials, by pattern
        self._seen: set[str] = set()
        self._front: list[str] = []  # known patterns that no other beats, smallest first
        self._pool: list[Pattern] = []
        self._place: dict[str, int] = {}  # in the pool
        self._coded = coded([], num_layers)
        self._sizes: list[tuple[float, ...]] = []  # what shall be small, by place in the pool
        self._allowed: list[bool] = []
        self._expanded: set[str] = set()  # members of the front whose neighbours are in the pool

    def infer_relative_search_space(
        self,
        study: optuna.Study,  # noqa: ARG002
        trial: FrozenTrial,  # noqa: ARG002
    ) -> dict[str, BaseDistribution]:
        """All parameters of the space: a pattern is chosen as a whole."""
        return dict(self._distributions)

    def sample_relative(
        self,
        study: optuna.Study,
        trial: FrozenTrial,
        search_space: dict[str, BaseDistribution],  # noqa: ARG002
    ) -> dict[str, Any]:
        """The parameters of the most promising unseen pattern; none if all are seen."""
        direction: Direction = "maximize" if study.directions[0] == StudyDirection.MAXIMIZE else "minimize"
        fresh: list[str] = []
        running: list[str] = []
        paused: list[str] = []
        for other in study.get_trials(deepcopy=False):
            if other.number in self._read or "pattern" not in other.user_attrs or other.number == trial.number:
                continue
            text = other.user_attrs["pattern"]
            if other.state == TrialState.COMPLETE:
                self._known[text] = error_of(other.values[0], direction)
                fresh.append(text)
            if other.state.is_finished():
                self._read.add(other.number)
                self._seen.add(text)
            else:
                (paused if RUNGS in other.user_attrs else running).append(text)
        with one_thread():
            chosen = self._choose(fresh, running, paused)
        return {} if chosen is None else self._space.params_of(chosen, self._num_layers) or {}

    def sample_independent(
        self, study: optuna.Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        """At random: asked only when every pattern has been seen."""
        return self._independent.sample_independent(study, trial, param_name, param_distribution)

    def _choose(self, fresh: Sequence[str], running: Sequence[str], paused: Sequence[str]) -> Pattern | None:
        """The pattern to try next, where `fresh` ones were scored since the last time, others are out or paused."""
        known, seen = self._known, self._seen.union(running, paused)
        self._gather(Pattern.parse(text) for text in seen if text not in self._place)
        self._front = self._unbeaten([*self._front, *fresh])
        self._fill()
        unseen = [place for text, place in self._place.items() if text not in seen and self._allowed[place]]
        if not unseen or len(known) < 2:
            return self._pool[self._random.choice(unseen)] if unseen else None
        places = self._candidates(unseen)
        texts = self._learnt_from()
        process = fitted(self._coded.take([self._place[t] for t in texts]), np.array([known[t] for t in texts]))
        if running:
            process = process.believing(self._coded.take([self._place[text] for text in running]))
        mean, deviation = process.predict(self._coded.take(places))
        growth = self._growth(mean, DARING * deviation, places, texts)
        return self._pool[places[int(growth.argmax())]]

    def _growth(self, mean: Floats, deviation: Floats, places: Sequence[int], texts: Sequence[str]) -> Floats:
        """What candidates at `places` may be expected to add to the front of the known patterns `texts`."""
        known = [self._place[text] for text in texts]
        sizes = [np.array([self._sizes[place] for place in at], dtype=float) for at in (places, known)]
        largest = np.maximum(1.0, np.concatenate(sizes).max(axis=0)) + 1 / self._num_layers
        errors = np.array([self._known[text] for text in texts])
        worst = min(float(errors.max()), self._worst_allowed())
        kept = [place for place in range(len(known)) if self._allowed[known[place]] and errors[place] <= worst]
        points = [(float(errors[place]), *sizes[1][place]) for place in kept]
        front = [points[n] for places in fronts([(-error, *rest) for error, *rest in points])[:1] for n in places]
        return expected_growth(mean, deviation, sizes[0], front, (worst, *largest))

    def _worst_allowed(self) -> float:
        """The largest error that the least score allows."""
        limit = self._costs and self._costs.min_score
        whole = self._known.get(str(Pattern.full(self._num_layers)))
        if not limit or (limit.is_share and whole is None):
            return math.inf
        return 1.0 - limit.bound(1.0 - (whole or 0.0))

    def _gather(self, patterns: Iterable[Pattern]) -> None:
        """Put patterns into the pool that are not there yet."""
        new = {text: pattern for pattern in patterns if (text := str(pattern)) not in self._place}
        if new:
            self._place |= {text: len(self._pool) + number for number, text in enumerate(new)}
            self._pool += new.values()
            self._coded += coded(new.values(), self._num_layers)
            costs = self._costs
            shares = [(layer_share(p, self._num_layers),) if costs is None else costs.shares(p) for p in new.values()]
            self._sizes += shares
            self._allowed += [costs is None or costs.allows(pattern) for pattern in new.values()]

    def _fill(self) -> None:
        """Make candidates: the whole space once, or draws from it and the neighbours of the front."""
        layers = self._num_layers
        if self._space.size(layers) <= LISTED:
            if not self._expanded:
                self._gather(self._space.patterns(layers))
        else:
            draws = FRESH if self._expanded else POOL
            if self._costs and not self._expanded:
                self._gather(reachable(self._space, layers, self._costs))
            self._gather(self._space.sample(layers, self._random) for _ in range(draws))
            new = [text for text in self._front if text not in self._expanded]
            self._gather(other for text in new for other in self._space.neighbours(Pattern.parse(text), layers))
        self._expanded |= {"", *self._front}

    def _unbeaten(self, texts: Sequence[str]) -> list[str]:
        """Those of the known patterns `texts` that no other of them beats, if they keep the limits or none does."""
        texts = [text for text in texts if self._allowed[self._place[text]]] or texts
        points = [(-self._known[text], *self._sizes[self._place[text]]) for text in texts]
        return [texts[place] for front in fronts(points)[:1] for place in reversed(front)]

    def _candidates(self, unseen: Sequence[int]) -> list[int]:
        """Places of what is weighed, in random order: what is near the front first, and others to fill."""
        bits = self._coded.bits
        near = differing(bits[unseen], bits[[self._place[text] for text in self._front]]).min(axis=1) <= NEAR
        order = np.lexsort((self._numbers.random(len(unseen)), ~near))
        return [unseen[i] for i in order[:WEIGHED]]

    def _learnt_from(self) -> list[str]:
        rest = [text for text in self._known if text not in self._front]
        return [*self._front, *self._random.sample(rest, max(0, min(len(rest), LEARNT_FROM - len(self._front))))]


class _Listener:
    """A trial that answers with the first choice and remembers what it was asked."""

    def __init__(self) -> None:
        self.asked: dict[str, CategoricalDistribution] = {}

    def suggest_categorical(self, name: str, choices: Sequence[str]) -> str:
        """The first choice."""
        self.asked[name] = CategoricalDistribution(choices)
        return choices[0]


def _distributions(space: SearchSpace, num_layers: int) -> dict[str, CategoricalDistribution]:
    """What `space` asks of a trial."""
    trial = _Listener()
    space.suggest(trial, num_layers)
    return trial.asked
