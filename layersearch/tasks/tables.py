"""Tables of the user's own: CSV, TSV, JSONL and Parquet files and saved `datasets` folders, however large.

Knows: how to read the named columns of each a part at a time, and to keep texts on the disk until they are asked for.
Does not know: what a column is for, labels, tokens. No table is ever in memory as a whole: what is wanted of it goes
through one pass into an unnamed Arrow file in the temporary folder, which vanishes with the process.
"""

from __future__ import annotations

import codecs
import csv
import hashlib
import tempfile
import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, overload

import numpy as np
from numpy.typing import NDArray

from layersearch.counts import count
from layersearch.errors import DataError, WordsError
from layersearch.names import nearest

AT_ONCE = 10_000  # texts that are read together
_BLOCK = 8 << 20  # bytes of a file that are read together
SUFFIXES = (".csv", ".tsv", ".jsonl", ".parquet")
_SEPARATORS = {",": "commas", "\t": "tabs", ";": "semicolons", "|": "bars"}


class _Tabs(csv.excel_tab):
    quoting = csv.QUOTE_NONE


@dataclass(frozen=True)
class Source:
    """A table where it lies: its columns, a way to read some of them in parts, and a hash of its bytes.

    `words` are the names of the classes of columns that hold their numbers, which a `datasets` folder may know.
    """

    path: Path
    columns: tuple[str, ...]
    read: Callable[[list[str]], Iterator[Any]]
    mark: str
    words: Mapping[str, Sequence[str]] = field(default_factory=dict)

    def batches(self, columns: Sequence[str]) -> Iterator[Any]:
        """Arrow record batches of `columns`, in this order.

        Raises WordsError for one that is not there, DataError for one that is there twice.
        """
        for name in columns:
            if name not in self.columns:
                there = ", ".join(self.columns)
                raise WordsError(
                    f"{self.path} has no column {name!r}{nearest(name, self.columns)}; it has: {there or 'none at all'}"
                )
            if (times := self.columns.count(name)) > 1:
                raise DataError(
                    f"{self.path} has {count(times, 'column')} named {name!r}; rename or remove all but one"
                )
        with _readable(self.path):
            yield from (batch.select(list(columns)) for batch in self.read(list(dict.fromkeys(columns))))


def sources_of(path: Path) -> dict[str, Source]:
    """The table at `path` as `train`, and the `validation` that a saved folder may have beside it. Raises DataError."""
    if path.is_dir():
        return _saved(path)
    if not path.exists():
        raise DataError(f"data file {path} does not exist")
    if path.suffix.lower() not in SUFFIXES:
        raise DataError(f"{path} has no known ending; give a file that ends in {', '.join(SUFFIXES)} or a saved folder")
    with _readable(path):
        return {"train": _file(path)}


def _file(path: Path) -> Source:
    suffix = path.suffix.lower()
    mark = hash_of(path, text=suffix != ".parquet")
    if suffix == ".parquet":
        from pyarrow.parquet import ParquetFile

        table = ParquetFile(path)
        return Source(path, tuple(table.schema_arrow.names), partial(_parquet, table), mark)
    if suffix == ".jsonl":
        import pyarrow.json

        options = pyarrow.json.ReadOptions(block_size=_BLOCK)
        with pyarrow.json.open_json(path, read_options=options) as reader:
            names = reader.schema.names
        return Source(path, tuple(names), lambda _: pyarrow.json.open_json(path, read_options=options), mark)
    with path.open(encoding="utf-8-sig", newline="") as file:
        header = next(csv.reader(file, csv.excel if suffix == ".csv" else _Tabs), [])
    _check_header(path, header)
    return Source(path, tuple(header), partial(_separated, path), mark)


def _check_header(path: Path, header: Sequence[str]) -> None:
    """Raise DataError for a file without one, and where its only name is several that something else separates."""
    if not header:
        raise DataError(f"{path} is empty; it needs a line of column names, and rows")
    others = [sign for sign in _SEPARATORS if sign in header[0]] if len(header) == 1 else []
    if others:
        mend = "write it anew with commas (.csv) or tabs (.tsv)"
        raise DataError(f"{path} seems to be separated by {_SEPARATORS[others[0]]} ({others[0]!r}); {mend}")


def _parquet(table: Any, columns: list[str]) -> Iterator[Any]:
    return iter(table.iter_batches(AT_ONCE, columns=columns))


def _separated(path: Path, columns: list[str]) -> Iterator[Any]:
    """Every cell as text, an empty one as an empty text; only CSV has quotes."""
    import pyarrow
    from pyarrow import csv as arrow_csv

    comma = path.suffix.lower() == ".csv"
    parsing = arrow_csv.ParseOptions(
        delimiter="," if comma else "\t", quote_char='"' if comma else False, newlines_in_values=comma
    )
    types = dict.fromkeys(columns, pyarrow.string())
    converting = arrow_csv.ConvertOptions(include_columns=columns, column_types=types, strings_can_be_null=False)
    reading = arrow_csv.ReadOptions(block_size=_BLOCK)
    return iter(arrow_csv.open_csv(path, reading, parsing, converting))


def _saved(folder: Path) -> dict[str, Source]:
    import datasets  # type: ignore[import-untyped]

    if not any((folder / name).exists() for name in ("dataset_dict.json", "dataset_info.json", "state.json")):
        raise DataError(f"{folder} is no saved `datasets` folder; give one, or a file in {', '.join(SUFFIXES)}")
    try:
        found = datasets.load_from_disk(str(folder))
    except Exception as problem:  # whatever a damaged one gives
        what = " ".join(str(problem).split())[:200]
        raise DataError(f"the saved `datasets` folder {folder} cannot be opened: {what}; save it anew") from None
    parts = found if isinstance(found, datasets.DatasetDict) else {"train": found}
    if "train" not in parts:
        raise DataError(f"{folder} has no part `train`; it has: {', '.join(parts)}")
    return {name: _part(folder / name, parts[name]) for name in ("train", "validation") if name in parts}


def _part(place: Path, dataset: Any) -> Source:
    def read(columns: list[str]) -> Iterator[Any]:
        parts = dataset.select_columns(columns).with_format("arrow").iter(AT_ONCE)
        return (batch for part in parts for batch in part.to_batches())

    inner = {name: getattr(feature, "feature", feature) for name, feature in dataset.features.items()}  # of a list
    words = {name: tuple(feature.names) for name, feature in inner.items() if hasattr(feature, "names")}
    mark = hashlib.sha256()
    for file in dataset.cache_files:
        mark.update(hash_of(Path(file["filename"]), text=False).encode())
    return Source(place, tuple(dataset.column_names), read, mark.hexdigest(), words)


def is_list(column: Any) -> bool:
    """Whether the cells of an Arrow column are lists."""
    import pyarrow

    return bool(pyarrow.types.is_list(column.type) or pyarrow.types.is_large_list(column.type))


def texts_of(column: Any, words: Sequence[str] | None = None) -> Any:
    """A column as stripped texts, what is missing as an empty one; numbers of classes by their `words`."""
    import pyarrow
    from pyarrow import compute

    if words is not None and pyarrow.types.is_integer(column.type):
        column = pyarrow.array(words).take(compute.if_else(compute.less(column, 0), None, column))
    return compute.utf8_trim_whitespace(compute.fill_null(column.cast(pyarrow.string()), ""))


def empty_in(column: Any, rows: int) -> list[int]:
    """Numbers of the rows, counted from 1, whose text is empty."""
    from pyarrow import compute

    found = compute.equal(compute.binary_length(column), 0).to_numpy(zero_copy_only=False)
    return [int(place) + rows + 1 for place in np.flatnonzero(found)]


def hash_of(path: Path, *, text: bool) -> str:
    """The sha256 of a file; raises DataError at the first byte that is not UTF-8 where it is `text`."""
    digest, decoder, seen = hashlib.sha256(), codecs.getincrementaldecoder("utf-8")(), 0
    with path.open("rb") as file:
        while block := file.read(_BLOCK):
            digest.update(block)
            waiting = len(decoder.getstate()[0])  # bytes of a letter that the last block cut
            try:
                if text:
                    decoder.decode(block)
            except UnicodeDecodeError as problem:
                at = seen - waiting + problem.start
                bad = f"byte 0x{problem.object[problem.start]:02x} at offset {at:,}"
                raise DataError(f"{path}: {bad} is not UTF-8; save the file as UTF-8") from None
            seen += len(block)
    return digest.hexdigest()


@contextmanager
def _readable(path: Path) -> Iterator[None]:
    """What is wrong with a file, as one line."""
    import pyarrow

    try:
        yield
    except pyarrow.ArrowException as problem:
        what = " ".join(str(problem).split())[:200]
        row = (
            "correct the row (in CSV quote a cell that holds the separator), or "
            if path.suffix.lower() in SUFFIXES[:3]
            else ""
        )
        raise DataError(f"{path} cannot be read: {what.rstrip('.')}; {row}write the table anew") from None
    except OSError as problem:
        raise DataError(f"{path} cannot be read: {problem.strerror or problem}") from None


class Store:
    """Columns of texts in an unnamed Arrow file, written a batch at a time and read back a batch at a time."""

    def __init__(self, columns: Sequence[str]) -> None:
        import pyarrow

        self._file = tempfile.TemporaryFile(prefix="layersearch-")  # noqa: SIM115 - it lives as long as its texts
        weakref.finalize(self, self._file.close)
        self._schema = pyarrow.schema([(str(place), pyarrow.string()) for place in range(len(columns))])
        self._columns = tuple(columns)
        self._writer: Any = pyarrow.ipc.new_file(self._file, self._schema)
        self._rows = [0]
        self._last: tuple[int, Any] = (-1, None)

    def __len__(self) -> int:
        return self._rows[-1]

    def add(self, texts: Sequence[Any]) -> None:
        """Write one batch: an Arrow array of strings for each column."""
        import pyarrow

        self._writer.write_batch(pyarrow.record_batch(list(texts), schema=self._schema))
        self._rows.append(self._rows[-1] + len(texts[0]))

    def texts(self, column: str) -> Texts:
        """The texts of a column, all of them; nothing can be added from now on."""
        if self._writer is not None:
            import pyarrow

            self._writer.close()
            self._writer = None
            pyarrow.default_memory_pool().release_unused()  # what reading took
            self._reader = pyarrow.ipc.open_file(pyarrow.PythonFile(self._file, "r"))
        return Texts(self, self._columns.index(column), np.arange(len(self)))

    def _batch(self, number: int) -> Any:
        if self._last[0] != number:
            self._last = number, self._reader.get_batch(number)
        return self._last[1]

    def read(self, column: int, rows: NDArray[np.int64]) -> list[str]:
        """The texts in `rows` of a column, in this order."""
        found: list[str] = []
        numbers = np.searchsorted(self._rows, rows, side="right") - 1
        edges = np.flatnonzero(np.diff(numbers)) + 1
        for part, number in zip(np.split(rows, edges), numbers[np.append(0, edges)] if len(rows) else (), strict=False):
            found += self._batch(int(number)).column(column).take(part - self._rows[number]).to_pylist()
        return found


@dataclass(frozen=True, eq=False)
class Texts(Sequence[str]):
    """Some rows of a column of a `Store`; a `tasks.task.Column`."""

    store: Store
    column: int
    rows: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.rows)

    @overload
    def __getitem__(self, place: int) -> str: ...
    @overload
    def __getitem__(self, place: slice) -> Sequence[str]: ...
    def __getitem__(self, place: int | slice) -> str | Sequence[str]:
        if isinstance(place, slice):
            return self.store.read(self.column, self.rows[place])
        return self.store.read(self.column, self.rows[[place]])[0]

    def __iter__(self) -> Iterator[str]:
        for start in range(0, len(self), AT_ONCE):
            yield from self[start : start + AT_ONCE]

    def take(self, indices: NDArray[np.int64]) -> Texts:
        """The texts at `indices`, still on the disk."""
        return Texts(self.store, self.column, self.rows[indices])
