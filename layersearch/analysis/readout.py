"""The read-out of every layer by the model's own head over the vocabulary (logit lens): which token it says already.

Knows: a model with its language head, encoded texts, an edited model beside it. Does not know: patterns, tasks. Kao et
al., arXiv 2001.09309, read BERT's layers by its masked language head; for decoders the same is known as the logit lens.

What a layer leaves goes where the last layer's answer goes: through the final norm, if the model has one, and the head.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from transformers import PreTrainedModel

from layersearch.analysis.states import require_one_stack
from layersearch.errors import DataError
from layersearch.kinds import IGNORED, logits_a_unit
from layersearch.models.language import LanguageModel
from layersearch.models.surgery import build, layers_of
from layersearch.pattern import Pattern
from layersearch.tasks.metrics import interval_of_share
from layersearch.tasks.task import Encoded
from layersearch.training.batches import collate, scoring_order
from layersearch.training.influence import hidden_states
from layersearch.training.steps import pad_of

BATCH = 16  # texts at once

Shares = tuple[float, ...]
Intervals = tuple[tuple[float, float], ...]


@dataclass(frozen=True)
class ReadOut:
    """What a model's places say, before its first layer and after each, over `tokens` tokens of `texts` texts.

    `reconstruction` is the share of tokens that a place says right: the token itself, or of a decoder (`foretells`) the
    next. `agreement` is the share at which it says what the unmodified model says at its end. Both with 95 % bootstrap
    intervals over texts.
    """

    reconstruction: Shares
    reconstruction_intervals: Intervals
    agreement: Shares
    agreement_intervals: Intervals
    tokens: int
    texts: int
    foretells: bool


def read_out(
    first: LanguageModel,
    encoded: Encoded,
    special: Collection[int] = (),
    others: Sequence[LanguageModel] = (),
    heartbeat: Callable[[float], None] = lambda _: None,
) -> list[ReadOut]:
    """Read the layers of `first`, the unmodified model, and of `others`, which read the same tokens, over all texts.

    Tokens that are among `special`, such as separators, are neither counted as they stand nor as what comes next.
    Raises ModelError for a model with two stacks, DataError where no token is left to be counted.
    """
    models = [first, *others]
    for one in models:
        require_one_stack(one.model, "leave readout out of --what")
    tails = [_tail(one.model) for one in models]
    counts = [np.zeros((2, len(layers_of(one.model)) + 1, len(encoded))) for one in models]
    tokens = np.zeros(len(encoded))
    special_ids = torch.tensor(sorted(special), dtype=torch.int64, device=first.model.device)
    order = scoring_order(encoded.lengths, BATCH, logits_a_unit(first.model.config, "causal-lm"))
    for done, texts in enumerate(order, 1):
        inputs = collate(encoded, texts, first.model.device, *pad_of(first.model))
        wanted = _wanted(inputs, special_ids, first.foretells)
        counted = wanted != IGNORED
        tokens[texts] = counted.sum(dim=1).cpu().numpy()
        runs = [_run(one.model, inputs) for one in models]
        told = runs[0][1]
        for (states, _), tail, count in zip(runs, tails, counts, strict=True):
            for place, said in enumerate(_read(tail, states, inputs)):
                hits = torch.stack([said == wanted, said == told]) & counted
                count[:, place, texts] = hits.sum(dim=2).cpu().numpy()
        heartbeat(done / len(order))
    if not tokens.sum():
        raise DataError("the texts hold no token that could be read out; take others, or more with --examples")
    return [_as_read_out(count, tokens, first.foretells) for count in counts]


@torch.inference_mode()
def _run(model: PreTrainedModel, inputs: dict[str, torch.Tensor]) -> tuple[list[torch.Tensor], torch.Tensor]:
    """The states before the first layer and after each, and the tokens [batch, longest] that the model says."""
    with hidden_states(model) as states:
        logits = model(**inputs).logits
    return states[0][::2], logits.argmax(dim=-1)


@torch.inference_mode()
def _read(tail: PreTrainedModel, states: Sequence[torch.Tensor], inputs: dict[str, torch.Tensor]) -> list[torch.Tensor]:
    """The tokens [batch, longest] that `tail` says of each state."""
    found = []
    for state in states:
        with _given(layers_of(tail)[0], state):
            found.append(tail(**inputs).logits.argmax(dim=-1))
    return found


def _tail(model: PreTrainedModel) -> PreTrainedModel:
    """What follows the layers: the model with one layer, in whose place any state can be given."""
    return build(model, Pattern.of_layers([0])).eval()  # type: ignore[no-untyped-call, no-any-return]


@contextmanager
def _given(layer: nn.Module, state: torch.Tensor) -> Iterator[None]:
    """Let a layer answer with `state`, whatever it gets."""

    def instead(_: nn.Module, __: object, answer: Any) -> Any:
        return (state, *answer[1:]) if isinstance(answer, tuple) else state

    handle = layer.register_forward_hook(instead)
    try:
        yield
    finally:
        handle.remove()


def _wanted(inputs: dict[str, torch.Tensor], special: torch.Tensor, foretells: bool) -> torch.Tensor:
    """The token that is right at each place [batch, longest], IGNORED where none is counted."""
    ids = inputs["input_ids"]
    known = inputs["attention_mask"].bool() & ~torch.isin(ids, special)
    wanted = ids.where(known, IGNORED)
    if not foretells:
        return wanted
    after = torch.full_like(wanted, IGNORED)
    after[:, :-1] = wanted[:, 1:]
    return after.where(inputs["attention_mask"].bool(), IGNORED)


def _as_read_out(count: NDArray[np.float64], tokens: NDArray[np.float64], foretells: bool) -> ReadOut:
    there = tokens > 0
    shares = count[:, :, there].sum(axis=2) / tokens.sum()
    intervals = [[interval_of_share(hits[there], tokens[there]) for hits in row] for row in count]
    return ReadOut(
        reconstruction=tuple(shares[0].tolist()),
        reconstruction_intervals=tuple(intervals[0]),
        agreement=tuple(shares[1].tolist()),
        agreement_intervals=tuple(intervals[1]),
        tokens=int(tokens.sum()),
        texts=int(there.sum()),
        foretells=foretells,
    )
