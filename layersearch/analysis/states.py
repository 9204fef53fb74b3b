"""Hidden states of a model over encoded examples, a batch at a time: what every analysis of layers looks at.

Knows: a model of the families table, encoded examples, what one row of an analysis is. Does not know: labels, what is
made of the states. A pass goes on from group to group of examples, so that memory does not grow with their number.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import PreTrainedModel

from layersearch.analysis.wanted import RowsOf
from layersearch.errors import ModelError
from layersearch.models.surgery import family_in, layers_of, stacks_of
from layersearch.tasks.task import Encoded
from layersearch.training.batches import collate, scoring_order
from layersearch.training.influence import as_batches, first_of, hidden_states, mask_of
from layersearch.training.steps import pad_of

BATCH = 32  # examples that run at once
SPREAD = 4  # groups of tokens hold so many times the rows that are asked for, so that few of a row's fellows are near
IN_MEMORY = 256 << 20  # bytes of rows that are not memory-mapped

Floats = NDArray[np.float32]
Indices = NDArray[np.int64]


@dataclass(frozen=True)
class Seen:
    """A batch after its run: which examples they are, and `states` [batch, longest, width], fp32.

    The states stand before the first layer, then after every half, so there are 2 layers + 1 of them. `mask` is 1 for
    tokens that are no padding [batch, longest]; `first` is the place of the token that stands for a text.
    """

    examples: Indices
    states: list[torch.Tensor]
    mask: torch.Tensor
    first: int

    def rows(self, of: RowsOf) -> torch.Tensor:
        """The rows of the batch at all places, [2 layers + 1, rows, width]; tokens come example after example."""
        if of == "first":
            return torch.stack([state[:, self.first] for state in self.states])
        if of == "every":
            return torch.stack([state[self.mask.bool()] for state in self.states])
        shares = self.mask / self.mask.sum(dim=1, keepdim=True)
        return torch.stack([torch.einsum("btw,bt->bw", state.float(), shares) for state in self.states])


Hear = Callable[[Seen], None]


def require_one_stack(model: PreTrainedModel, instead: str) -> None:
    """Raise ModelError for a model with an encoder and a decoder; `instead` says what to do."""
    if len(stacks_of(model)) > 1:
        raise ModelError(
            f"similarities are measured over one stack of layers, and this {model.config.model_type} model has an "
            f"encoder and a decoder; {instead}"
        )


def walk(model: PreTrainedModel, encoded: Encoded, chosen: Indices, size: int = BATCH) -> Iterator[Seen]:
    """Run the examples `chosen`, `size` at once, the longest first; forward passes only, in evaluation mode.

    The model is of one stack (`require_one_stack`) and is left in evaluation mode. Raises ModelError where its layers
    hand on no hidden states.
    """
    model.eval()  # type: ignore[no-untyped-call]
    family, layers = family_in(model), len(layers_of(model))
    for places in scoring_order(encoded.lengths[chosen], size):
        inputs = collate(encoded, chosen[places], model.device, *pad_of(model))
        with torch.inference_mode(), hidden_states(model) as found:
            model.base_model(**inputs)  # without the head, whose logits may be many
            states = as_batches(found[0], found[0][0], family) if found[0] else []
        if len(states) != 2 * layers + 1 or any(state.ndim != 3 for state in states):
            raise ModelError(
                f"the layers of this {model.config.model_type} model hand on no hidden states [batch, tokens, width] "
                "that could be looked at; choose a model of the families table"
            )
        yield Seen(chosen[places], states, mask_of(inputs, states[0]), first_of(family))


def groups_of(lengths: Indices, chosen: Indices, rows: int, of: RowsOf, seed: int) -> list[Indices]:
    """The examples `chosen` in random groups of about `rows` rows each; of tokens, SPREAD times as many."""
    order = np.random.default_rng(seed).permutation(chosen)
    each = lengths[order] if of == "every" else np.ones(len(order), dtype=np.int64)
    most = rows * (SPREAD if of == "every" else 1)
    number = max(1, -(-int(each.sum()) // most))
    ends = np.searchsorted(np.cumsum(each), np.arange(1, number) * each.sum() / number, side="left") + 1
    return [group for group in np.split(order, ends) if len(group)]


def rows_of(
    model: PreTrainedModel, encoded: Encoded, group: Indices, of: RowsOf, hear: Sequence[Hear] = (), size: int = BATCH
) -> torch.Tensor:
    """The rows of a group, [2 layers + 1, rows, width], in the order of the examples' numbers.

    Each of `hear` is told of every batch. Of tokens, those of batches follow each other: two models have one order
    exactly if they cut the texts alike.
    """
    found, order = [], []
    for seen in walk(model, encoded, group, size):
        for listener in hear:
            listener(seen)
        found.append(seen.rows(of))
        order.append(seen.examples)
    rows = torch.cat(found, dim=1)
    return rows if of == "every" else rows[:, torch.from_numpy(np.argsort(np.concatenate(order))).to(rows.device)]


def layer_rows(
    model: PreTrainedModel, encoded: Encoded, of: RowsOf, heartbeat: Callable[[float], None] = lambda _: None
) -> Floats:
    """One row an example at each place between layers, float32 [layers + 1, n, width]; memory-mapped if large.

    One forward pass over all examples. `of` is `mean` or `first`; `heartbeat` is told the share that is done.
    """
    kept: Floats | None = None
    done = 0
    for seen in walk(model, encoded, np.arange(len(encoded))):
        rows = seen.rows(of)[::2].cpu().numpy()
        if kept is None:
            kept = roomy((rows.shape[0], len(encoded), rows.shape[2]))
        kept[:, seen.examples] = rows
        done += len(seen.examples)
        heartbeat(done / len(encoded))
    assert kept is not None
    return kept


def roomy(shape: tuple[int, ...]) -> Floats:
    """An array for float32 numbers; a large one lies in an unnamed file that vanishes with it."""
    if 4 * int(np.prod(shape)) <= IN_MEMORY:
        return np.empty(shape, dtype=np.float32)
    with tempfile.TemporaryFile(prefix="layersearch-") as file:
        return np.memmap(file, np.float32, mode="w+", shape=shape)
