"""The analyses put together: one or two models, a task's examples, and what is to be found out about them.

Knows: which part of the data each analysis takes, and that the states of a pass serve several of them. Does not know:
how anything is computed, shown or written down.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray

from layersearch.analysis.cka import Sums, batches_of, sums_of
from layersearch.analysis.probes import Part as Rows
from layersearch.analysis.probes import Probed, probe, require_labels
from layersearch.analysis.readout import ReadOut, read_out
from layersearch.analysis.sentences import Sentences, generate, load_senteval
from layersearch.analysis.similarity import Similarity, Summing
from layersearch.analysis.states import groups_of, layer_rows, require_one_stack, rows_of
from layersearch.analysis.subject import Subject
from layersearch.analysis.wanted import OWN, RowsOf, Wanted
from layersearch.counts import count
from layersearch.errors import DataError, WordsError
from layersearch.kinds import KINDS
from layersearch.models.families import has_halves
from layersearch.models.language import LanguageModel
from layersearch.tasks.task import Encoded, Examples, Splits, Task
from layersearch.tasks.text import TextTask, held_out

READ_TEXTS = 256  # of them are read out: logits over a vocabulary at every place take long
DEV = 0.2  # share of the training examples on which a probe's strength is chosen
TEXTS = 20  # times as many texts as examples are looked through for sentences to be labelled

Progress = Callable[[str, float], None]
"""Is told what is being done, and which share of it is."""


@dataclass(frozen=True, eq=False)
class Map:
    """CKA `of` layer outputs or of attention outputs, with the names of the places `down` and `across`.

    `values` are [down, across], NaN where a place has no variance.
    """

    of: Literal["layers", "attention"]
    down: tuple[str, ...]
    across: tuple[str, ...]
    values: NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Analysis:
    """What was found of one or two models, called `names`, whose places are called `places`.

    `similarity` and `readout` have one entry a model, and so has each of `probes`; what was not asked for is empty.
    """

    names: tuple[str, ...]
    places: tuple[tuple[str, ...], ...]
    wanted: Wanted
    examples: int
    cka: tuple[Map, ...] = ()
    similarity: tuple[Similarity, ...] = ()
    probes: tuple[tuple[Probed, ...], ...] = ()
    readout: tuple[ReadOut, ...] = ()


def analyze(
    subjects: Sequence[Subject],
    task: Task,
    splits: Splits,
    wanted: Wanted,
    progress: Progress = lambda *_: None,
    found_out: Callable[[Analysis], None] = lambda _: None,
) -> Analysis:
    """Analyse one subject, or two side by side, on the task's examples.

    `found_out` is told of each part by itself, as soon as it is known. Raises LayersearchError for what cannot be done,
    before anything takes long.
    """
    _check(subjects, task, wanted)
    probing = _probing_tasks(task, splits, wanted) if "probes" in wanted.what else []
    examples = drawn(getattr(splits, wanted.part), wanted.examples, wanted.seed)
    readers = _language_models(subjects) if "readout" in wanted.what else []
    encoded = [task.encode(examples, one.reader, wanted.max_length) for one in subjects]
    if readers:
        _check_same_tokens(encoded)
    names, places = zip(*((one.name, one.places) for one in subjects), strict=True)
    about = Analysis(tuple(names), tuple(places), wanted, len(encoded[0]))
    maps: tuple[Map, ...] = ()
    similar: tuple[Similarity, ...] = ()
    if {"cka", "similarity"} & set(wanted.what):
        maps, similar = similarities(subjects, encoded, wanted, progress)
        found_out(replace(about, cka=maps, similarity=similar))
    probed = []
    for one in probing:
        probed.append(_probed(subjects, one, wanted, progress))
        found_out(replace(about, probes=(probed[-1],)))
    readout: tuple[ReadOut, ...] = ()
    if readers:
        readout = _read(subjects, readers, encoded, progress)
        found_out(replace(about, readout=readout))
    return replace(about, cka=maps, similarity=similar, probes=tuple(probed), readout=readout)


def similarities(
    subjects: Sequence[Subject], encoded: Sequence[Encoded], wanted: Wanted, progress: Progress = lambda *_: None
) -> tuple[tuple[Map, ...], tuple[Similarity, ...]]:
    """CKA of the first subject's places with the second's, or its own, and what each one's layers change; one pass.

    What is not wanted of these is empty. Raises DataError for two subjects that read different examples.
    """
    _check_comparable(encoded, wanted)
    sums: dict[str, Sums] = {}
    summing = [Summing() for _ in subjects]
    groups = groups_of(encoded[0].lengths, np.arange(len(encoded[0])), wanted.batch, wanted.rows, wanted.seed)
    for number, group in enumerate(groups):
        hear = [(one,) if "similarity" in wanted.what else () for one in summing]
        rows = [
            rows_of(one.model, texts, group, wanted.rows, listeners)
            for one, texts, listeners in zip(subjects, encoded, hear, strict=True)
        ]
        for of in _compared(subjects) if "cka" in wanted.what else ():
            found = _sums(of, rows, wanted, wanted.seed + number)
            sums[of] = sums[of].plus(found) if of in sums else found
        progress("reading the hidden states of all layers", (number + 1) / len(groups))
    similar = tuple(one.means() for one in summing) if "similarity" in wanted.what else ()
    return tuple(_map(of, subjects, found) for of, found in sums.items()), similar


def drawn(examples: Examples, number: int, seed: int) -> Examples:
    """At most `number` of the examples, in their own order."""
    return examples.take(np.sort(np.random.default_rng(seed).permutation(len(examples))[:number]))


def _check(subjects: Sequence[Subject], task: Task, wanted: Wanted) -> None:
    for one in subjects:
        require_one_stack(one.model, "choose a model with one")
    if OWN in wanted.probes and "probes" in wanted.what:
        require_labels(task)


def _compared(subjects: Sequence[Subject]) -> tuple[Literal["layers", "attention"], ...]:
    """Attention outputs are compared where all models have halves."""
    halves = all(has_halves(one.model.config.model_type) for one in subjects)
    return ("layers", "attention") if halves else ("layers",)


def _check_comparable(encoded: Sequence[Encoded], wanted: Wanted) -> None:
    first, *others = encoded
    for other in others:
        if len(other) != len(first):
            raise DataError(
                f"one model reads {count(len(first), 'example')} and the other {len(other)}, because their tokenizers "
                "cut them differently; raise --max-length until none is cut, or compare models of one tokenizer"
            )
        if wanted.rows == "every" and not np.array_equal(first.input_ids, other.input_ids):
            raise WordsError(
                "--rows every compares token with token, and the two models cut the texts into different tokens; "
                "take --rows mean"
            )


def _sums(of: str, rows: Sequence[torch.Tensor], wanted: Wanted, seed: int) -> Sums:
    """The sums of a group, batch by batch."""
    picked = [_picked(of, one, wanted.attention) for one in rows]
    found: Sums | None = None
    for batch in zip(*(batches_of(one, wanted.batch, seed) for one in picked), strict=True):
        sums = sums_of(*batch)
        found = sums if found is None else found.plus(sums)
    assert found is not None
    return found


def _picked(of: str, rows: torch.Tensor, attention: str) -> torch.Tensor:
    """The rows [places, rows, width] of layer outputs, or of attention outputs, among those of all halves."""
    if of == "layers":
        return rows[::2]
    return rows[1::2] - rows[:-1:2] if attention == "change" else rows[1::2]


def _map(of: str, subjects: Sequence[Subject], sums: Sums) -> Map:
    ends = [one.places if of == "layers" else one.places[1:] for one in (subjects[0], subjects[-1])]
    return Map("layers" if of == "layers" else "attention", ends[0], ends[1], sums.values())


def _probing_tasks(task: Task, splits: Splits, wanted: Wanted) -> list[tuple[Task, Examples, Examples, Examples]]:
    """Each task with its examples to fit on, to choose on and to score on."""
    found: list[tuple[Task, Examples, Examples, Examples]] = []
    if OWN in wanted.probes:
        train = drawn(splits.train, wanted.examples, wanted.seed)
        dev = held_out(train.labels, DEV, wanted.seed)
        fit = np.setdiff1d(np.arange(len(train)), dev)
        found.append((task, train.take(fit), train.take(dev), drawn(splits.search, wanted.examples, wanted.seed)))
    made = [name for name in wanted.probes if name != OWN]
    if KINDS[task.kind].reader != "AutoTokenizer" and (made or wanted.senteval is not None):
        said = "--senteval" if wanted.senteval is not None else f"--probe {made[0]}"
        raise WordsError(f"{said} is about sentences, and a model of {task.name} reads none; leave it out")
    sentences: list[Sentences] = []
    if made:
        texts = _sentences_of(task, splits, wanted)
        sentences += [generate(name, texts, wanted.examples, wanted.seed) for name in made]
    if wanted.senteval is not None:
        sentences += load_senteval(wanted.senteval, wanted.examples, wanted.seed)
    return [*found, *((one.task, one.fit, one.dev, one.test) for one in sentences)]


def _sentences_of(task: Task, splits: Splits, wanted: Wanted) -> list[str]:
    """The texts of the training part, those of a pair by themselves."""
    if not isinstance(task, TextTask):
        raise WordsError(
            f"sentences to be labelled by what they tell of themselves come from a task over texts, and {task.name} "
            "has none by themselves; choose another --task, or give SentEval's files with --senteval"
        )
    train = drawn(splits.train, TEXTS * wanted.examples, wanted.seed)
    return [*train.text, *(train.pair or ())]


def _probed(
    subjects: Sequence[Subject],
    probing: tuple[Task, Examples, Examples, Examples],
    wanted: Wanted,
    progress: Progress,
) -> tuple[Probed, ...]:
    """One task probed in every subject, over rows of one forward pass each."""
    task, *parts = probing
    of: RowsOf = "first" if wanted.rows == "first" else "mean"
    total = sum(map(len, parts)) * len(subjects)
    done, found = 0, []
    for one in subjects:
        rows = []
        for part in parts:
            encoded = task.encode(part, one.reader, wanted.max_length)
            before = done
            rows.append(
                Rows(layer_rows(one.model, encoded, of, _share(progress, task, before, len(part), total)), encoded)
            )
            done += len(part)
        fit, dev, test = rows
        found.append(probe(task, fit, dev, test, lambda share: progress(f"fitting probes of {task.name}", share)))
    return tuple(found)


def _share(progress: Progress, task: Task, before: int, number: int, total: int) -> Callable[[float], None]:
    step = f"reading the hidden states for probes of {task.name}"
    return lambda share: progress(step, (before + share * number) / total)


def _language_models(subjects: Sequence[Subject]) -> list[LanguageModel]:
    """The subjects with their heads over the vocabulary; raises ModelError where one has none."""
    for one in subjects:
        one.language.model.to(one.model.device)  # type: ignore[arg-type]
    return [one.language for one in subjects]


def _read(
    subjects: Sequence[Subject], models: Sequence[LanguageModel], encoded: Sequence[Encoded], progress: Progress
) -> tuple[ReadOut, ...]:
    special = subjects[0].reader.all_special_ids
    texts = _first_texts(encoded[0], READ_TEXTS)
    step = "reading out what each layer says"
    return tuple(read_out(models[0], texts, special, models[1:], lambda share: progress(step, share)))


def _check_same_tokens(encoded: Sequence[Encoded]) -> None:
    first, *others = encoded
    if any(not np.array_equal(first.input_ids, other.input_ids) for other in others):
        raise WordsError(
            "the two models cut the texts into different tokens, so what they say cannot be compared; read each out "
            "by itself, or name what else is wanted, such as --what cka,similarity"
        )


def _first_texts(encoded: Encoded, number: int) -> Encoded:
    """The first texts, as they are encoded; labels stay behind."""
    end = int(encoded.offsets[min(number, len(encoded))])
    types = None if encoded.token_type_ids is None else encoded.token_type_ids[:end]
    offsets = encoded.offsets[: number + 1]
    return Encoded(encoded.input_ids[:end], types, offsets, np.zeros(len(offsets) - 1, dtype=np.int64))
