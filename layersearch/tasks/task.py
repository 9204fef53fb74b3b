"""What a task is: its splits, features, head, metric and direction.

Knows: texts, labels and their tokenised form as flat arrays. Does not know: models, training, the search, or where a
given task's data comes from (that is one file a task beside this one).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from layersearch.kinds import KindName
    from layersearch.tasks.metrics import Noise

VALIDATION_SHARE = 0.15  # of a user's data becomes the validation set where none is given
DRAW_SEED = 0  # of what a task draws of its data: other seeds of a study are scored on the same validation set

Labels = NDArray[np.int64] | NDArray[np.int32] | NDArray[np.int8] | NDArray[np.float32]


@dataclass(frozen=True)
class Examples:
    """Raw examples of one split.

    `text` and `pair` hold n strings each (`pair` is None for single-sentence tasks), for images the names of their
    files; an export is proven on the first of them. `labels` is int64 [n] for classification (0 .. num_labels - 1),
    float32 [n] for regression, float32 [n, num_labels] of 0 and 1 for multi-label; in the kinds of tokens it is an
    object array [n] of what the task's own file says.
    """

    text: Sequence[str]
    pair: Sequence[str] | None
    labels: NDArray[Any]

    def __len__(self) -> int:
        return len(self.text)

    def take(self, indices: NDArray[np.int64]) -> Examples:
        """The examples at `indices`, in that order."""
        return Examples(
            text=taken(self.text, indices),
            pair=None if self.pair is None else taken(self.pair, indices),
            labels=self.labels[indices],
        )


@runtime_checkable
class Column(Protocol):
    """Texts that lie on the disk: they are read when they are asked for, and so is what is taken of them."""

    def take(self, indices: NDArray[np.int64]) -> Sequence[str]: ...


def taken(texts: Sequence[str], indices: NDArray[np.int64]) -> Sequence[str]:
    """The texts at `indices`, in that order; those of a `Column` stay on the disk."""
    return texts.take(indices) if isinstance(texts, Column) else tuple(texts[i] for i in indices)


@dataclass(frozen=True)
class Splits:
    """The three parts of a task's data, and what identifies them.

    `train` is what candidates are fine-tuned on, `search` the part of the training data held out for the search,
    `validation` the official validation set, which only the confirmation may touch. `fingerprint` is a hash over all
    texts and labels; `warnings` are one-line remarks about the data for the user.
    """

    train: Examples
    search: Examples
    validation: Examples
    fingerprint: str
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True)
class Encoded:
    """Tokenised examples, flat so that Ray's object store shares them between processes without a copy.

    Example i has the tokens `input_ids[offsets[i]:offsets[i + 1]]`. `input_ids` int32 [tokens]; `token_type_ids` int8
    [tokens] or None where the tokenizer makes none; `offsets` int64 [n + 1]. `labels` are as in `Examples`, or of
    tokens: integers [tokens], kinds.IGNORED where there is none; for a span bits (kinds.STARTS, kinds.ENDS), for a
    causal language model the token that follows. Images have `pixels` [n, channels, height, width] in place of tokens,
    and one token each by `offsets`; where they are bytes, `colours` [2, channels] is what these are multiplied by and
    what is added then. `about` is what the task needs beside labels to score, numbers in arrays.
    """

    input_ids: NDArray[np.int32]
    token_type_ids: NDArray[np.int8] | None
    offsets: NDArray[np.int64]
    labels: Labels
    pixels: NDArray[np.float32] | NDArray[np.float16] | NDArray[np.uint8] | None = None
    colours: NDArray[np.float32] | None = None
    about: Mapping[str, Any] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @property
    def lengths(self) -> NDArray[np.int64]:
        """Tokens of each example, int64 [n]."""
        return np.diff(self.offsets)


class Task(Protocol):
    """What the rest of the program needs of a task; every value is picklable, light, and holds no data."""

    @property
    def name(self) -> str: ...
    @property
    def kind(self) -> KindName:
        """Which head and loss the candidate gets: a row of `kinds.KINDS`."""
        ...

    @property
    def labels(self) -> tuple[str, ...]:
        """What the head's outputs are called, in their order; none where they are no classes."""
        ...

    @property
    def num_labels(self) -> int:
        """What is kept of an answer is so wide: the number of classes, 2 for a span (start, end), else 1."""
        ...

    @property
    def metric(self) -> str:
        """The key of `score`'s answer that is the search's objective."""
        ...

    @property
    def direction(self) -> Literal["maximize", "minimize"]: ...

    def splits(self, holdout: float, seed: int) -> Splits:
        """Read the data and hold `holdout` (a share) of the training data out for the search. Raises DataError."""
        ...

    def encode(self, examples: Examples, reader: Any, max_length: int) -> Encoded:
        """Tokenise with the model's tokenizer, at most `max_length` tokens an example; images by its processor."""
        ...

    def score(self, answers: NDArray[np.float32], scored: Encoded) -> dict[str, float]:
        """All metrics of the task for what its kind keeps of the answers to `scored`.

        That is float32 [units, num_labels]: logits, or for a causal language model the negative log-likelihood. A unit
        is an example, or in the kinds of tokens a token.
        """
        ...

    def noise(self, answers: NDArray[np.float32], scored: Encoded) -> Noise:
        """How far the metric named `metric` may lie off because the examples are few."""
        ...
