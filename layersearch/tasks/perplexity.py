"""The task `perplexity`: how much a text of the user's own surprises a decoder.

Knows: how a text is parted, cut into blocks of tokens, and scored. Does not know: models, what the text is about.

Search and validation text are the ends of what they are taken from, each in one run, so that no candidate is trained on
the sentences around them. A text is one stream: blank lines are text like any other, and a block of tokens may begin in
one document and end in the next.
"""

from __future__ import annotations

import hashlib
import mmap
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import takewhile
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, SupportsIndex, overload

import numpy as np
from numpy.typing import NDArray

from layersearch.counts import count
from layersearch.errors import DataError, TrainingError, WordsError
from layersearch.kinds import IGNORED
from layersearch.tasks import metrics
from layersearch.tasks.tables import hash_of
from layersearch.tasks.task import VALIDATION_SHARE, Encoded, Examples, Splits
from layersearch.tasks.text import Flat

if TYPE_CHECKING:
    from layersearch.kinds import KindName

NAME = "perplexity"
TRAIN, VALIDATION = "train.txt", "validation.txt"
PIECE = 10_000  # bytes of text that are tokenised by themselves; of a short text a hundredth
AT_ONCE = 100  # pieces that are tokenised together


def perplexity_task(data: Path | None = None) -> PerplexityTask:
    """The task over the file `data`, or over the files of the folder `data`; nothing is read yet. Raises WordsError."""
    if data is None:
        raise WordsError(f"task {NAME} needs --data FILE.txt, or a folder with {TRAIN} and perhaps {VALIDATION}")
    return PerplexityTask(data)


@dataclass(frozen=True)
class PerplexityTask:
    """A `Task` over a text: exp of the mean negative log-likelihood of its tokens, each given those before it.

    A token sees no further back than its block begins, which has `max_length` tokens; the first of a block is not
    scored, unless the tokenizer itself puts one before every text.
    """

    data: Path
    name: str = NAME
    kind: KindName = "causal-lm"
    labels: tuple[str, ...] = ()
    num_labels: int = 1
    metric: str = NAME
    direction: Literal["minimize"] = "minimize"

    def splits(self, holdout: float, seed: int) -> Splits:  # noqa: ARG002 - see below
        """Training text, then the share `holdout` of it for the search, then validation text, each in one run.

        The order of the text decides, not `seed`. Raises DataError for a file that cannot be read or is too short.
        """
        files = _files(self.data)
        try:
            mark = " ".join(hash_of(file, text=True) for file in files)
            texts = [pieces_of(file) for file in files]
        except OSError as problem:
            raise DataError(f"{problem.filename} cannot be read: {problem.strerror}") from None
        warnings: tuple[str, ...] = ()
        if len(texts) == 1:
            texts = [*_parted(texts[0], VALIDATION_SHARE)]
            warnings = (f"{self.data} has no validation set: its last {VALIDATION_SHARE:.0%} are held out for it",)
        parts = (*_parted(texts[0], holdout), texts[1])
        digest = hashlib.sha256(f"{mark} {[len(part) for part in parts]}".encode())
        train, search, validation = (Examples(part, None, np.zeros(len(part), dtype=np.int8)) for part in parts)
        return Splits(train, search, validation, digest.hexdigest()[:16], warnings)

    def encode(self, examples: Examples, reader: Any, max_length: int) -> Encoded:
        """Tokens one after the other, in blocks of `max_length`; the last may be shorter. Raises DataError."""
        first = _before(reader)
        width = max_length - len(first)
        if min(width, max_length - 1) < 1:
            raise WordsError(f"--max-length {max_length} leaves nothing to foretell; give at least 2")
        ids, labels = Flat(np.int32), Flat(np.int32)
        lengths: list[int] = []
        for blocks in _blocks(examples.text, reader, width):
            rows = np.hstack([np.tile(first, (len(blocks), 1)), blocks])
            ids.write(rows)
            labels.write(np.hstack([rows[:, 1:], np.full((len(rows), 1), IGNORED, dtype=np.int32)]))
            lengths += [rows.shape[1]] * len(rows)
        if sum(lengths) <= len(lengths):
            raise DataError(f"the text for one part of task {NAME} has fewer than two tokens; give a longer text")
        offsets = np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)])
        return Encoded(input_ids=ids.array(), token_type_ids=None, offsets=offsets, labels=labels.array())

    def score(self, answers: NDArray[np.float32], scored: Encoded) -> dict[str, float]:
        """The perplexity; raises TrainingError where a likelihood is not finite."""
        surprise, tokens = _of_blocks(answers, scored)
        with np.errstate(over="ignore"):  # infinite then, which no trial keeps
            return {NAME: float(np.exp(surprise.sum() / tokens.sum()))}

    def noise(self, answers: NDArray[np.float32], scored: Encoded) -> metrics.Noise:
        """The noise over blocks; raises TrainingError as `score` does."""
        found = metrics.noise_of_share(*_of_blocks(answers, scored))
        low, high = np.exp(found.interval)
        return metrics.Noise((float(low), float(high)), tuple(map(float, np.exp(found.redrawn))))


def _of_blocks(answers: NDArray[np.float32], scored: Encoded) -> tuple[metrics.Floats, metrics.Floats]:
    """Negative log-likelihood and number of scored tokens of each block that has any, float64 [blocks] both."""
    if bad := int(np.sum(~np.isfinite(answers))):
        raise TrainingError(f"the likelihoods of {bad} of {count(len(answers), 'token')} are not finite")
    starts = scored.offsets[:-1]
    surprise = np.add.reduceat(answers[:, 0].astype(np.float64), starts)
    tokens = np.add.reduceat((scored.labels != IGNORED).astype(np.float64), starts)
    return surprise[tokens > 0], tokens[tokens > 0]


def _before(reader: Any) -> NDArray[np.int32]:
    """The special tokens that the tokenizer puts before a text: one for Llama, none for GPT-2."""
    found = reader("a", return_special_tokens_mask=True)
    marks = zip(found["input_ids"], found["special_tokens_mask"], strict=True)
    return np.array([token for token, special in takewhile(lambda mark: mark[1], marks)], dtype=np.int32)


def _blocks(text: Sequence[str], reader: Any, width: int) -> Iterator[NDArray[np.int32]]:
    """The tokens of a text as [blocks, width], some at a time; then what is left over as [1, fewer]."""
    rest = np.empty(0, dtype=np.int32)
    for start in range(0, len(text), AT_ONCE):
        some = list(text[start : start + AT_ONCE])
        tokens = reader(some, add_special_tokens=False, return_attention_mask=False, verbose=False)["input_ids"]
        rest = np.concatenate([rest, *(np.array(piece, dtype=np.int32) for piece in tokens)])
        whole = len(rest) // width * width
        yield rest[:whole].reshape(-1, width)
        rest = rest[whole:]
    if len(rest):
        yield rest[None]


def _files(data: Path) -> list[Path]:
    """The file to train on and, if there is one, the file to validate on."""
    if not data.is_dir():
        if not data.exists():
            raise DataError(f"data file {data} does not exist")
        return [data]
    if not (data / TRAIN).is_file():
        raise DataError(f"{data} has no {TRAIN}; give a folder with {TRAIN} and perhaps {VALIDATION}, or one file")
    return [file for file in (data / TRAIN, data / VALIDATION) if file.exists()]


def _parted(text: Pieces, share: float) -> tuple[Pieces, Pieces]:
    """A text and the `share` of it at its end."""
    last = round(share * len(text))
    if not 0 < last < len(text):
        raise DataError(f"{text.path} is too short to hold {share:.0%} of it out; give a longer text")
    return replace(text, cuts=text.cuts[: len(text) - last + 1]), replace(text, cuts=text.cuts[len(text) - last :])


@dataclass(frozen=True, eq=False)
class Pieces(Sequence[str]):
    """A run of a text file, piece by piece; it lies in its file until it is asked for.

    Piece i has the bytes from `cuts[i]` to `cuts[i + 1]`; `cuts` is int64 [n + 1].
    """

    path: Path
    cuts: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.cuts) - 1

    @overload
    def __getitem__(self, place: SupportsIndex) -> str: ...
    @overload
    def __getitem__(self, place: slice) -> Sequence[str]: ...
    def __getitem__(self, place: SupportsIndex | slice) -> str | Sequence[str]:
        if isinstance(place, slice):
            return self._read(range(len(self))[place])
        return self._read([range(len(self))[place]])[0]

    def _read(self, places: Sequence[int]) -> list[str]:
        found = []
        with self.path.open("rb") as file:
            for place in places:
                file.seek(self.cuts[place])
                found.append(file.read(self.cuts[place + 1] - self.cuts[place]).decode().replace("\r\n", "\n"))
        return found


def pieces_of(path: Path) -> Pieces:
    """A whole file in pieces that end with a line, or where that is too long, with a word. Raises DataError."""
    with path.open("rb") as file:
        if not path.stat().st_size:
            raise DataError(f"{path} is empty; give a file with text")
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as text:
            at = 3 if text[:3] == b"\xef\xbb\xbf" else 0  # a byte order mark is no text
            cuts, size = [at], min(PIECE, max(1, len(text) // 100))
            while cuts[-1] < len(text):
                cuts.append(_cut(text, cuts[-1] + size, size))
    return Pieces(path, np.array(cuts, dtype=np.int64))


def _cut(text: mmap.mmap, at: int, within: int) -> int:
    """Behind the end of a line not far from `at` on, else before a space, as tokenizers part words, else a letter."""
    if (line := text.find(b"\n", at - 1, at + within)) >= 0:
        return line + 1
    if (space := text.find(b" ", at, at + PIECE)) >= 0:
        return space
    while at < len(text) and text[at] & 0xC0 == 0x80:  # inside a letter of several bytes
        at += 1
    return min(at, len(text))
