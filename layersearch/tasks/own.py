"""The task `own`: classification, regression or multi-label over named columns of the user's own tables.

Knows: which column is text and which is label, what kind of task the labels make, which metrics fit it, and how to say
what is wrong with a row. Does not know: file formats, tokens, models.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from functools import lru_cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from layersearch.counts import count
from layersearch.errors import DataError, WordsError
from layersearch.names import nearest, unknown
from layersearch.tasks.metrics import METRICS
from layersearch.tasks.tables import Source, Store, Texts, empty_in, is_list, sources_of, texts_of
from layersearch.tasks.task import DRAW_SEED, VALIDATION_SHARE, Examples
from layersearch.tasks.text import Corpus, TextTask, held_out

if TYPE_CHECKING:
    from layersearch.kinds import KindName

NAME = "own"
MOST = 100_000  # rows of a table that are used where nothing is said: a candidate sees each of them every epoch
MOST_CLASSES = 1000
FEW_CLASSES = 20  # up to so many may be as frequent as rows of a small table

# The first of each kind is the objective unless the user names one; two classes have one metric more.
FITTING: Mapping[str, tuple[str, ...]] = {
    "classification": ("accuracy", "f1-macro", "matthews"),
    "regression": ("spearman", "pearson"),
    "multi-label": ("f1-micro",),
}


@dataclass(frozen=True)
class Columns:
    """Which columns of a table are the task: names, the objective, the table to confirm on, the most examples to use.

    Several columns of `label` hold 0 or 1 each. Without `validation` a part of the table is held out for it. `examples`
    None is `MOST`, and 0 all.
    """

    text: str
    label: tuple[str, ...]
    pair: str | None = None
    metric: str | None = None
    validation: Path | None = None
    examples: int | None = None

    @property
    def texts(self) -> tuple[str, ...]:
        """The columns of texts."""
        return (self.text,) if self.pair is None else (self.text, self.pair)


def own_task(data: Path | None, columns: Columns | None) -> TextTask:
    """The task over the table `data`; reads its labels, to know what kind of task they make. Raises DataError, or
    WordsError for columns or a metric that it does not have."""
    if data is None or columns is None:
        raise WordsError(f"task {NAME} needs --data FILE and the names of two columns: --text COLUMN, --label COLUMN")
    found = _found(data, columns).train
    objective = _fitting(columns.metric, found.kind, found.classes)
    beside = [name for name in (*FITTING[found.kind], *_of_two(found.kind, found.classes)) if name != objective]
    return TextTask(NAME, found.kind, found.classes, (objective, *beside), partial(_corpus, data, columns))


def _of_two(kind: str, classes: Sequence[str]) -> tuple[str, ...]:
    return ("f1",) if kind == "classification" and len(classes) == 2 else ()


def _fitting(metric: str | None, kind: str, classes: Sequence[str]) -> str:
    allowed = (*FITTING[kind], *_of_two(kind, classes))
    if metric is None or metric in allowed:
        return metric or allowed[0]
    what = f"{kind} task" if kind != "classification" else f"classification of {len(classes)} classes"
    close = nearest(metric, allowed)
    raise WordsError(f"--metric {metric} does not fit this {what}{close}; allowed: {', '.join(allowed)}")


@dataclass(frozen=True)
class _Labels:
    """The labels of a table in the form of their kind, and the words of its classes."""

    kind: KindName
    values: NDArray[Any]
    classes: tuple[str, ...]


@dataclass(frozen=True)
class _Found:
    """Both tables, read once: texts on the disk, labels in memory."""

    train: _Labels
    texts: tuple[Texts, ...]
    validation: tuple[_Labels, tuple[Texts, ...]] | None
    mark: str


@lru_cache(maxsize=1)
def _found(data: Path, columns: Columns) -> _Found:
    if columns.metric is not None and columns.metric not in METRICS:
        raise WordsError(unknown("metric", columns.metric, METRICS))
    sources = sources_of(data)
    if columns.validation is not None:
        sources["validation"] = sources_of(columns.validation)["train"]
    stored, words = _stored(sources["train"], columns)
    train = _train_labels(words, columns, data)
    validation = None
    if "validation" in sources:
        source = sources["validation"]
        unseen, others = _stored(source, columns)
        validation = _like(others, train, source.path), tuple(map(unseen.texts, columns.texts))
    mark = " ".join(source.mark for source in sources.values())
    return _Found(train, tuple(map(stored.texts, columns.texts)), validation, mark)


def _corpus(data: Path, columns: Columns) -> Corpus:
    """Training and validation examples, at most as many training examples as asked for."""
    found = _found(data, columns)
    _found.cache_clear()  # of a large table few examples may be wanted
    train = _examples(found.train, found.texts)
    most = MOST if columns.examples is None else columns.examples or len(train)
    drawn = f"{data} has {count(len(train), 'row')}, of which {most:,} are drawn; --examples N draws N, and 0 takes all"
    warnings = [drawn] if most < len(train) and columns.examples is None else []
    if most < len(train):
        train = train.take(held_out(train.labels, most / len(train), DRAW_SEED))
    if found.validation is None:
        unseen = held_out(train.labels, VALIDATION_SHARE, DRAW_SEED)
        validation = train.take(unseen)
        train = train.take(np.setdiff1d(np.arange(len(train)), unseen))
        warnings.append(f"{data} has no validation set: {VALIDATION_SHARE:.0%} of its rows are held out for it")
    else:
        validation = _examples(*found.validation)
        if columns.validation is not None and columns.validation.samefile(data):
            warnings.append(f"--validation is {data}, so confirmed scores are of training data; name other rows")
    return Corpus(train, validation, tuple(warnings), mark=found.mark)


def _examples(labels: _Labels, texts: Sequence[Texts]) -> Examples:
    return Examples(texts[0], texts[1] if len(texts) > 1 else None, labels.values)


@dataclass
class _Words:
    """Labels as they are written, a column each, as numbers of `words` and as floats as far as they can be.

    A row of several labels stands as a list of them.
    """

    columns: list[list[NDArray[Any]]]
    floats: list[NDArray[np.float64]] | None
    words: dict[str, int]
    lists: bool = False


def _stored(source: Source, columns: Columns) -> tuple[Store, _Words]:
    """One pass over the table: texts go to the disk, labels are numbered. Raises DataError for the first bad column."""
    store = Store(columns.texts)
    labels = _Words([[] for _ in columns.label], [], {})
    empty: dict[str, list[int]] = {name: [] for name in (*columns.texts, *columns.label)}
    for batch in source.batches([*columns.texts, *columns.label]):
        rows = len(store)
        texts = [texts_of(batch.column(place)) for place in range(len(columns.texts))]
        for name, column in zip(columns.texts, texts, strict=True):
            empty[name] += empty_in(column, rows)
        store.add(texts)
        for place, name in enumerate(columns.label):
            column = batch.column(len(texts) + place)
            if not is_list(column):
                column = texts_of(column, source.words.get(name))
                empty[name] += empty_in(column, rows)
            _number(labels, place, column, source.words.get(name))
    for name, places in empty.items():
        if places:
            shown = ", ".join(map(str, places[:5])) + (", ..." if len(places) > 5 else "")
            many = "row" if len(places) == 1 else f"{len(places):,} rows,"
            raise DataError(f"{source.path}: column {name!r} is empty in {many} {shown}; fill or remove them")
    if not len(store):
        raise DataError(f"{source.path} has no rows")
    return store, labels


def _number(labels: _Words, place: int, column: Any, words: Sequence[str] | None) -> None:
    """Add a batch of one column of labels."""
    import pyarrow

    if is_list(column):
        labels.lists = True
        flat = texts_of(column.flatten(), words)
        codes = [labels.words.setdefault(word, len(labels.words)) for word in flat.to_pylist()]
        cuts = np.cumsum([len(row or ()) for row in column.to_pylist()])[:-1]
        rows = np.empty(len(column), dtype=object)
        rows[:] = np.split(np.array(codes, dtype=np.int64), cuts)
        labels.columns[place].append(rows)
        return
    if labels.floats is not None:
        try:
            labels.floats.append(column.cast(pyarrow.float64()).to_numpy())
        except pyarrow.ArrowInvalid:
            labels.floats = None
    if len(labels.words) <= MOST_CLASSES:
        coded = column.dictionary_encode()
        numbers = [labels.words.setdefault(word, len(labels.words)) for word in coded.dictionary.to_pylist()]
        labels.columns[place].append(np.array(numbers, dtype=np.int64)[coded.indices.to_numpy()])


def _train_labels(found: _Words, columns: Columns, data: Path) -> _Labels:
    """The labels of the training table, and what kind of task they make."""
    name = columns.label[0]
    if found.lists or len(columns.label) > 1:
        return _several(found, columns, data, None)
    floats = None if found.floats is None else np.concatenate(found.floats)
    asked = columns.metric in FITTING["regression"]
    if asked and floats is None:
        word = next(word for word in found.words if not _is_number(word))
        raise WordsError(f"--metric {columns.metric} does not fit: column {name!r} of {data} has {word!r}, no number")
    if floats is not None and (asked or not np.isfinite(floats).all() or bool(np.any(floats % 1))):
        _refuse_constant(floats, name, data)
        return _Labels("regression", floats.astype(np.float32), ())
    if len(found.words) > MOST_CLASSES:
        raise DataError(
            f"column {name!r} of {data} has more than {MOST_CLASSES:,} different labels; name another column with "
            "--label, or if it holds amounts, --metric spearman"
        )
    found = _by_integer(found) if floats is not None else found
    rows = sum(map(len, found.columns[0]))
    if len(found.words) > FEW_CLASSES and 2 * len(found.words) > rows:
        raise DataError(
            f"column {name!r} of {data} has {count(len(found.words), 'different label')} in {count(rows, 'row')}: it "
            "tells rows apart, not classes; name another column with --label, or if it holds amounts, --metric spearman"
        )
    words = sorted(found.words, key=(lambda word: (float(word), word)) if floats is not None else str)
    places = np.array([words.index(word) for word in found.words], dtype=np.int64)
    codes = places[np.concatenate(found.columns[0])]
    _refuse_constant(codes, name, data)
    return _Labels("classification", codes, tuple(words))


def _by_integer(found: _Words) -> _Words:
    """`found` with every whole number under its integer, as another table may write it: 1.0 and 1 are one class."""
    words: dict[str, int] = {}
    codes = [words.setdefault(_integer(word), len(words)) for word in found.words]
    return replace(found, columns=[[np.array(codes)[part] for part in column] for column in found.columns], words=words)


def _integer(word: str) -> str:
    """A whole number without its point or exponent; any other word as it is."""
    if word.lstrip("+-").isdigit() or not _is_number(word) or float(word) % 1 != 0:  # nan, of inf
        return word
    return str(int(Decimal(word)))


def _refuse_constant(values: NDArray[Any], name: str, data: Path) -> None:
    if not np.isfinite(values).all():
        raise DataError(f"{data}: a label in column {name!r} is not finite; correct or remove the row")
    if values.min() == values.max():
        raise DataError(f"{data}: every row has the same {name}, so there is nothing to learn or to score")


def _is_number(word: str) -> bool:
    try:
        float(word)
    except ValueError:
        return False
    return True


def _several(found: _Words, columns: Columns, data: Path, known: _Labels | None) -> _Labels:
    """Labels of which each row has any number, as float32 [n, labels] of 0 and 1."""
    if not found.lists:
        allowed = {"0", "1", "0.0", "1.0", "true", "false", "True", "False"}
        if strange := sorted(set(found.words) - allowed):
            raise DataError(f"{data}: a column of several --label holds {strange[0]!r}; allowed is 0 or 1")
        yes = np.array([word.lower() in ("1", "1.0", "true") for word in found.words])
        values = np.stack([yes[np.concatenate(column)] for column in found.columns], axis=1)
        return _Labels("multi-label", values.astype(np.float32), columns.label)
    classes = tuple(sorted(found.words)) if known is None else known.classes
    places = {word: classes.index(word) for word in found.words}
    numbers = np.array([places[word] for word in found.words], dtype=np.int64)
    rows = np.concatenate(found.columns[0])
    lists = np.zeros((len(rows), len(classes)), dtype=np.float32)
    for place, row in enumerate(rows):
        lists[place, numbers[row]] = 1
    return _Labels("multi-label", lists, classes)


def _like(found: _Words, train: _Labels, path: Path) -> _Labels:
    """The labels of the validation table in the form of the training table's. Raises DataError for an unknown one."""
    if train.kind == "regression":
        if found.floats is None:
            word = next(word for word in found.words if not _is_number(word))
            raise DataError(f"{path}: the label {word!r} is no number, and those of the training data are")
        return replace(train, values=np.concatenate(found.floats).astype(np.float32))
    if train.kind == "multi-label" and not found.lists:
        return _several(found, Columns("", train.classes), path, train)
    if not found.lists and all(map(_is_number, train.classes)):
        found = _by_integer(found)
    for word, row in _first_rows(found):
        if word not in train.classes:
            known = ", ".join(train.classes[:8]) + (", ..." if len(train.classes) > 8 else "")
            raise DataError(
                f"{path}, row {row}: the label {word!r}{nearest(word, train.classes)} is never seen in training, which "
                f"has {known}; correct it or add training rows"
            )
    if train.kind == "multi-label":
        return _several(found, Columns("", ("",)), path, train)
    places = np.array([train.classes.index(word) for word in found.words], dtype=np.int64)
    return replace(train, values=places[np.concatenate(found.columns[0])])


def _first_rows(found: _Words) -> Iterator[tuple[str, int]]:
    """Each label with the row, counted from 1, where it comes first."""
    codes = np.concatenate(found.columns[0])
    for word, code in found.words.items():
        there = [code in row for row in codes] if found.lists else codes == code
        yield word, int(np.argmax(there)) + 1
