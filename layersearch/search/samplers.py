"""Optuna's samplers by name, seeded.

Knows: which of them fit a search over categories with two objectives. Does not know: spaces, studies.
"""

from __future__ import annotations

import warnings
from typing import Any

import optuna

from layersearch.errors import StudyError
from layersearch.names import unknown

# These need arguments of their own, or (CMA-ES) unpickle what they find in the database and know no categories.
_UNFIT = {"BaseSampler", "BaseGASampler", "GridSampler", "PartialFixedSampler", "CmaEsSampler"}
POPULATION = 10  # of NSGA-II and NSGA-III


def make_sampler(name: str, seed: int) -> optuna.samplers.BaseSampler:
    """Any sampler of `optuna.samplers` by its class name, seeded; raises StudyError for another name.

    NSGA-II gets a population of 10 (Klein et al.): with Optuna's 50 a search of 50 trials is a random one.
    """
    known = sorted(n for n in optuna.samplers.__all__ if n.endswith("Sampler") and n not in _UNFIT)
    if name not in known:
        raise StudyError(unknown("sampler", name, known))
    kwargs: dict[str, Any] = {} if name == "BruteForceSampler" else {"seed": seed}
    if name in ("NSGAIISampler", "NSGAIIISampler"):
        kwargs["population_size"] = POPULATION
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        sampler: optuna.samplers.BaseSampler = getattr(optuna.samplers, name)(**kwargs)
    return sampler
