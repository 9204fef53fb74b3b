"""The `demo` task: a paraphrase task that is made up on the spot, so that a first run needs no files and no hub.

Knows: a small vocabulary and how to say one small scene in several ways. Does not know: tokens, models, files. The same
arguments give the same pairs on every machine and Python: only `random.Random.random` is drawn from, whose sequence
Python guarantees.

Two sentences mean the same when they tell the same scene. Three kinds of pairs need more and more of a model: a frame
("it is false that ...") settles the pair by itself, so does a smaller word ("never", "indeed"), and the rest must be
compared word by word through synonyms, digits and two word orders, where as little as one word may differ.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TypeVar

import numpy as np

from layersearch.errors import WordsError
from layersearch.tasks.task import Examples
from layersearch.tasks.text import Corpus, TextTask

TRAIN_PAIRS = 1800
VALIDATION_PAIRS = 500

T = TypeVar("T")
Ways = tuple[str, ...]  # one meaning, each way to say it
Scene = tuple[Ways, Ways, Ways, Ways, Ways]  # who, whom, verb, count, thing

_FRAMED, _HEDGED = 0.3, 0.1
_FRAMES = ("it is false that", "it is true that")
_HEDGES = (("never", "hardly"), ("really", "indeed"))
_CHANGES = (1, 1, 2, 3, 4)  # how many words of a scene differ in a pair that must be compared
_CHANGEABLE = (0, 2, 2, 3, 4)  # slots of a scene; the verb, hardest to tell apart, twice


def _ways(lines: str) -> tuple[Ways, ...]:
    return tuple(tuple(line.split("/")) for line in lines.split())


_NAMES = _ways("Anna Tom Maria Peter Lisa David Sarah Mark Emma Paul Laura Simon Julia Henry Clara Oscar Nina Felix")
_VERBS = _ways(
    "bought/purchased found/discovered fixed/repaired made/produced picked/selected collected/gathered"
    " built/constructed kept/saved ordered/requested drew/sketched"
)
_COUNTS = _ways("two/2 three/3 four/4 five/5 six/6 seven/7 eight/8 nine/9")
_THINGS = _ways(
    "cars/automobiles pictures/images coats/jackets stones/rocks boats/ships gifts/presents shops/stores cups/mugs"
    " bikes/bicycles couches/sofas houses/homes rugs/carpets"
)
_TRAIN_WORDS = (_NAMES, _NAMES, _VERBS, _COUNTS, _THINGS)
# The validation set also uses words that no training pair has, as the sentences of a real task would.
_MORE_NAMES = _NAMES + _ways("Helen Victor Diana George Rosa Martin")
_ALL_WORDS = (
    _MORE_NAMES,
    _MORE_NAMES,
    _VERBS + _ways("painted/coloured brought/fetched"),
    _COUNTS,
    _THINGS + _ways("bags/sacks songs/tunes maps/charts films/movies"),
)


def demo_task(data: Path | None = None) -> TextTask:
    """The made-up paraphrase task; raises WordsError where a folder is given, because it takes none."""
    if data is not None:
        raise WordsError(
            f"task demo makes its own data and takes no folder ({data}): leave out --data, or name its task"
        )
    read = partial(demo_corpus, TRAIN_PAIRS, VALIDATION_PAIRS, 0)
    return TextTask("demo", "classification", ("different", "same_meaning"), metrics=("accuracy", "f1"), read=read)


def demo_corpus(train: int, validation: int, seed: int) -> Corpus:
    """As many pairs as asked for, half of them labelled 1 (the same meaning); other seeds give other pairs."""
    rng = random.Random(seed)
    return Corpus(_examples(rng, train, _TRAIN_WORDS), _examples(rng, validation, _ALL_WORDS))


def _examples(rng: random.Random, n: int, words: tuple[tuple[Ways, ...], ...]) -> Examples:
    labels = [i % 2 for i in range(n)]
    pairs = [_pair(rng, words, label) for label in labels]
    return Examples(tuple(a for a, _ in pairs), tuple(b for _, b in pairs), np.array(labels, dtype=np.int64))


def _pair(rng: random.Random, words: tuple[tuple[Ways, ...], ...], label: int) -> tuple[str, str]:
    scene = _scene(rng, words)
    first, kind = _told(rng, scene), rng.random()
    if kind < _FRAMED:
        second = f"{_FRAMES[label]} {_told(rng, scene)}"
    elif kind < _FRAMED + _HEDGED:
        second = _told(rng, scene, _pick(rng, _HEDGES[label]))
    else:
        second = _told(rng, scene if label else _altered(rng, scene, words))
    return (first, second) if rng.random() < 0.5 else (second, first)


def _scene(rng: random.Random, words: tuple[tuple[Ways, ...], ...]) -> Scene:
    who, whom, verb, count, thing = (_pick(rng, ways) for ways in words)
    while whom == who:
        whom = _pick(rng, words[1])
    return who, whom, verb, count, thing


def _told(rng: random.Random, scene: Scene, hedge: str = "") -> str:
    """One of the sentences that tell `scene`: any synonyms, either word order."""
    who, whom, verb, count, thing = (_pick(rng, ways) for ways in scene)
    verb = f"{hedge} {verb}".strip()
    if rng.random() < 0.3:
        return f"{who} {verb} {count} {thing} for {whom}"
    return f"{who} {verb} {whom} {count} {thing}"


def _altered(rng: random.Random, scene: Scene, words: tuple[tuple[Ways, ...], ...]) -> Scene:
    """Another scene that shares all but one to four words with `scene`."""
    changed = list(scene)
    slots: set[int] = set()
    number = _pick(rng, _CHANGES)
    while len(slots) < number:
        slots.add(_pick(rng, _CHANGEABLE))
    for slot in sorted(slots):
        changed[slot] = _pick(rng, [ways for ways in words[slot] if ways not in scene])
    who, whom, verb, count, thing = changed
    return who, whom, verb, count, thing


def _pick(rng: random.Random, options: Sequence[T]) -> T:
    return options[int(rng.random() * len(options))]
