"""Encoded examples to padded batches, examples of like length together.

Knows: flat arrays of tokens and how to cut them into tensors. Does not know: tokenizers, tasks, models.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from layersearch.tasks.task import Encoded

if TYPE_CHECKING:
    import torch

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


def scoring_order(lengths: NDArray[np.int64], batch_size: int) -> list[NDArray[np.int64]]:
    """All examples once, longest first, so that memory is at its height in the first batch."""
    order = np.argsort(-lengths, kind="stable")
    return [order[i : i + batch_size] for i in range(0, len(order), batch_size)]


def collate(
    encoded: Encoded, indices: NDArray[np.int64], device: torch.device, pad: int, left: bool = False
) -> dict[str, torch.Tensor]:
    """The examples at `indices` as int64 tensors [batch, longest] on `device`: ids padded with `pad`, mask, types.

    With `left` examples end together, as XLNet wants them, which reads a text's class off its last token.
    """
    import torch

    lengths = encoded.lengths[indices]
    shape = (len(indices), int(lengths.max()))
    mask = np.arange(shape[1])[None, :] < lengths[:, None]
    mask = mask[:, ::-1] if left else mask
    tokens = np.concatenate([np.arange(encoded.offsets[i], encoded.offsets[i + 1]) for i in indices])
    ids = np.full(shape, pad, dtype=np.int64)
    ids[mask] = encoded.input_ids[tokens]
    arrays = {"input_ids": ids, "attention_mask": mask.astype(np.int64)}
    if encoded.token_type_ids is not None:
        types = np.zeros(shape, dtype=np.int64)
        types[mask] = encoded.token_type_ids[tokens]
        arrays["token_type_ids"] = types
    return {name: torch.from_numpy(array).to(device, non_blocking=True) for name, array in arrays.items()}
