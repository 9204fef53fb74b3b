"""Replay: a table of known scores answers in place of training, through the same study, driver and front.

Knows: what a study must be told of a table. Does not know: files, models, data, training.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from layersearch.errors import SpaceError
from layersearch.pattern import Pattern
from layersearch.search.purpose import Purpose
from layersearch.search.samplers import check_sampler
from layersearch.search.scores import Table
from layersearch.search_space import SearchSpace
from layersearch.search_space import load as load_space
from layersearch.training.evaluator import Job, Outcome


@dataclass(frozen=True)
class Replay:
    """A question that a table answers: in place of a `Prepared`, without model and data.

    `space` reaches as far as the table does, so that a search always ends; `purpose` tells the table by its hash.
    """

    table: Table
    space: SearchSpace
    space_name: str
    sampler: str
    seed: int
    purpose: Purpose

    @property
    def num_layers(self) -> int:
        """Layers of the model that the table is about."""
        return self.table.num_layers

    def parameters(self, pattern: Pattern) -> int:
        """Parameters of a pattern of the table."""
        return self.table.known[str(pattern)].parameters

    @property
    def facts(self) -> dict[str, Any]:
        """What reports need to know of it."""
        return {
            "replay": self.table.name,
            "num_layers": self.table.num_layers,
            "parameters": self.table.unchanged,
            "space_name": self.space_name,
        }

    @property
    def default_name(self) -> str:
        """The name of the study unless the user gives one."""
        return f"{Path(self.table.name).stem}-{Path(self.space_name).stem}"

    def evaluate(self, job: Job, _heartbeat: Callable[[float], None] | None = None) -> Outcome:
        """The outcome of `job`: what the table says of its pattern, whatever the seed."""
        known = self.table.known[job.pattern]
        metrics = {self.table.metric: known.score}
        return Outcome(
            job.number, job.pattern, job.seed, score=known.score, metrics=metrics, parameters=known.parameters
        )


def replay_of(table: Table, space_name: str, sampler: str, seed: int) -> Replay:
    """The search of a space (a shipped name or a TOML file) as far as `table` reaches. Raises SpaceError."""
    layers = table.num_layers
    space = load_space(space_name)
    within = space.within(map(Pattern.parse, table.known), layers)
    if within.size(layers) < 2:
        raise SpaceError(
            f"{table.name} has {within.size(layers)} patterns of the space {space_name} and {len(table.known)} in all; "
            "name a space that holds more of them"
        )
    check_sampler(sampler)
    values = {"replay": table.fingerprint, "space": space.canonical(), "sampler": sampler, "seed": seed}
    return Replay(table, within, space_name, sampler, seed, Purpose(values, table.metric, table.direction))
