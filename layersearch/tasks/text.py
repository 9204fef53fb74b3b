"""Tasks over single sentences and sentence pairs: one frozen value that fits every one of them.

Knows: how texts are split, hashed, tokenised and scored. Does not know: where the texts of a given task come from; that
is the `read` function which its own file hands in.
"""

from __future__ import annotations

import hashlib
import itertools
import math
import tempfile
import weakref
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, Literal, TypeVar

import numpy as np
from numpy.typing import NDArray

from layersearch.counts import count
from layersearch.errors import DataError, TrainingError
from layersearch.kinds import KINDS
from layersearch.tasks import metrics
from layersearch.tasks.metrics import Noise
from layersearch.tasks.task import Encoded, Examples, Splits, Task

if TYPE_CHECKING:
    from layersearch.kinds import KindName

AT_ONCE = 1000  # texts that are tokenised together
IN_MEMORY = 256 << 20  # bytes of an array that is not memory-mapped

T = TypeVar("T", bound=np.generic)


@dataclass(frozen=True)
class Corpus:
    """What a task's `read` finds: all training data, the official validation set, one-line remarks for the user.

    `mark` stands for all texts in the fingerprint where reading them again would take long, such as a hash of the file.
    """

    train: Examples
    validation: Examples
    warnings: tuple[str, ...] = ()
    mark: str = ""


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
        search = held_out(corpus.train.labels, holdout, seed, holdout=True)
        train = np.setdiff1d(np.arange(len(corpus.train)), search)
        parts = corpus.train.take(train), corpus.train.take(search), corpus.validation
        return Splits(*parts, fingerprint=fingerprint(parts, corpus.mark), warnings=corpus.warnings)

    def encode(self, examples: Examples, reader: Any, max_length: int) -> Encoded:
        """Tokenise so many texts at once, cutting the longer text of a pair first, without padding."""
        ids, types = Flat(np.int32), Flat(np.int8)
        lengths: list[int] = []
        for start in range(0, len(examples), AT_ONCE):
            some = slice(start, start + AT_ONCE)
            pair = None if examples.pair is None else list(examples.pair[some])
            tokens = reader(
                list(examples.text[some]), pair, truncation=True, max_length=max_length, return_attention_mask=False
            )
            ids.add(tokens["input_ids"])
            types.add(tokens.get("token_type_ids", ()))
            lengths += map(len, tokens["input_ids"])
        found = types.array()  # none where the tokenizer makes none
        return Encoded(
            input_ids=ids.array(),
            token_type_ids=found if len(found) else None,
            offsets=np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)]),
            labels=examples.labels,
        )

    def score(self, answers: NDArray[np.float32], scored: Encoded) -> dict[str, float]:
        """Every metric of the task; raises TrainingError where a logit is not finite."""
        predictions = KINDS[self.kind].decide(checked(answers, self))
        return {name: metrics.METRICS[name](predictions, scored.labels) for name in self.metrics}

    def noise(self, answers: NDArray[np.float32], scored: Encoded) -> Noise:
        """The noise of the objective over examples; raises TrainingError as `score` does."""
        return metrics.noise(self.metric, KINDS[self.kind].decide(checked(answers, self)), scored.labels)


def checked(logits: NDArray[np.float32], task: Task) -> NDArray[np.float32]:
    """`logits` [units, num_labels] that are finite. The argmax of NaN is class 0: a plausible score unless refused."""
    if logits.ndim != 2 or logits.shape[1] != task.num_labels:
        raise ValueError(f"logits {logits.shape} where task {task.name} has [n, {task.num_labels}]")
    if bad := int(np.sum(~np.isfinite(logits).all(axis=1))):
        those = "tokens" if KINDS[task.kind].per_token else "examples"
        raise TrainingError(f"the logits of {bad} of {len(logits)} {those} are not finite")
    return logits


def text_of(path: Path) -> str:
    """All text of a UTF-8 file, without a byte-order mark; raises DataError where there is none or it is not UTF-8."""
    try:
        raw = path.read_bytes()
        return raw.decode("utf-8-sig")
    except OSError as problem:
        raise DataError(f"{path} cannot be read: {problem.strerror}") from None
    except UnicodeDecodeError as problem:
        line = problem.object.count(b"\n", 0, problem.start) + 1
        byte = f"byte {problem.start + 1} (0x{problem.object[problem.start]:02x})"
        raise DataError(f"{path}, line {line}: {byte} of the file is not UTF-8: save it as UTF-8") from None


def file_of(folder: Path, names: Sequence[str]) -> Path:
    """The first of `names` that lies in `folder`; raises DataError where none does."""
    try:
        lying = sorted(path.name for path in folder.iterdir())
    except OSError as problem:
        raise DataError(f"data folder {folder} cannot be read: {problem.strerror}") from None
    for name in names:
        if name in lying:
            return folder / name
    holds = f"holds {', '.join(lying[:8])}{', ...' if len(lying) > 8 else ''}" if lying else "is empty"
    raise DataError(f"data folder {folder} has no {' or '.join(names)} (it {holds})")


def require_offsets(reader: Any, task: str) -> None:
    """Raise DataError for a tokenizer that does not say which letters a token stands for."""
    if not reader.is_fast:
        raise DataError(
            f"task {task} needs to know which letters a token stands for, and {type(reader).__name__} does not say it; "
            "choose a model with a fast tokenizer (tokenizer.json)"
        )


class Flat(Generic[T]):
    """A flat array that grows by lists of numbers; a long one stays on the disk and is memory-mapped.

    It is written to an unnamed file of the temporary folder, which vanishes with the process.
    """

    def __init__(self, dtype: type[T]) -> None:
        self._dtype, self._length = dtype, 0
        self._file = tempfile.TemporaryFile(prefix="layersearch-")  # noqa: SIM115 - its array outlives it
        weakref.finalize(self, self._file.close)

    def add(self, lists: Iterable[Sequence[int]]) -> None:
        """Append the numbers of one list after the other."""
        self.write(np.fromiter(chain.from_iterable(lists), self._dtype))

    def write(self, numbers: NDArray[T]) -> None:
        """Append all numbers of an array of any shape."""
        numbers.tofile(self._file)
        self._length += numbers.size

    def array(self) -> NDArray[T]:
        """All numbers; nothing can be added after this."""
        with self._file as file:
            file.seek(0)
            if self._length * np.dtype(self._dtype).itemsize > IN_MEMORY:
                return np.memmap(file, self._dtype, mode="r")
            return np.fromfile(file, self._dtype)


def held_out(labels: NDArray[Any], share: float, seed: int, *, holdout: bool = False) -> NDArray[np.int64]:
    """Indices, ascending, of a stratified `share` of the examples, which the user chose if it is the `holdout`.

    With m to pick, the examples sorted by label (ties in random order) are cut into m equal runs and one of each run is
    drawn: classes keep their shares to within two examples, and the scores of a regression their quantiles.
    """
    n, m = len(labels), round(share * len(labels))
    if not 0 < m < n:
        within = 0 < share < 1
        enough = next(k for k in itertools.count(2) if 0 < round(share * k) < k) if within else 0
        least = f"{count(enough, 'example')} or more" if within else ""
        if within and holdout and n > 1:
            one = math.ceil(1000 / n) / 1000  # an example, or more where that takes more than three digits
            least += f", or a holdout of {f'{1 - one:g} or less' if m else f'{one:g} or more'}"
        raise DataError(
            f"a {'holdout' if holdout else 'part'} of {share} of {count(n, 'training example')} leaves a part empty: "
            f"give {least or 'a share between 0 and 1'}"
        )
    rng = np.random.default_rng(seed)
    keys = labels if labels.ndim == 1 else np.unique(labels, axis=0, return_inverse=True)[1]
    order = np.lexsort((rng.random(n), keys))
    edges = np.linspace(0, n, m + 1).round().astype(np.int64)
    return np.sort(order[rng.integers(edges[:-1], edges[1:])])


def fingerprint(parts: tuple[Examples, ...], mark: str) -> str:
    """16 hex digits of the sha256 over every text (or `mark`) and label, and over which part each stands in."""
    digest = hashlib.sha256(mark.encode())
    for part in parts:
        texts = () if mark else (*part.text, *(part.pair or ()))
        digest.update(np.array([len(part), *map(len, texts)], dtype=np.int64).tobytes())
        digest.update("".join(texts).encode())
        labels = part.labels
        digest.update(repr(labels.tolist()).encode() if labels.dtype == object else labels.tobytes())
    return digest.hexdigest()[:16]
