"""Tasks over single sentences and sentence pairs: one frozen value that fits every one of them.

Knows: how texts are split, hashed, tokenised and scored. Does not know: where the texts of a given task come from; that
is the `read` function which its own file hands in.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from itertools import chain
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from layersearch.errors import DataError, TrainingError
from layersearch.tasks import metrics
from layersearch.tasks.task import Encoded, Examples, Splits

if TYPE_CHECKING:
    from layersearch.kinds import KindName


@dataclass(frozen=True)
class Corpus:
    """What a task's `read` finds: all training data, the official validation set, one-line remarks for the user."""

    train: Examples
    validation: Examples
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True)
class TextTask:
    """A `Task` over texts. `metrics` are keys of `metrics.METRICS`, all to be maximised; the first is the objective."""

    name: str
    kind: KindName
    labels: tuple[str, ...]
    metrics: tuple[str, ...]
    read: Callable[[], Corpus]
    direction: Literal["maximize"] = "maximize"

    @property
    def num_labels(self) -> int:
        return len(self.labels) or 1

    @property
    def metric(self) -> str:
        return self.metrics[0]

    def splits(self, holdout: float, seed: int) -> Splits:
        """Read the data and hold the share `holdout` of the training data out, stratified by label."""
        corpus = self.read()
        search = held_out(corpus.train.labels, holdout, seed)
        train = np.setdiff1d(np.arange(len(corpus.train)), search)
        parts = corpus.train.take(train), corpus.train.take(search), corpus.validation
        return Splits(*parts, fingerprint=_fingerprint(parts), warnings=corpus.warnings)

    def encode(self, examples: Examples, reader: Any, max_length: int) -> Encoded:
        """Tokenise in one call of the tokenizer, cutting the longer text of a pair first, without padding."""
        pair = None if examples.pair is None else list(examples.pair)
        tokens = reader(list(examples.text), pair, truncation=True, max_length=max_length, return_attention_mask=False)
        ids, types = tokens["input_ids"], tokens.get("token_type_ids")
        offsets = np.cumsum([0, *map(len, ids)], dtype=np.int64)
        return Encoded(
            input_ids=np.fromiter(chain.from_iterable(ids), np.int32, count=offsets[-1]),
            token_type_ids=None if types is None else np.fromiter(chain.from_iterable(types), np.int8, offsets[-1]),
            offsets=offsets,
            labels=examples.labels,
        )

    def score(self, answers: NDArray[np.float32], scored: Encoded) -> dict[str, float]:
        """Every metric of the task; raises TrainingError where a logit is not finite."""
        predictions = self._predictions(answers)
        return {name: metrics.METRICS[name](predictions, scored.labels) for name in self.metrics}

    def interval(self, answers: NDArray[np.float32], scored: Encoded) -> tuple[float, float]:
        """95 % bootstrap interval of the objective over examples; raises TrainingError as `score` does."""
        return metrics.interval(self.metric, self._predictions(answers), scored.labels)

    def _predictions(self, logits: NDArray[np.float32]) -> NDArray[np.float32] | NDArray[np.int64]:
        """Classes int64 [n] or values float32 [n]. The argmax of NaN is class 0: a plausible score unless refused."""
        if logits.ndim != 2 or logits.shape[1] != self.num_labels:
            raise ValueError(f"logits {logits.shape} where task {self.name} has [n, {self.num_labels}]")
        if bad := int(np.sum(~np.isfinite(logits).all(axis=1))):
            raise TrainingError(f"the logits of {bad} of {len(logits)} examples are not finite")
        return logits[:, 0] if self.kind == "regression" else logits.argmax(axis=1)


def held_out(labels: NDArray[Any], share: float, seed: int) -> NDArray[np.int64]:
    """Indices, ascending, of a stratified `share` of the examples.

    With m to pick, the examples sorted by label (ties in random order) are cut into m equal runs and one of each run is
    drawn: classes keep their shares to within two examples, and the scores of a regression their quantiles.
    """
    n, m = len(labels), round(share * len(labels))
    if not 0 < m < n:
        raise DataError(
            f"a holdout of {share} of {n} training examples leaves a part empty: give a share between 0 and 1"
        )
    rng = np.random.default_rng(seed)
    order = np.lexsort((rng.random(n), labels))
    edges = np.linspace(0, n, m + 1).round().astype(np.int64)
    return np.sort(order[rng.integers(edges[:-1], edges[1:])])


def _fingerprint(parts: tuple[Examples, ...]) -> str:
    """16 hex digits of the sha256 over every text and label, and over which part each stands in."""
    digest = hashlib.sha256()
    for part in parts:
        texts = (*part.text, *(part.pair or ()))
        digest.update(np.array([len(part), *map(len, texts)], dtype=np.int64).tobytes())
        digest.update("".join(texts).encode())
        digest.update(part.labels.tobytes())
    return digest.hexdigest()[:16]
