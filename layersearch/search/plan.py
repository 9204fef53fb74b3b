"""What a run would do and cost, without training anything.

Knows: the question, counts of parameters, sizes of splits. Does not know: studies, how it is shown.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain, islice
from statistics import fmean
from typing import Literal

from layersearch.models.families import Form, form_of
from layersearch.pattern import Pattern
from layersearch.search.one_shot import FEWEST_TUNED, MOST_SHARED, MOST_TUNED
from layersearch.search.question import NETWORKS, TRIALS, Prepared, Question
from layersearch.training.recipe import BYTES_A_PARAMETER, Halving, OneShotRecipe
from layersearch.training.schedule import zeros_among

SAMPLED = 500  # patterns of a large space that stand for all

ExportForm = Form | Literal["no weights"]


@dataclass(frozen=True)
class Line:
    """One pattern of the space: its parameters, their share of the unchanged model's, and how it could be exported.

    `costs` are the others by name, in counted units; `within` says whether it keeps the limits. `non_zero` of the
    parameters are not made zero, None where the recipe makes none so.
    """

    pattern: Pattern
    parameters: int
    share: float
    export: ExportForm
    is_start: bool
    costs: Mapping[str, int] = field(default_factory=dict)
    within: bool = True
    non_zero: int | None = None

    def as_record(self) -> dict[str, str | int | float | bool]:
        """Plain values for CSV and JSON."""
        first = (("pattern", str(self.pattern)), ("parameters", self.parameters), ("share", self.share))
        left = {} if self.non_zero is None else {"non_zero": self.non_zero}
        last = {"export": self.export, "is_start": self.is_start, "within_limits": self.within}
        return {**dict(first), **left, **self.costs, **last}


@dataclass(frozen=True)
class Cost:
    """What a run costs at most, in units of one fine-tuning of the unchanged model, and in examples and bytes.

    `fine_tunings` weighs every candidate by its share of the layers' parameters: the start points as they are, the rest
    with the mean of the other patterns of the space (of 500 drawn ones if there are more); with halving one in eta goes
    on from each rung. `confirmation` assumes a
    front of one member a depth.
    """

    trials: int
    examples: int
    fine_tunings: float
    confirmation: float
    checkpoint_bytes: int
    training_bytes: int


def lines(question: Question, limit: int | None = None) -> Iterator[Line]:
    """The patterns of the space, the start points first, at most `limit` of them."""
    start = dict.fromkeys(question.space.start_points(question.num_layers))
    later = (p for p in question.space.patterns(question.num_layers) if p not in start)
    costs = question.costs
    unchanged, replayed = int(question.facts["parameters"]), "replay" in question.facts
    model_type = question.facts.get("model_type", "")
    for pattern in islice(chain(start, later), limit):
        parameters = question.parameters_of(pattern)
        export: ExportForm = "no weights" if replayed else form_of(pattern, model_type)
        others = {name: costs.of(name, pattern) for name in costs.parts if name != "parameters"} if costs else {}
        within = costs is None or costs.allows(pattern)
        left = non_zero(question, pattern) if isinstance(question, Prepared) else None
        yield Line(pattern, parameters, parameters / unchanged, export, pattern in start, others, within, left)


def non_zero(prepared: Prepared, pattern: Pattern) -> int | None:
    """The parameters that the zeros of the recipe leave, to a weight; None where it makes none.

    The unchanged model keeps all where the candidates start from it or learn from it. What is zero without the recipe,
    such as the row of a padding token, is not known before training and counts as not zero.
    """
    zeros, parameters = prepared.what.recipe.zeros, prepared.parameters_of(pattern)
    if zeros is None:
        return None
    dense = prepared.what.method in NETWORKS and pattern == Pattern.full(prepared.num_layers)
    return parameters - (0 if dense else zeros_among(pattern.parameters(prepared.matrices), zeros.share))


def _later(prepared: Prepared, start: Sequence[Pattern]) -> list[Pattern]:
    """The patterns behind the start points, or a fair sample of them: the first ones of the list are the largest."""
    space, layers = prepared.space, prepared.num_layers
    if space.size(layers) <= SAMPLED:
        return [pattern for pattern in _trained(prepared, space.patterns(layers)) if pattern not in start]
    rng = random.Random(0)
    drawn = (space.sample(layers, rng) for _ in range(SAMPLED))
    return [pattern for pattern in _trained(prepared, drawn) if pattern not in start]


def _trained(prepared: Prepared, patterns: Iterable[Pattern]) -> Iterator[Pattern]:
    """Those within the limits; the unchanged model is trained whatever it costs."""
    unchanged, costs = Pattern.full(prepared.num_layers), prepared.costs
    return (pattern for pattern in patterns if pattern == unchanged or costs is None or costs.allows(pattern))


def _work(prepared: Prepared, pattern: Pattern) -> float:
    """The layers' parameters of a candidate as a share of the unchanged model's; of one shared layer, how often."""
    counts = prepared.counts
    if counts.total == counts.fixed:
        return pattern.depth / counts.num_layers
    return (pattern.parameters(counts) - counts.fixed) / (counts.total - counts.fixed)


def cost(prepared: Prepared, trials: int | None, confirm: int) -> Cost:
    """The cost of a run of `trials` trials (None: the method's own number) and `confirm` seeds for its front."""
    if prepared.what.method == "one-shot":
        return _cost_of_one_shot(prepared, trials, confirm)
    counts = prepared.counts
    size = prepared.space.size(prepared.num_layers)
    start = list(_trained(prepared, prepared.space.start_points(prepared.num_layers)))
    later = _later(prepared, start)
    trials = min(trials or TRIALS, len(start) + len(later) if size <= SAMPLED else size)
    first = [_work(prepared, pattern) for pattern in start[:trials]]
    mean = fmean([_work(prepared, pattern) for pattern in later] or first)
    work = sum(first) + mean * (trials - len(first))
    if prepared.what.method == "halving":  # the unchanged model, which comes first, is never stopped
        work = 1 + Halving().work * (work - 1)
    led = _led(prepared)
    return Cost(
        trials=trials,
        examples=round(len(prepared.splits.train) * prepared.what.recipe.epochs),
        fine_tunings=work + led * (trials - 1),
        confirmation=confirm * (1 + (mean + led) * min(prepared.num_layers, trials)),
        checkpoint_bytes=BYTES_A_PARAMETER * counts.total,
        training_bytes=prepared.what.recipe.training_bytes * counts.total,
    )


def _led(prepared: Prepared) -> float:
    """The work beside each fine-tuning where a teacher's hidden states lead: its forward passes are a third of one."""
    return 1 / 3 if "hidden" in prepared.what.recipe.teach else 0.0


def _cost_of_one_shot(prepared: Prepared, trials: int | None, confirm: int) -> Cost:
    """Each seed: the unchanged model, the super-network (it, and drawn patterns of half its size), the candidates.

    The search's own network also scores patterns: a forward pass each of about half the layers, a third of the work of
    training.
    """
    counts, how = prepared.counts, OneShotRecipe()
    size = prepared.space.size(prepared.num_layers)
    trials = min(trials or 1 + min(max(prepared.num_layers - 1, FEWEST_TUNED), MOST_TUNED), size)
    tuning = how.tuning * (1 + 2 * _led(prepared))  # candidates of half the size see the examples twice as often
    a_seed = 1 + 1.5 * how.epochs + tuning * (trials - 1)
    passes = len(prepared.splits.search) / (len(prepared.splits.train) * prepared.what.recipe.epochs)
    return Cost(
        trials=trials,
        examples=round(len(prepared.splits.train) * prepared.what.recipe.epochs),
        fine_tunings=a_seed + min(size, MOST_SHARED) * passes / 6,
        confirmation=confirm * (1 + 1.5 * how.epochs + tuning * min(prepared.num_layers, trials - 1)),
        checkpoint_bytes=BYTES_A_PARAMETER * counts.total,
        training_bytes=prepared.what.recipe.training_bytes * counts.total,
    )
