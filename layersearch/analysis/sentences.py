"""What sentences tell of themselves, to be probed for: SentEval's files, and tasks whose labels follow from text alone.

Knows: the format of SentEval's probing files, how labels are made of words. Does not know: models, probes. The tasks
are those of Conneau et al., arXiv 1805.01070; of their ten, sentence length, word content and bigram shift follow from
the text. Tree depth, top constituents, tense, the numbers of subject and object, and the inversion of coordinated
clauses need a parse, and the odd man out needs the parts of speech: they come from files only. `odd-word` is our own,
in the odd man's place: any word, not only a noun or verb, gives way to one that is about as common.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import MappingProxyType

import numpy as np

from layersearch.errors import DataError, WordsError
from layersearch.names import unknown
from layersearch.tasks.task import Examples
from layersearch.tasks.text import Corpus, TextTask, held_out, text_of

PARTITIONS = ("tr", "va", "te")
LENGTHS = 6  # bins, as in SentEval; there of 5-8 to 26-28 words, here of about equally many sentences
TARGETS = 10  # words to be found
FEWEST = 30  # sentences of which labels are made
DEV, TEST = 0.2, 0.25  # shares of the sentences, of what is left for the first

Labelled = tuple[list[str], list[str]]
"""Sentences and what they are labelled."""


@dataclass(frozen=True)
class Sentences:
    """A probing task: sentences to fit on, to choose on and to score on, as a task that can encode and score them."""

    task: TextTask
    fit: Examples
    dev: Examples
    test: Examples


def load_senteval(folder: Path, most: int, seed: int) -> list[Sentences]:
    """The tasks of a folder with SentEval's probing files, `tr|va|te <tab> label <tab> sentence` in `NAME.txt`.

    Every `.txt` is one, by its name. Of each partition at most `most` sentences are drawn. Raises DataError that names
    the file and line of what is wrong.
    """
    try:
        files = sorted(path for path in folder.iterdir() if path.suffix == ".txt")
    except OSError as problem:
        raise DataError(f"SentEval folder {folder} cannot be read: {problem.strerror}") from None
    if not files:
        raise DataError(f"SentEval folder {folder} holds no .txt file; give one with files such as bigram_shift.txt")
    return [load_file(file, most, seed) for file in files]


def load_file(file: Path, most: int, seed: int) -> Sentences:
    """One probing task from a file in SentEval's format; see `load_senteval`."""
    parts: dict[str, Labelled] = {name: ([], []) for name in PARTITIONS}
    for number, line in enumerate(text_of(file).split("\n"), 1):
        cells = line.rstrip("\r").split("\t")
        if cells == [""]:
            continue
        if len(cells) < 3 or cells[0] not in parts or not cells[1] or not cells[-1].strip():
            raise DataError(
                f"{file}, line {number} is {line[:60]!r}, and a line of SentEval's files has three cells with tabs "
                "between them: tr, va or te; the label; the sentence. Mend the line, or take the file out of the folder"
            )
        texts, labels = parts[cells[0]]
        texts.append(cells[-1].strip())
        labels.append(cells[1])
    for name, (texts, _) in parts.items():
        if not texts:
            raise DataError(f"{file} has no sentence of the partition {name}; a probe needs tr, va and te")
    rng = np.random.default_rng(seed)
    drawn = [_drawn(part, most, rng) for part in parts.values()]
    return _as_task(file.stem, str(file), *drawn)


def _drawn(part: Labelled, most: int, rng: np.random.Generator) -> Labelled:
    texts, labels = part
    chosen = np.sort(rng.permutation(len(texts))[:most])
    return [texts[i] for i in chosen], [labels[i] for i in chosen]


def _as_task(name: str, where: str, fit: Labelled, dev: Labelled, test: Labelled) -> Sentences:
    """The task over classes that occur in `fit`. Raises DataError for another one elsewhere, and for a single one."""
    classes = tuple(sorted(set(fit[1])))
    strange = sorted({*dev[1], *test[1]} - set(classes))
    if strange or len(classes) < 2:
        found = f"label {strange[0]!r} is not among those to fit on" if strange else "there is only one label to fit on"
        raise DataError(f"{where}: {found} ({', '.join(classes[:8])}); take more sentences with --examples")
    parts = [Examples(texts, None, np.array([classes.index(x) for x in labels])) for texts, labels in (fit, dev, test)]
    task = TextTask(name, "classification", classes, ("accuracy",), partial(Corpus, parts[0], parts[2]))
    return Sentences(task, *parts)


def generate(name: str, texts: Sequence[str], most: int, seed: int) -> Sentences:
    """The task called `name` of GENERATORS over `texts`, each once, at most `most` of them to fit and choose on.

    A quarter more are scored on. Raises WordsError for an unknown name, DataError where the texts are too few or
    too much alike.
    """
    if name not in GENERATORS:
        raise WordsError(unknown("probing task", name, GENERATORS))
    rng = np.random.default_rng(seed)
    plain = [text for text in dict.fromkeys(" ".join(text.split()) for text in texts) if text]
    sentences, labels = GENERATORS[name]([plain[i] for i in rng.permutation(len(plain))], rng)
    total = min(len(sentences), round(most / (1 - TEST)))
    if total < FEWEST or len(set(labels[:total])) < 2:
        raise DataError(
            f"probing task {name} needs {FEWEST} different sentences of two labels or more, and of these "
            f"{len(plain)} it can use {total}; give more data, or probe something else"
        )
    classes = sorted(set(labels[:total]))
    keys = np.array([classes.index(label) for label in labels[:total]])
    test = held_out(keys, TEST, seed)
    rest = np.setdiff1d(np.arange(total), test)
    dev = rest[held_out(keys[rest], DEV, seed)]
    places = (np.setdiff1d(rest, dev), dev, test)
    parts = [([sentences[i] for i in some], [labels[i] for i in some]) for some in places]
    return _as_task(name, f"probing task {name}", *parts)


def length(sentences: Sequence[str], _: np.random.Generator) -> Labelled:
    """How many words: up to LENGTHS bins with about equally many sentences, called by their bounds."""
    words = np.array([len(sentence.split()) for sentence in sentences])
    edges = np.unique(np.quantile(words, np.arange(1, LENGTHS) / LENGTHS, method="lower")) if len(words) else words
    bins = np.searchsorted(edges, words, side="left")
    bounds = {one: (words[bins == one].min(), words[bins == one].max()) for one in np.unique(bins)}
    names = {one: f"{least:03d}-{most:03d} words" for one, (least, most) in bounds.items()}
    return list(sentences), [names[one] for one in bins]


def word_content(sentences: Sequence[str], _: np.random.Generator) -> Labelled:
    """Which of up to TARGETS words, of middling frequency, a sentence has; those with exactly one of them are taken."""
    found = [{word.lower() for word in sentence.split() if word.isalpha()} for sentence in sentences]
    counts = Counter(word for words in found for word in words)
    fewest, most = len(sentences) / 200, len(sentences) / 20
    middling = [word for word, count in counts.most_common() if max(5, fewest) <= count <= most and len(word) > 3]
    targets = set(middling[:TARGETS])
    having = [(sentence, words & targets) for sentence, words in zip(sentences, found, strict=True)]
    one = [(sentence, next(iter(words))) for sentence, words in having if len(words) == 1]
    return [sentence for sentence, _ in one], [word for _, word in one]


def bigram_shift(sentences: Sequence[str], rng: np.random.Generator) -> Labelled:
    """Whether two neighbouring words stand in each other's place: in half of the sentences."""

    def shifted(words: list[str]) -> list[str] | None:
        pairs = [i for i in range(1, len(words) - 1) if _are_words(words[i : i + 2])]
        if not pairs:
            return None
        at = int(rng.choice(pairs))
        return [*words[:at], words[at + 1], words[at], *words[at + 2 :]]

    return _half_changed(sentences, shifted, rng, ("original", "shifted"))


def odd_word(sentences: Sequence[str], rng: np.random.Generator) -> Labelled:
    """Whether a word gave way to another one that is about as common: in half of the sentences."""
    counts = Counter(word for sentence in sentences for word in sentence.split() if word.islower() and word.isalpha())
    ranked = [word for word, _ in counts.most_common()]
    rank = {word: place for place, word in enumerate(ranked)}

    def odd(words: list[str]) -> list[str] | None:
        places = [i for i, word in enumerate(words) if word in rank and len(word) > 3]
        if not places or len(ranked) < 20:
            return None
        at = int(rng.choice(places))
        near = range(max(0, rank[words[at]] - 10), min(len(ranked), rank[words[at]] + 11))
        others = [place for place in near if ranked[place] not in words]
        return [*words[:at], ranked[int(rng.choice(others))], *words[at + 1 :]] if others else None

    return _half_changed(sentences, odd, rng, ("original", "odd"))


def _half_changed(
    sentences: Sequence[str],
    change: Callable[[list[str]], list[str] | None],
    rng: np.random.Generator,
    labels: tuple[str, str],
) -> Labelled:
    """Sentences that `change` can make new ones of, half of them as they are; none comes in both forms."""
    known, able = set(sentences), []
    for sentence in sentences:
        words = change(sentence.split())
        changed = None if words is None else " ".join(words)
        if changed is not None and changed not in known:
            known.add(changed)
            able.append((sentence, changed))
    halves = rng.permutation(np.arange(len(able)) % 2)
    return [pair[half] for pair, half in zip(able, halves, strict=True)], [labels[half] for half in halves]


def _are_words(pair: Sequence[str]) -> bool:
    return all(word.isalpha() for word in pair) and pair[0].lower() != pair[1].lower()


GENERATORS: Mapping[str, Callable[[Sequence[str], np.random.Generator], Labelled]] = MappingProxyType(
    {"length": length, "word-content": word_content, "bigram-shift": bigram_shift, "odd-word": odd_word}
)
"""Probing tasks that can be made of any sentences."""
