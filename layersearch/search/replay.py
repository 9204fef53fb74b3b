"""Replay: a table of known scores answers in place of training, through the same study, driver and front.

Knows: what a study must be told of a table. Does not know: what a file looks like, models, data, training.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable
from dataclasses import dataclass
from typing import Any

from layersearch.errors import DataError, SpaceError
from layersearch.pattern import Pattern
from layersearch.search.orders import check_order
from layersearch.search.purpose import Purpose
from layersearch.search.quality import layer_share
from layersearch.search.question import Lookup
from layersearch.search.samplers import check_sampler
from layersearch.search.scores import Table, read_table
from layersearch.search_space import SearchSpace
from layersearch.space_files import load as load_space
from layersearch.training.job import Job, Outcome
from layersearch.training.recipe import Halving

SAME_RUNG = 0.001  # shares of the training that differ by no more are one rung: 0.333 in a table is a third


@dataclass(frozen=True)
class Replay:
    """A question that a table answers: in place of a `Prepared`, without model and data.

    `space` reaches as far as the table does, so that a search always ends; `purpose` tells the table by its hash.
    With `halving` the table answers at its rungs too.
    """

    table: Table
    space: SearchSpace
    space_name: str
    sampler: str
    seed: int
    purpose: Purpose
    halving: Halving | None = None

    @property
    def costs(self) -> None:
        """A table tells parameters alone."""

    @property
    def num_layers(self) -> int:
        """Layers of the model that the table is about."""
        return self.table.num_layers

    @property
    def facts(self) -> dict[str, Any]:
        """What reports need to know of it."""
        facts = {
            "replay": self.table.name,
            "num_layers": self.table.num_layers,
            "parameters": self.table.unchanged,
            "space_name": self.space_name,
        }
        return facts if self.table.sized else {**facts, "parameters_are": "thirds of a layer"}

    def parameters_of(self, pattern: Pattern) -> int:
        """Parameters of a candidate that the table has, as it counts them."""
        return self.table.known[str(pattern)].parameters

    def evaluate(self, job: Job, _heartbeat: Callable[[float], None] | None = None) -> Outcome:
        """The outcome of `job`: what the table says of its pattern, whatever the seed."""
        *_, outcome = self.course(job)
        return outcome

    def course(self, job: Job, _heartbeat: Callable[[float], None] | None = None) -> Generator[Outcome, None, None]:
        """What the table says at each rung of `job`, and at its end. `work` is that of the training."""
        known = self.table.known[job.pattern]
        size = layer_share(Pattern.parse(job.pattern), self.num_layers)
        for share in job.rungs or (1.0,):
            score = known.score if share == 1.0 else known.rungs[_nearest(known.rungs, share)]
            yield Outcome(
                job.number,
                job.pattern,
                job.seed,
                score=score,
                metrics={self.table.metric: score},
                parameters=known.parameters,
                work=size * share,
                rung=None if share == 1.0 else share,
            )


def _nearest(known: Iterable[float], share: float) -> float:
    return min(known, key=lambda other: abs(other - share))


def look_up(asked: Lookup) -> Replay:
    """The search that `asked` wants. Raises DataError for the table, SpaceError for the space."""
    table = read_table(asked.table, asked.score, dict(asked.where), asked.direction)
    return replay_of(table, asked.space, asked.sampler, asked.seed)


def replay_of(table: Table, space_name: str, sampler: str, seed: int, halving: Halving | None = None) -> Replay:
    """The search of a space (a shipped name or a TOML file) as far as `table` reaches.

    Raises SpaceError where that is nowhere, and DataError if the table does not have the rungs of `halving`.
    """
    if halving is not None:
        _check_rungs(table, halving)
    layers = table.num_layers
    space = load_space(space_name)
    within = space.within(map(Pattern.parse, table.known), layers)
    if within.size(layers) < 2:
        raise SpaceError(
            f"a search needs two patterns: {table.name} has {len(table.known)}, {within.size(layers)} of them in the "
            f"space {space_name}; name a table or a space that holds more of them"
        )
    check_sampler(sampler)
    check_order(sampler, within, layers)
    values = {"replay": table.fingerprint, "space": space.canonical(), "sampler": sampler, "seed": seed}
    if halving is not None:
        values |= {f"halving.{name}": value for name, value in vars(halving).items()}
    return Replay(table, within, space_name, sampler, seed, Purpose(values, table.metric, table.direction), halving)


def _check_rungs(table: Table, halving: Halving) -> None:
    there = next(iter(table.known.values())).rungs
    wanted = halving.rungs()[:-1]
    if any(all(abs(share - other) > SAME_RUNG for other in there) for share in wanted):
        has = " and ".join(f"{share:.3g}" for share in sorted(there)) or "no share below 1"
        raise DataError(
            f"{table.name} has scores at {has} of the training, and halving needs them at "
            f"{' and '.join(f'{share:.3g}' for share in wanted)}; name their columns, or give halving other rungs"
        )
