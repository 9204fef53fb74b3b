"""What a task is: its splits, features, head, metric and direction.

Knows: texts, labels and their tokenised form as flat arrays. Does not know: models, training, the search, or where a
given task's data comes from (that is one file a task beside this one).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

Labels = NDArray[np.int64] | NDArray[np.float32]


@dataclass(frozen=True)
class Examples:
    """Raw examples of one split.

    `text` and `pair` hold n strings each (`pair` is None for single-sentence tasks); `labels` is int64 [n] for
    classification (0 .. num_labels - 1) and float32 [n] for regression.
    """

    text: tuple[str, ...]
    pair: tuple[str, ...] | None
    labels: Labels

    def __len__(self) -> int:
        return len(self.text)

    def take(self, indices: NDArray[np.int64]) -> Examples:
        """The examples at `indices`, in that order."""
        return Examples(
            text=tuple(self.text[i] for i in indices),
            pair=None if self.pair is None else tuple(self.pair[i] for i in indices),
            labels=self.labels[indices],
        )


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
    [tokens] or None where the tokenizer makes none; `offsets` int64 [n + 1]; `labels` as in `Examples`.
    """

    input_ids: NDArray[np.int32]
    token_type_ids: NDArray[np.int8] | None
    offsets: NDArray[np.int64]
    labels: Labels

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def lengths(self) -> NDArray[np.int64]:
        """Tokens of each example, int64 [n]."""
        return np.diff(self.offsets)


class Task(Protocol):
    """What the rest of the program needs of a task; every value is picklable, light, and holds no data."""

    @property
    def name(self) -> str: ...
    @property
    def kind(self) -> Literal["classification", "regression"]:
        """Which head and loss the candidate gets."""
        ...

    @property
    def labels(self) -> tuple[str, ...]:
        """What the classes are called, in the order of the head's outputs; none for regression."""
        ...

    @property
    def num_labels(self) -> int:
        """Outputs of the head: the number of classes, or 1 for regression."""
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

    def encode(self, examples: Examples, tokenizer: PreTrainedTokenizerBase, max_length: int) -> Encoded:
        """Tokenise, cutting to `max_length` tokens."""
        ...

    def score(self, logits: NDArray[np.float32], labels: Labels) -> dict[str, float]:
        """All metrics of the task for logits float32 [n, num_labels]."""
        ...

    def interval(self, logits: NDArray[np.float32], labels: Labels) -> tuple[float, float]:
        """95 % bootstrap interval over examples of the metric named `metric`."""
        ...
