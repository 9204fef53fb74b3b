"""Costs that are measured: of a few patterns before a search, from which all others follow.

Knows: which patterns tell what the parts of a model cost, and how far the sum of parts is off. Does not know: clocks,
studies. A search trains several candidates at once, and none of them could be timed fairly beside the others; so
nothing is measured while it runs.
"""

from __future__ import annotations

import os
import random
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from itertools import chain
from statistics import median
from typing import TYPE_CHECKING, Any

import numpy as np

from layersearch.counts import count
from layersearch.pattern import Block, Halves, PartCounts, Pattern
from layersearch.search.objectives import COSTS, Costs, off_by
from layersearch.search.question import How, Prepared, What, check_space, resolve_device
from layersearch.search_space import SearchSpace

if TYPE_CHECKING:
    from layersearch.models.base import BaseModel
    from layersearch.search.storage import Say

CHECKED = 4  # drawn patterns on which the sum of parts is compared with a clock
BATCHES = {"latency": 1, "latency-32": 32}
BUSY = 0.75  # of the cores, by the load of the last minute; one busy core of two already disturbs
BATCH = 32  # at which memory and energy are measured


def wanted(what: What) -> tuple[str, ...]:
    """The costs that have to be measured to answer `what`."""
    named = dict.fromkeys([*what.objectives[1:], *(limit.of for limit in what.limits)])
    return tuple(name for name in named if name in COSTS and COSTS[name].measured)


def with_measured(prepared: Prepared, how: How, say: Say, *, stored: bool = True) -> Prepared:
    """`prepared` with the costs that it wants measured, and with the hardware as a part of its purpose.

    What is `stored` with the study holds, if it is there; else nothing may run beside this, and what is measured is
    noted with the study at once, for drivers that begin with this one. Raises LayersearchError for
    a limit that no pattern can keep, ModelError for energy where the machine does not tell it.
    """
    names = wanted(prepared.what)
    if not names:
        return prepared
    device = resolve_device(how.device)
    if not stored:
        return _knowing(prepared, _measure(prepared, names, device, say), device)
    from layersearch.search.found import create_or_load, facts_of
    from layersearch.search.lease import turn_before
    from layersearch.search.purpose import check_purpose
    from layersearch.search.storage import open_storage, parse_url

    storage = open_storage(parse_url(how.storage), say, create=True)
    try:
        with turn_before(storage, how.name):
            facts = facts_of(storage, how.name)
            if made_for := facts.get("purpose"):  # else it is told after the measurement
                check_purpose(how.name, made_for, {**prepared.purpose.as_dict(), "hardware": made_for.get("hardware")})
            known = facts.get("measured")
            if known is not None and set(names) <= set(known["parts"]):
                return _knowing(prepared, known, device)
            found = _knowing(prepared, _measure(prepared, names, device, say), device)
            study = create_or_load(storage, how.name, found.purpose)
            for name, value in found.facts.items():
                study.set_user_attr(name, value)
            return found
    finally:
        storage.engine.dispose()


def _knowing(prepared: Prepared, measured: Mapping[str, Any], device: str) -> Prepared:
    """`prepared` with what was `measured`, and judged with it."""
    from layersearch.models.measure import hardware

    found = with_stored(prepared, measured)
    check_space(found.what, found.space, found.costs, found.task, found.model_type)
    values = {**prepared.purpose.values, "hardware": hardware(device)}
    return replace(found, purpose=replace(prepared.purpose, values=values))


def with_stored(prepared: Prepared, measured: Mapping[str, Any]) -> Prepared:
    """`prepared` with the costs that a study keeps as `measured`, whatever machine that was."""
    parts = {name: PartCounts(fixed, tuple(a), tuple(f)) for name, (fixed, a, f) in measured["parts"].items()}
    return replace(prepared, costs=replace(prepared.costs, parts={**prepared.costs.parts, **parts}), measured=measured)


def _measure(prepared: Prepared, names: Iterable[str], device: str, say: Say) -> dict[str, Any]:
    """Parts by name, and by how much their sums are off, as a study can keep them."""
    from layersearch.models.measure import hardware

    warn_of_others(say)
    base = base_on(prepared, device)
    length, layers = int(prepared.what.recipe.max_length), prepared.num_layers
    found: dict[str, Any] = {"hardware": hardware(device), "tokens": length, "parts": {}, "off": {}}
    for name in names:
        if name == "memory":
            parts, off = _memory(base, prepared.counts, length, device), None
        else:
            say(f"measuring {name} of a few patterns; nothing else should run on this machine meanwhile")
            told = probes(prepared.space, prepared.counts.depths or (layers,))
            drawn = _drawn(prepared.space, layers, prepared.seed, told)
            values = _values(base, name, [*told, *drawn], length, device)
            parts = fitted_parts({pattern: values[pattern] for pattern in told}, layers)
            off = _off(name, parts, {pattern: values[pattern] for pattern in drawn or told})
            say(
                f"{name} of a pattern is the sum of its parts: {off_by(off)} "
                f"({found['hardware']}, {count(length, 'token')})"
            )
        found["parts"][name] = (parts.fixed, parts.attention, parts.ffn)
        found["off"][name] = off
    return found


def warn_of_others(say: Say) -> None:
    """Say it where other work keeps the processor from a fair measurement."""
    load, cores = os.getloadavg()[0], os.cpu_count() or 1
    if load > BUSY * cores:
        say(
            f"warning: this machine is busy (load {load:.1f} on {count(cores, 'core')}): what is measured now is worth "
            "little"
        )


def base_on(prepared: Prepared, device: str) -> BaseModel:
    """The base model with the task's head, on `device`."""
    import torch

    from layersearch.models.base import load_base

    base = load_base(prepared.folder, num_labels=prepared.task.num_labels, kind=prepared.task.kind)
    base.model.to(torch.device(device))  # type: ignore[arg-type]
    return base


def _values(base: BaseModel, name: str, patterns: Iterable[Pattern], length: int, device: str) -> dict[Pattern, int]:
    """What each pattern costs, over the base model's weights: nanoseconds a batch, or microjoules a sequence."""
    from layersearch.models.measure import inputs_of, joules, timed
    from layersearch.models.supernet import SuperNetwork

    network = SuperNetwork(base.model)
    inputs = inputs_of(base.model, BATCHES.get(name, BATCH), length)

    def run(pattern: Pattern) -> object:
        with network.running(pattern) as model:
            return model(**inputs)

    runs = {pattern: partial(run, pattern) for pattern in patterns}
    if name == "energy":
        return {pattern: round(1e6 * joules(one, device) / BATCH) for pattern, one in runs.items()}
    return {pattern: timing.median for pattern, timing in timed(runs, device).items()}


def _memory(base: BaseModel, counts: PartCounts, length: int, device: str) -> PartCounts:
    """Bytes of a forward pass: the weights (fp32) by part, and once the most that the unchanged model holds beside."""
    from layersearch.models.measure import activation_bytes, inputs_of

    inputs = inputs_of(base.model, BATCH, length)
    beside = activation_bytes(lambda: base.model(**inputs), device)
    attention, ffn = (tuple(4 * part for part in half) for half in (counts.attention, counts.ffn))
    return PartCounts(4 * counts.fixed + beside, attention, ffn)


def probes(space: SearchSpace, depths: Sequence[int]) -> list[Pattern]:
    """The patterns that tell the parts: all layers, half of them, one; with halves, all attention and all FFN too.

    `depths` are those of the model's stacks, of which each keeps its share.
    """
    starts = [sum(depths[:stack]) for stack in range(len(depths))]
    found = []
    for kept in (depths, [max(1, depth // 2) for depth in depths], [1 for _ in depths]):
        layers = [range(start, start + number) for start, number in zip(starts, kept, strict=True)]
        found.append(Pattern.of_layers(chain(*layers)))
    if not space.has_halves(sum(depths)):
        return list(dict.fromkeys(found))
    both: tuple[Halves, ...] = ("attention", "ffn")
    halves = (tuple(Block(layer, half) for layer in range(sum(depths))) for half in both)
    return list(dict.fromkeys([*found, *map(Pattern, halves)]))


def _drawn(space: SearchSpace, num_layers: int, seed: int, told: Iterable[Pattern]) -> list[Pattern]:
    rng = random.Random(seed)
    drawn = dict.fromkeys(space.sample(num_layers, rng) for _ in range(8 * CHECKED))
    return [pattern for pattern in drawn if pattern not in set(told)][:CHECKED]


def fitted_parts(values: Mapping[Pattern, int], num_layers: int) -> PartCounts:
    """What is outside the layers, an attention half and an FFN half, so that their sums come nearest to `values`.

    Least squares of relative errors with no part below zero (Lawson and Hanson's NNLS); layers count as alike.
    """
    from scipy.optimize import nnls

    rows = []
    for pattern in values:
        attention = sum(block.halves != "ffn" for block in pattern.blocks)
        rows.append((1, attention, sum(block.halves != "attention" for block in pattern.blocks)))
    measured = np.array(list(values.values()), dtype=float)
    fixed, attention, ffn = nnls(np.array(rows) / measured[:, None], np.ones(len(measured)))[0]
    return PartCounts(round(fixed), (round(attention),) * num_layers, (round(ffn),) * num_layers)


def _off(name: str, parts: PartCounts, values: Mapping[Pattern, int]) -> tuple[float, float, int]:
    """Median and largest relative error of the sums of parts, over so many patterns."""
    costs = Costs({"parameters": parts, name: parts})
    errors = [abs(costs.of(name, pattern) - value) / value for pattern, value in values.items()]
    return round(median(errors), 4), round(max(errors), 4), len(errors)
