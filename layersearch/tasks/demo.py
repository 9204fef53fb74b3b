"""The built-in task: do two short sentences say the same? Made on the spot, seeded, no file and no network.

Knows: how to make pairs whose answer needs who, did, how many and what read together, with synonyms, digits for number
words, and sentences that take themselves back. Does not know: models. Calibrated on the real 6-layer MiniLM with the
recipe `demo` (results/demo): all six layers score above 95 %, three about 70 %, one no better than a coin.
"""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np

from layersearch.errors import DataError
from layersearch.tasks.task import Examples
from layersearch.tasks.text import Corpus, TextTask

TRAIN, VALIDATION = 2000, 500  # pairs
SEED = 0  # of the data; a study's own seed decides its split

_NAMES = (
    *("Anna", "Tom", "Maria", "Peter", "Lisa", "David", "Sarah", "Mark", "Emma", "Paul"),
    *("Laura", "Simon", "Julia", "Henry", "Clara", "Oscar", "Nina", "Felix", "Alice", "Bruno"),
)
_NEW_NAMES = ("Helen", "Victor", "Diana", "George", "Rosa", "Martin", "Irene", "Leo")  # in the validation set only
_VERBS = (
    *(("bought", "purchased"), ("found", "discovered"), ("fixed", "repaired"), ("hid", "concealed")),
    *(("made", "produced"), ("got", "received"), ("picked", "selected"), ("displayed", "showed")),
    *(("collected", "gathered"), ("wanted", "desired")),
)
_NUMBERS = tuple(zip(("two", "three", "four", "five", "six", "seven", "eight", "nine"), "23456789", strict=True))
_THINGS = (
    *(("cars", "automobiles"), ("pictures", "images"), ("coats", "jackets"), ("stones", "rocks")),
    *(("boats", "ships"), ("gifts", "presents"), ("shops", "stores"), ("cups", "mugs")),
    *(("bikes", "bicycles"), ("couches", "sofas"), ("houses", "homes"), ("rugs", "carpets")),
)
_FRAMES = ("it is false that", "it is true that")  # by label: 0 takes the sentence back, 1 does not
_ADVERBS = (("never", "hardly"), ("really", "indeed"))
_FRAMED, _WITH_ADVERB = 0.3, 0.1  # shares of the pairs
_CHANGES = (0.5, 0.25, 0.25)  # of the other unequal pairs: how many differ in one, two, three of the four parts


Fact = tuple[tuple[str, ...], ...]  # who, did what, to how many, of which: each part by all its spellings


def demo_task(data: Path | None = None) -> TextTask:
    """The paraphrase task; raises DataError for a data folder, since it makes its own."""
    if data is not None:
        raise DataError(f"the task demo makes its own data and takes no folder, but --data {data} was given; omit it")
    return TextTask(name="demo", kind="classification", num_labels=2, metrics=("accuracy",), read=_corpus)


def _corpus() -> Corpus:
    rng = random.Random(SEED)
    validation = random.Random(SEED + 1)
    return Corpus(_examples(rng, TRAIN, _NAMES), _examples(validation, VALIDATION, _NAMES + _NEW_NAMES))


def _examples(rng: random.Random, number: int, names: tuple[str, ...]) -> Examples:
    """`number` pairs, half of them with equal meaning."""
    rows = [(*_pair(rng, names, label), label) for label in (0, 1) for _ in range(number // 2)]
    rng.shuffle(rows)
    first, second, labels = zip(*rows, strict=True)
    return Examples(first, second, np.array(labels, dtype=np.int64))


def _pair(rng: random.Random, names: tuple[str, ...], label: int) -> tuple[str, str]:
    """Two sentences that say the same if `label` is 1, in random order."""
    pools = (tuple((name,) for name in names), _VERBS, _NUMBERS, _THINGS)
    fact: Fact = tuple(rng.choice(pool) for pool in pools)
    first, kind = _say(rng, fact), rng.random()
    if kind < _FRAMED:
        second = _say(rng, fact, before=_FRAMES[label])
    elif kind < _FRAMED + _WITH_ADVERB:
        second = _say(rng, fact, adverb=rng.choice(_ADVERBS[label]))
    else:
        second = _say(rng, fact if label else _changed(rng, fact, pools))
    return (first, second) if rng.random() < 0.5 else (second, first)


def _say(rng: random.Random, fact: Fact, before: str = "", adverb: str = "") -> str:
    """One of the fact's spellings."""
    who, verb, number, thing = (rng.choice(spellings) for spellings in fact)
    return " ".join(f"{before} {who} {adverb} {verb} {number} {thing}".split())


def _changed(rng: random.Random, fact: Fact, pools: tuple[tuple[tuple[str, ...], ...], ...]) -> Fact:
    """A fact that differs from `fact` in one to three of its four parts."""
    changed = rng.sample(range(4), rng.choices((1, 2, 3), _CHANGES)[0])
    others = [rng.choice([part for part in pool if part != old]) for pool, old in zip(pools, fact, strict=True)]
    return tuple(others[i] if i in changed else fact[i] for i in range(4))
