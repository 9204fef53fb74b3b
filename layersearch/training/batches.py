"""Encoded examples to padded batches, examples of like length together.

Knows: flat arrays of tokens, which of their places a kind of task counts, and how to cut them into tensors. Does not
know: tokenizers, tasks, models.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from layersearch.kinds import KINDS, KindName
from layersearch.tasks.task import Encoded

if TYPE_CHECKING:
    import torch

SCORED_LOGITS = 1 << 26  # of a batch that is not trained on: 256 MB in fp32
BUCKET_BATCHES = 16  # batches that are sorted by length together: more pads less and shuffles less


def training_order(lengths: NDArray[np.int64], batch_size: int, rng: np.random.Generator) -> list[NDArray[np.int64]]:
    """One epoch of batches in random order: indices, each batch of like `lengths` (int64 [n], tokens).

    Shuffles, sorts by length inside windows of `BUCKET_BATCHES` batches, cuts, and shuffles the batches, so that every
    example comes once an epoch and little is padded.
    """
    shuffled = rng.permutation(len(lengths))
    window = batch_size * BUCKET_BATCHES
    batches: list[NDArray[np.int64]] = []
    for start in range(0, len(shuffled), window):
        part = shuffled[start : start + window]
        part = part[np.argsort(lengths[part], kind="stable")]
        batches += [part[i : i + batch_size] for i in range(0, len(part), batch_size)]
    rng.shuffle(batches)
    return batches


def pieces_of(encoded: Encoded, indices: NDArray[np.int64], tokens: int) -> list[NDArray[np.int64]]:
    """The examples at `indices` in pieces of like number, each one example or at most `tokens` with padding."""
    at_once = max(1, tokens // max(1, int(lengths_of(encoded, indices).max(initial=1))))
    return np.array_split(indices, -(-len(indices) // at_once))


def scoring_order(lengths: NDArray[np.int64], batch_size: int, width: int = 1) -> list[NDArray[np.int64]]:
    """All examples once, longest first, so that memory is at its height in the first batch.

    Where each token has `width` logits, no batch has more than `SCORED_LOGITS`, or it is one example.
    """
    batch_size = max(1, min(batch_size, SCORED_LOGITS // (width * int(lengths.max(initial=1)))))
    order = np.argsort(-lengths, kind="stable")
    return [order[i : i + batch_size] for i in range(0, len(order), batch_size)]


@dataclass(frozen=True)
class Batch:
    """Padded examples: model inputs, `labels` of its units, places of these in the data, tokens of each example."""

    inputs: dict[str, torch.Tensor]
    labels: torch.Tensor
    units: NDArray[np.int64]
    lengths: Sequence[int]


def batch_of(
    encoded: Encoded, indices: NDArray[np.int64], kind: KindName, device: torch.device, pad: int, left: bool = False
) -> Batch:
    """The examples at `indices` on `device`, with what the losses of `kind` need; padded as `collate` does."""
    import torch

    units = tokens_of(encoded, indices) if KINDS[kind].per_token else indices
    labels = torch.from_numpy(encoded.labels[units]).to(device, non_blocking=True)
    return Batch(collate(encoded, indices, device, pad, left), labels, units, lengths_of(encoded, indices).tolist())


def lengths_of(encoded: Encoded, indices: NDArray[np.int64]) -> NDArray[np.int64]:
    """Tokens of the examples at `indices`, int64 [batch]."""
    return encoded.offsets[indices + 1] - encoded.offsets[indices]


def tokens_of(encoded: Encoded, indices: NDArray[np.int64]) -> NDArray[np.int64]:
    """Places in the flat arrays of the tokens of the examples at `indices`, those of one after those of the other."""
    return np.concatenate([np.arange(encoded.offsets[i], encoded.offsets[i + 1]) for i in indices])


def collate(
    encoded: Encoded, indices: NDArray[np.int64], device: torch.device, pad: int, left: bool = False
) -> dict[str, torch.Tensor]:
    """The examples at `indices` as int64 tensors [batch, longest] on `device`: ids padded with `pad`, mask, types.

    With `left` examples end together, as XLNet wants them, which reads a text's class off its last token. Images come
    as float32 [batch, channels, height, width].
    """
    import torch

    if encoded.pixels is not None:
        values = torch.from_numpy(encoded.pixels[indices]).to(device).float()
        if encoded.colours is not None:
            factor, added = torch.from_numpy(encoded.colours).to(device)[:, :, None, None]
            values = values * factor + added
        return {"pixel_values": values}
    lengths, tokens = lengths_of(encoded, indices), tokens_of(encoded, indices)
    shape = (len(indices), int(lengths.max()))
    mask = np.arange(shape[1])[None, :] < lengths[:, None]
    mask = mask[:, ::-1] if left else mask
    ids = np.full(shape, pad, dtype=np.int64)
    ids[mask] = encoded.input_ids[tokens]
    arrays = {"input_ids": ids, "attention_mask": mask.astype(np.int64)}
    if encoded.token_type_ids is not None:
        types = np.zeros(shape, dtype=np.int64)
        types[mask] = encoded.token_type_ids[tokens]
        arrays["token_type_ids"] = types
    return {name: torch.from_numpy(array).to(device, non_blocking=True) for name, array in arrays.items()}
