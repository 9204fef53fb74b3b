"""A table of known scores: a CSV file with a pattern and a score a row, ours or somebody else's.

Knows: how patterns are spelled in such files, and when two rows must not be mixed. Does not know: models, training,
studies, what the scores are used for.
"""

from __future__ import annotations

import csv
import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import fmean

from layersearch.errors import DataError, PatternError, WordsError
from layersearch.names import unknown
from layersearch.pattern import Pattern, thirds
from layersearch.search.trials import Direction

PATTERN_COLUMNS = ("pattern", "kept_layers", "dropped_layers")


@dataclass(frozen=True)
class Known:
    """What a table says of one pattern: the mean of its scores, its parameters, and scores of shorter training.

    `rungs` are the scores by share of the recipe's steps.
    """

    score: float
    parameters: int
    rungs: Mapping[float, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Table:
    """Known scores by pattern text, of a model with `num_layers` layers; `unchanged` are that model's parameters.

    Where the file has no column `parameters`, it is not `sized`, and both are counted in thirds of a layer (see
    `pattern.thirds`). `metric` is the score's column; `fingerprint` tells the file, the column and the chosen rows from
    others.
    """

    name: str
    metric: str
    direction: Direction
    num_layers: int
    unchanged: int
    known: Mapping[str, Known]
    fingerprint: str
    sized: bool = True


def read_table(
    file: Path,
    score: str = "score",
    chosen: Mapping[str, str] | None = None,
    direction: Direction = "maximize",
    num_layers: int | None = None,
    rungs: Mapping[float, str] | None = None,
) -> Table:
    """Read known scores from a CSV file with a header; `chosen` picks rows by column and value.

    A row's pattern stands in `pattern` (any spelling; `layersearch front --all --csv` writes it), `kept_layers` or
    `dropped_layers` (layers counted from 0, spaces between them); its score in the column `score`; its size in
    `parameters`, if there is such a column. The model has `num_layers` layers, or as many as the highest layer named
    tells. A row that keeps no layer at all is left out: no pattern spells it. `rungs` names the columns with the scores
    after a share of the recipe's steps.

    Rows of one pattern are taken for repetitions and their scores averaged. Where the scores differ and words beside
    them do too (the task, the split), that is refused. Raises DataError, with file and line, for this and for files,
    columns, rows and patterns that are absent or broken.
    """
    rows = _rows(file)
    columns = list(rows[0].values)
    spelling = next((name for name in PATTERN_COLUMNS if name in columns), None)
    if spelling is None:
        raise DataError(f"{file} has none of the columns {', '.join(PATTERN_COLUMNS)}; it has {', '.join(columns)}")
    rungs = rungs or {}
    wanted = [("--score", score), *(("--where", name) for name in chosen or {}), *(("rung", n) for n in rungs.values())]
    for option, name in wanted:
        if name not in columns:
            raise WordsError(f"{file}: {unknown(f'{option} column', name, columns)}")
    rows = _only(rows, chosen or {})
    layers = num_layers or 1 + max(max(row.layers(spelling), default=0) for row in rows)
    alike: dict[str, list[_Row]] = {}
    for row in rows:
        pattern = row.pattern(spelling, layers)
        if pattern is not None:
            alike.setdefault(str(pattern), []).append(row)
    sized = "parameters" in columns
    known = {
        text: Known(
            _score(found, score),
            _size(text, found[0], sized=sized),
            {share: _score(found, column) for share, column in rungs.items()},
        )
        for text, found in alike.items()
    }
    return Table(
        name=file.name,
        metric=score,
        direction=direction,
        num_layers=layers,
        unchanged=_unchanged(file, known, layers, sized=sized),
        known=known,
        fingerprint=_fingerprint(file, score, chosen or {}, layers, rungs),
        sized=sized,
    )


@dataclass(frozen=True)
class _Row:
    """One line of the file, by column."""

    file: Path
    line: int
    values: Mapping[str, str]

    def number(self, column: str) -> float:
        """The finite number in `column`."""
        text = self.values[column]
        try:
            value = float(text)
        except ValueError:
            value = math.nan
        if not math.isfinite(value):
            raise self.broken(f"{column} is {text!r}, which is no number; correct or remove the row")
        return value

    def layers(self, spelling: str) -> list[int]:
        """The layers that the row names."""
        text = self.values[spelling]
        if spelling == "pattern":
            return [block.layer for block in self._parsed(text).blocks]
        if not all(token.isdecimal() for token in text.split()):
            raise self.broken(f"cannot read {spelling} {text!r}; write layers counted from 0, as `0 1 4`")
        return [int(token) for token in text.split()]

    def pattern(self, spelling: str, num_layers: int) -> Pattern | None:
        """The pattern, None where nothing is kept; raises DataError if a model of `num_layers` layers has it not."""
        named = set(self.layers(spelling))
        if named and max(named) >= num_layers:
            raise self.broken(f"names layer {max(named)} of a model of the layers 0-{num_layers - 1} (counted from 0)")
        if spelling == "pattern":
            return self._parsed(self.values[spelling])
        kept = named if spelling == "kept_layers" else set(range(num_layers)) - named
        return Pattern.of_layers(sorted(kept)) if kept else None

    def broken(self, reason: str) -> DataError:
        """The error that names file and line."""
        return DataError(f"{self.file}, line {self.line}: {reason}")

    def _parsed(self, text: str) -> Pattern:
        try:
            return Pattern.parse(text)
        except PatternError as error:
            raise self.broken(str(error)) from None


def _rows(file: Path) -> list[_Row]:
    """All lines behind the header, whole ones."""
    try:
        with file.open(encoding="utf-8-sig", newline="") as source:
            reader = csv.DictReader(source, strict=True)
            rows = [_Row(file, reader.line_num, values) for values in reader]
    except OSError as error:
        raise DataError(f"the table {file} cannot be read: {error.strerror}") from None
    except (UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"the table {file} cannot be read as CSV: {error}") from None
    if not rows:
        raise DataError(f"the table {file} has no rows; it needs a header and a line a pattern")
    for row in rows:
        if None in row.values or None in row.values.values():  # csv's mark for too many and too few
            raise row.broken("not as many values as the header has columns")
    return rows


def _only(rows: list[_Row], chosen: Mapping[str, str]) -> list[_Row]:
    found = [row for row in rows if all(row.values[name] == value for name, value in chosen.items())]
    if not found:
        asked = ", ".join(f"{name}={value}" for name, value in chosen.items())
        there = "; ".join(f"{name} is one of {', '.join(sorted({r.values[name] for r in rows}))}" for name in chosen)
        raise WordsError(f"{rows[0].file} has no row with {asked}; {there}")
    return found


def _score(alike: Sequence[_Row], column: str) -> float:
    """The mean over repetitions; refuses rows that words tell apart."""
    scores = [row.number(column) for row in alike]
    if len(set(scores)) > 1:
        for name in alike[0].values:
            found = {row.values[name]: row.line for row in alike}
            if len(found) > 1 and name not in PATTERN_COLUMNS and not any(map(_is_number, found)):
                lines = " and ".join(str(line) for line in sorted(found.values())[:2])
                raise WordsError(
                    f"{alike[0].file}, lines {lines}: scores of one pattern differ in {name}; choose with --where, "
                    f"{' or '.join(f'{name}={value}' for value in found)}"
                )
    return fmean(scores)


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _size(text: str, row: _Row, *, sized: bool) -> int:
    return round(row.number("parameters")) if sized else thirds(Pattern.parse(text).owned)


def _unchanged(file: Path, known: Mapping[str, Known], num_layers: int, *, sized: bool) -> int:
    """Parameters of the unchanged model: shares are of it, so a table with parameters must have it."""
    full = str(Pattern.full(num_layers))
    if full in known:
        return known[full].parameters
    if sized:
        raise DataError(f"{file} has parameters and no row for the unchanged model, pattern {full}; add it")
    return 3 * num_layers


def _fingerprint(file: Path, score: str, chosen: Mapping[str, str], num_layers: int, rungs: Mapping[float, str]) -> str:
    digest = hashlib.sha256(file.read_bytes()).hexdigest()[:16]
    words = [digest, score, *(f"{name}={chosen[name]}" for name in sorted(chosen)), f"{num_layers} layers"]
    return " ".join([*words, *(f"{share:g}={rungs[share]}" for share in sorted(rungs))])
