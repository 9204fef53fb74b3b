"""Samplers by name, seeded: Optuna's own, and the one that knows patterns.

Knows: which of them fit a search over categories with two objectives. Does not know: studies, what a pattern is.
"""

from __future__ import annotations

import warnings
from typing import Any

import optuna

from layersearch.errors import WordsError
from layersearch.names import unknown
from layersearch.search.objectives import Costs
from layersearch.search.sampler_pattern import PatternSampler
from layersearch.search_space import SearchSpace

# These need arguments of their own, or (CMA-ES) unpickle what they find in the database and know no categories.
_UNFIT = {"BaseSampler", "BaseGASampler", "GridSampler", "PartialFixedSampler", "CmaEsSampler"}
POPULATION = 10  # of NSGA-II and NSGA-III
OURS = "PatternSampler"
GREEDY, EXHAUSTIVE = "greedy", "exhaustive"  # no samplers: `orders.py` says what comes next


def check_sampler(name: str) -> None:
    """Raise WordsError unless `name` is PatternSampler, an order, or a sampler of `optuna.samplers` that fits."""
    known = sorted(n for n in optuna.samplers.__all__ if n.endswith("Sampler") and n not in _UNFIT)
    if name not in (ours := (OURS, GREEDY, EXHAUSTIVE)) and name not in known:
        raise WordsError(unknown("sampler", name, (*ours, *known)))


def make_sampler(
    name: str, seed: int, space: SearchSpace | None, num_layers: int, costs: Costs | None = None
) -> optuna.samplers.BaseSampler:
    """The sampler called `name`, seeded; raises WordsError like `check_sampler`.

    NSGA-II and NSGA-III get a population of 10 (Klein et al.): with Optuna's 50 a search of 50 trials is a random one.
    `costs` are the study's, None for parameters alone; Optuna's samplers read values and constraints from the trials.
    Without a space, or where an order proposes, the sampler has nothing to say and is Optuna's random one.
    """
    check_sampler(name)
    if space is None or name in (GREEDY, EXHAUSTIVE):
        return optuna.samplers.RandomSampler(seed=seed)
    if name == OURS:
        return PatternSampler(space, num_layers, seed, costs)
    kwargs: dict[str, Any] = {} if name == "BruteForceSampler" else {"seed": seed}
    if name in ("NSGAIISampler", "NSGAIIISampler"):
        kwargs["population_size"] = POPULATION
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        sampler: optuna.samplers.BaseSampler = getattr(optuna.samplers, name)(**kwargs)
    return sampler
