"""The task `conll`: which words of a sentence name something, and what (token classification), from CoNLL files.

Knows: files of one word a line, tags of BIO, BIOES and IO, entities and their F1. Does not know: models, how tags are
learnt.

An entity counts where its first word, its last one and its type are right (Tjong Kim Sang and De Meulder 2003, arXiv
cs/0306050). A tag that continues nothing begins an entity, as in their script conlleval.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from layersearch.errors import DataError, WordsError
from layersearch.kinds import IGNORED
from layersearch.names import nearest
from layersearch.tasks.metrics import Noise, noise_of_share
from layersearch.tasks.task import Encoded, Examples, Splits
from layersearch.tasks.text import AT_ONCE, Flat, checked, file_of, fingerprint, held_out, require_offsets, text_of

if TYPE_CHECKING:
    from layersearch.kinds import KindName

SUFFIXES = (".txt", ".conll", ".tsv", ".bio")
OUTSIDE = "O"
_TAG = re.compile(r"O|[BIES]-.+")

Word = tuple[int, str, str]  # number of its line, the word, its tag


@dataclass(frozen=True)
class TagTask:
    """A `Task` over the words of sentences; `labels` are the tags of the training file, `OUTSIDE` first.

    `Examples.text` holds sentences, their words one space apart, `Examples.labels` a tuple for each: its words' labels.
    """

    labels: tuple[str, ...]
    train: Path
    validation: Path
    name: str = "conll"
    kind: KindName = "token-classification"
    metric: str = "f1"
    direction: Literal["maximize"] = "maximize"

    @property
    def num_labels(self) -> int:
        return len(self.labels)

    def splits(self, holdout: float, seed: int) -> Splits:
        """Read the files and hold the share `holdout` of the training sentences out, alike in their words of names."""
        train, validation = (_examples(path, self.labels) for path in (self.train, self.validation))
        search = held_out(np.array([np.count_nonzero(labels) for labels in train.labels]), holdout, seed, holdout=True)
        parts = train.take(np.setdiff1d(np.arange(len(train)), search)), train.take(search), validation
        return Splits(*parts, fingerprint=fingerprint(parts, ""))

    def encode(self, examples: Examples, reader: Any, max_length: int) -> Encoded:
        """The first token of a word has its label, the others none; words behind `max_length` tokens are not seen.

        Raises DataError for a tokenizer that does not say where its tokens stand.
        """
        require_offsets(reader, self.name)
        ids, types = Flat(np.int32), Flat(np.int8)
        words: list[NDArray[np.int64]] = []
        for start in range(0, len(examples), AT_ONCE):
            texts = list(examples.text[start : start + AT_ONCE])
            tokens = reader(
                texts,
                truncation=True,
                max_length=max_length,
                return_offsets_mapping=True,
                return_attention_mask=False,
            )
            ids.add(tokens["input_ids"])
            types.add(tokens.get("token_type_ids", ()))
            words += map(_words_begun, texts, tokens["offset_mapping"])
        found = types.array()
        gold = np.concatenate([*examples.labels]).astype(np.int32)
        sentences = np.cumsum([0, *map(len, examples.labels)], dtype=np.int64)
        places = np.concatenate([np.where(w < 0, -1, w + at) for w, at in zip(words, sentences, strict=False)])
        return Encoded(
            input_ids=ids.array(),
            token_type_ids=found if len(found) else None,
            offsets=np.cumsum([0, *map(len, words)], dtype=np.int64),
            labels=np.where(places < 0, np.int32(IGNORED), gold[places]),
            about={"gold": gold, "sentences": sentences, "words": places[places >= 0]},
        )

    def score(self, answers: NDArray[np.float32], scored: Encoded) -> dict[str, float]:
        """F1, precision and recall over entities; raises TrainingError where a logit is not finite."""
        right, said, there = (int(counts.sum()) for counts in self._counts(answers, scored))
        return {
            "f1": 2 * right / max(1, said + there),
            "precision": right / max(1, said),
            "recall": right / max(1, there),
        }

    def noise(self, answers: NDArray[np.float32], scored: Encoded) -> Noise:
        """The noise of F1 over sentences; raises TrainingError as `score` does."""
        right, said, there = self._counts(answers, scored)
        return noise_of_share(2 * right, said + there)

    def _counts(self, answers: NDArray[np.float32], scored: Encoded) -> tuple[NDArray[np.int64], ...]:
        """Entities of each sentence: found rightly, found, there. A word that was not seen is taken for `OUTSIDE`."""
        about = scored.about
        told = np.zeros_like(about["gold"])
        told[about["words"]] = checked(answers, self)[scored.labels != IGNORED].argmax(axis=1)
        said, there = (entities(labels, about["sentences"], self.labels) for labels in (told, about["gold"]))
        _, ours, theirs = np.intersect1d(said[:, 0], there[:, 0], assume_unique=True, return_indices=True)
        right = said[ours][(said[ours] == there[theirs]).all(axis=1)]
        edges = about["sentences"]
        return tuple(np.histogram(found[:, 0], edges)[0] for found in (right, said, there))


def conll_task(data: Path | None = None) -> TagTask:
    """The task over the files in the folder `data`; reads the tags of the training file. Raises DataError."""
    files = "train, and dev, valid or test, as " + ", ".join(SUFFIXES)
    if data is None or not data.is_dir():
        given = "" if data is None else f", and {data} is none"
        wrong = WordsError if data is None else DataError
        raise wrong(f"task conll needs --data: a folder of CoNLL files ({files}){given}")
    parts = (("train",), ("dev", "valid", "test"))
    train, validation = (file_of(data, [part + suffix for part in some for suffix in SUFFIXES]) for some in parts)
    tags = {tag for sentence in _sentences(train) for _, _, tag in sentence}
    return TagTask((OUTSIDE, *sorted(tags - {OUTSIDE})), train, validation)


def entities(labels: NDArray[Any], sentences: NDArray[np.int64], names: Sequence[str]) -> NDArray[np.int64]:
    """The entities in the words of sentences, int64 [entities, 3]: first word, last word, number of the type.

    `labels` [words] are places in `names`; sentence i has the words `sentences[i]:sentences[i + 1]`. B and S begin an
    entity; so do I and E at the head of a sentence, behind O, E or S, or behind another type.
    """
    types: dict[str, int] = {}
    marks = np.array([name[0] for name in names])[labels]
    kinds = np.array([types.setdefault(name[2:], len(types)) for name in names])[labels]
    inside, head = marks != OUTSIDE, np.zeros(len(labels) + 1, dtype=bool)
    head[sentences] = True  # the place behind the last word too
    goes_on = ~np.isin(marks[1:], ("B", "S")) & np.isin(marks[:-1], ("B", "I")) & (kinds[1:] == kinds[:-1])
    begins = inside & np.append(True, ~goes_on | head[1:-1])
    last = inside & np.append(begins[1:] | ~inside[1:], True)
    first = np.flatnonzero(begins)
    return np.stack([first, np.flatnonzero(last), kinds[first]], axis=1).astype(np.int64)


def _words_begun(text: str, places: Sequence[tuple[int, int]]) -> NDArray[np.int64]:
    """For each token the number of the word that it begins, or -1. `places` are its first letter and the one behind.

    The last letter of a token decides, because some tokenizers let it begin with the space before its word.
    """
    letters = np.array(places, dtype=np.int64).reshape(-1, 2)
    heads = np.cumsum([0, *(len(word) + 1 for word in text.split(" "))])
    words = np.searchsorted(heads, letters[:, 1] - 1, side="right") - 1
    real = np.flatnonzero(letters[:, 1] > letters[:, 0])
    begun = np.full(len(letters), -1, dtype=np.int64)
    first = real[np.diff(words[real], prepend=-1) > 0]
    begun[first] = words[first]
    return begun


def _examples(path: Path, labels: Sequence[str]) -> Examples:
    """The sentences of a file. Raises DataError for a tag that is not in `labels`."""
    numbers = {label: number for number, label in enumerate(labels)}
    sentences = list(_sentences(path))
    found = (tuple(_number(numbers, tag, path, line) for line, _, tag in sentence) for sentence in sentences)
    texts = tuple(" ".join(word for _, word, _ in sentence) for sentence in sentences)
    return Examples(texts, None, np.fromiter(found, dtype=object))


def _number(numbers: Mapping[str, int], tag: str, path: Path, line: int) -> int:
    if tag not in numbers:
        known = ", ".join(list(numbers)[:8]) + (", ..." if len(numbers) > 8 else "")
        raise DataError(
            f"{path}, line {line}: the tag {tag!r}{nearest(tag, numbers)} is never seen in training, which has "
            f"{known}; correct it or add training sentences"
        )
    return numbers[tag]


def _sentences(path: Path) -> Iterator[list[Word]]:
    """The sentences of a file, one after the other. Raises DataError at the first bad line, and without an entity."""
    sentence: list[Word] = []
    named, number = False, 0
    for number, line in enumerate(text_of(path).split("\n"), 1):
        columns = line.split()
        if not columns or columns[0] == "-DOCSTART-":
            if sentence:
                yield sentence
            sentence = []
        elif not line.startswith("#") or _TAG.fullmatch(columns[-1]):  # others are comments
            sentence.append((number, columns[0], _tag(columns, path, number)))
            named |= columns[-1] != OUTSIDE
    if sentence:
        yield sentence
    if not named:
        raise DataError(f"{path}, lines 1 to {number}: no word has a tag other than O, so there is nothing to learn")


def _tag(columns: Sequence[str], path: Path, line: int) -> str:
    if len(columns) == 1:
        raise DataError(f"{path}, line {line}: one column ({columns[0]!r}) where a word and its tag are expected")
    if not _TAG.fullmatch(columns[-1]):
        raise DataError(
            f"{path}, line {line}: the last column is {columns[-1]!r}; allowed is O, or B-, I-, E- or S- and a type"
        )
    return columns[-1]
