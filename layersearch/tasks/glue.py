"""The nine tasks of GLUE (Wang et al. 2018), from the hub or from a folder in GLUE's own TSV layout.

Knows: each task's columns, label words, official metrics and row counts, and how to say what is wrong with a file. Does
not know: tokens, models, how the hub is reached. GLUE's test sets have no labels and are never read.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np

from layersearch import hub
from layersearch.counts import count
from layersearch.errors import DataError
from layersearch.tasks.task import Examples, Labels
from layersearch.tasks.text import Corpus, TextTask

REPOSITORY = "nyu-mll/glue"
_TOP_SCORE = 5.0
_COLA_COLUMNS = ("source", "label", "mark", "sentence")


@dataclass(frozen=True)
class Layout:
    """One row of GLUE's table.

    `texts` and `label` are columns of the TSV header, `hub_texts` the same on the hub. `classes` are the label words of
    the TSV in the hub's order; none means a score from 0 to 5. `names` are the hub's words for classes that the TSV has
    as bare numbers. `rows` are the official counts of the training and the validation set. `header` stands in for a
    file's first line where GLUE gives it none. `torn_rows` says that GLUE's own file has rows broken by line ends
    inside a text (nyu-mll/GLUE-baselines#5): those are left out, with a warning. `hub` is the task's name there if it
    is another: MNLI has two validation sets, matched (in genre) and mismatched, and a task for each.
    """

    folder: str
    texts: tuple[str, ...]
    hub_texts: tuple[str, ...]
    rows: tuple[int, int]
    classes: tuple[str, ...] = ("0", "1")
    names: tuple[str, ...] = ()
    metrics: tuple[str, ...] = ("accuracy",)
    label: str = "label"
    files: tuple[str, str] = ("train.tsv", "dev.tsv")
    hub_validation: str = "validation"
    header: tuple[str, ...] | None = None
    torn_rows: bool = False
    hub: str | None = None


_ENTAILMENT = ("entailment", "not_entailment")
_SENTENCES = ("sentence1", "sentence2")

# Metrics: gluebenchmark.com/tasks. Of two, the objective comes first: accuracy for MRPC as in Sajjad et al. (2020).
GLUE: Mapping[str, Layout] = MappingProxyType(
    {
        "cola": Layout(
            "CoLA",
            ("sentence",),
            ("sentence",),
            (8551, 1043),
            names=("unacceptable", "acceptable"),
            metrics=("matthews",),
            header=_COLA_COLUMNS,
        ),
        "sst2": Layout("SST-2", ("sentence",), ("sentence",), (67349, 872), names=("negative", "positive")),
        "mrpc": Layout(
            "MRPC",
            ("#1 String", "#2 String"),
            _SENTENCES,
            (3668, 408),
            names=("not_equivalent", "equivalent"),
            metrics=("accuracy", "f1"),
            label="Quality",
        ),
        "stsb": Layout(
            "STS-B", _SENTENCES, _SENTENCES, (5749, 1500), classes=(), metrics=("spearman", "pearson"), label="score"
        ),
        "qqp": Layout(
            "QQP",
            ("question1", "question2"),
            ("question1", "question2"),
            (363846, 40430),
            names=("not_duplicate", "duplicate"),
            metrics=("accuracy", "f1"),
            label="is_duplicate",
            torn_rows=True,
        ),
        "mnli": Layout(
            "MNLI",
            _SENTENCES,
            ("premise", "hypothesis"),
            (392702, 9815),
            classes=("entailment", "neutral", "contradiction"),
            label="gold_label",
            files=("train.tsv", "dev_matched.tsv"),
            hub_validation="validation_matched",
        ),
        "mnli-mm": Layout(
            "MNLI",
            _SENTENCES,
            ("premise", "hypothesis"),
            (392702, 9832),
            classes=("entailment", "neutral", "contradiction"),
            label="gold_label",
            files=("train.tsv", "dev_mismatched.tsv"),
            hub_validation="validation_mismatched",
            hub="mnli",
        ),
        "qnli": Layout("QNLI", ("question", "sentence"), ("question", "sentence"), (104743, 5463), classes=_ENTAILMENT),
        "rte": Layout("RTE", _SENTENCES, _SENTENCES, (2490, 277), classes=_ENTAILMENT),
        "wnli": Layout("WNLI", _SENTENCES, _SENTENCES, (635, 71), names=("not_entailment", "entailment")),
    }
)


def glue_task(name: str, data: Path | None = None) -> TextTask:
    """The GLUE task `name`, a key of `GLUE`; its data comes from the folder `data`, without one from the hub."""
    layout = GLUE[name]
    return TextTask(
        name=name,
        kind="classification" if layout.classes else "regression",
        labels=layout.names or layout.classes,
        metrics=layout.metrics,
        read=partial(_from_hub, name) if data is None else partial(_from_folder, name, data),
    )


@dataclass(frozen=True)
class _Table:
    """Rows of strings under a header, wherever they come from; `place` names a row for a message, such as "line"."""

    source: str
    place: str
    header: tuple[str, ...]
    texts: tuple[str, ...]
    label: str
    rows: Iterable[tuple[int, Sequence[str]]]


def _from_folder(name: str, folder: Path) -> Corpus:
    layout = GLUE[name]
    if not folder.is_dir():
        raise DataError(f"data folder {folder} {'is a file' if folder.exists() else 'does not exist'}: give the folder")
    lying = sorted(path.name for path in folder.iterdir())
    for file in layout.files:
        if file not in lying:
            holds = f"holds {', '.join(lying[:8])}{', ...' if len(lying) > 8 else ''}" if lying else "is empty"
            wanted = " and ".join(layout.files)
            raise DataError(f"data folder {folder} has no {file} (it {holds}): GLUE's {layout.folder} has {wanted}")
    return _corpus(name, [_tsv(folder / file, layout) for file in layout.files])


def _from_hub(name: str) -> Corpus:
    layout = GLUE[name]
    dataset = hub.hub_dataset(REPOSITORY, layout.hub or name)
    return _corpus(name, [_hub_table(dataset[split], name, split) for split in ("train", layout.hub_validation)])


def _corpus(name: str, tables: list[_Table]) -> Corpus:
    """Training and validation examples of two tables, with a warning where GLUE counts other rows."""
    layout = GLUE[name]
    warnings: list[str] = []
    parts = []
    for table, official in zip(tables, layout.rows, strict=True):
        examples, left_out = _examples(table, layout)
        parts.append(examples)
        if left_out:
            places = table.place + "s" * (len(left_out) > 1)
            warnings.append(
                f"{table.source}: left out {count(len(left_out), 'broken row')} ({places} {_some(left_out)})"
            )
        if len(examples) != official:
            warnings.append(f"{table.source}: {count(len(examples), 'row')} where GLUE's {name} has {official:,}")
    return Corpus(parts[0], parts[1], tuple(warnings))


def _some(numbers: list[int]) -> str:
    return ", ".join(map(str, numbers[:5])) + (", ..." if len(numbers) > 5 else "")


def _tsv(path: Path, layout: Layout) -> _Table:
    lines = _lines(path)
    header = layout.header or tuple(next(lines, (1, ("",)))[1])
    for column in (*layout.texts, layout.label):
        if column not in header:
            raise DataError(f"{path}, line 1: no column {column!r} in this header: {', '.join(header) or 'empty'}")
    return _Table(str(path), "line", header, layout.texts, layout.label, lines)


def _lines(path: Path) -> Iterator[tuple[int, Sequence[str]]]:
    """Line numbers from 1 and cells; a byte-order mark is no part of the first cell, and quotes are plain letters."""
    try:
        file = path.open("rb")
    except OSError as problem:
        raise DataError(f"{path} cannot be read: {problem.strerror}") from None
    with file:
        for number, raw in enumerate(file, 1):
            try:
                line = raw.decode("utf-8-sig" if number == 1 else "utf-8")
            except UnicodeDecodeError as problem:
                byte = f"byte {problem.start + 1} (0x{raw[problem.start]:02x})"
                raise DataError(f"{path}, line {number}: {byte} is not UTF-8: save the file as UTF-8") from None
            yield number, line.rstrip("\r\n").split("\t")


def _hub_table(split: Any, name: str, split_name: str) -> _Table:
    """The rows of a `datasets.Dataset`, labels back in the words of the TSV so that they pass the same checks."""
    layout = GLUE[name]
    words = dict(enumerate(layout.classes))
    texts = [["" if text is None else text for text in split[column]] for column in layout.hub_texts]
    labels = [words.get(label, str(label)) for label in split["label"]]
    header = (*layout.hub_texts, "label")
    rows = enumerate(zip(*texts, labels, strict=True), 1)
    return _Table(f"{REPOSITORY} ({name}, {split_name})", "row", header, layout.hub_texts, "label", rows)


def _examples(table: _Table, layout: Layout) -> tuple[Examples, list[int]]:
    """All examples of a table, and the numbers of the rows left out; raises DataError at the first broken row."""
    parsed: list[tuple[float, tuple[str, ...]]] = []
    left_out: list[int] = []
    for number, cells in table.rows:
        try:
            parsed.append(_parsed(cells, table, layout))
        except ValueError as problem:
            if not layout.torn_rows:
                raise DataError(f"{table.source}, {table.place} {number}: {problem}") from None
            left_out.append(number)
    if not parsed:
        raise DataError(f"{table.source} holds no examples: give GLUE's {layout.folder} data")
    numbers = [label for label, _ in parsed]
    labels: Labels = np.array(numbers, dtype=np.int64) if layout.classes else np.array(numbers, dtype=np.float32)
    if len(np.unique(labels)) == 1:
        raise DataError(
            f"{table.source}: every row has the same {table.label}, so there is nothing to learn or to score"
        )
    first, *second = zip(*(texts for _, texts in parsed), strict=True)
    return Examples(first, second[0] if second else None, labels), left_out


def _parsed(cells: Sequence[str], table: _Table, layout: Layout) -> tuple[float, tuple[str, ...]]:
    """Label and sentences of one row; raises ValueError that says what is wrong with it."""
    if len(cells) != len(table.header):
        wanted = f"where {len(table.header)} are expected, separated by tabs, without quoting"
        raise ValueError(f"{count(len(cells), 'column')} {wanted}")
    row = dict(zip(table.header, cells, strict=True))
    for column in table.texts:
        if not row[column].strip():
            raise ValueError(f"{column} is empty")
    return _label(row[table.label], table.label, layout.classes), tuple(row[column].strip() for column in table.texts)


def _label(word: str, column: str, classes: tuple[str, ...]) -> float:
    if classes:
        if word not in classes:
            raise ValueError(f"{column} is {word!r}; allowed is {' or '.join(classes)}")
        return classes.index(word)
    try:
        score = float(word)
    except ValueError:
        score = np.nan
    if not 0 <= score <= _TOP_SCORE:
        raise ValueError(f"{column} is {word!r}; allowed is a number from 0 to {_TOP_SCORE:g}")
    return score
