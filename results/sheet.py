"""A result's files: rows read from and kept in a CSV, and the part of its README that a script writes.

Knows: files. Does not know: what they are about.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from results.machine import as_table, write_csv

MARK = "<!-- from here written by run.py -->"

Lines = list[dict[str, Any]]


def read_csv(path: Path) -> Lines:
    """The lines of a CSV as texts by column; none where there is no file."""
    if not path.exists():
        return []
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def refreshed(path: Path, lines: Sequence[dict[str, Any]]) -> Lines:
    """`lines`, written to `path`; what lies there already where there are none (the work folder is elsewhere)."""
    if lines:
        there = len(read_csv(path))
        if len(lines) < there:
            raise SystemExit(
                f"{path} holds {there} lines and the work folder knows {len(lines)}: name another with --to"
            )
        write_csv(path, lines)
    return read_csv(path)


def kept(path: Path, made_for: Mapping[str, str], make: Callable[[], Sequence[dict[str, Any]]]) -> Lines:
    """What `make` finds out, kept in `path` with what it was made for; made again where that was something else."""
    if not _made(path, made_for) and (lines := make()):
        _keep(path, made_for, lines)
    return _made(path, made_for)


def kept_by_seed(
    path: Path, made_for: Mapping[str, str], seeds: Sequence[int], make: Callable[[int], Sequence[dict[str, Any]]]
) -> Lines:
    """What `make` finds out of each seed, kept like that; only seeds that are not in it are made, and may be later."""
    known = _made(path, made_for)
    new = [line for seed in seeds if str(seed) not in {one["seed"] for one in known} for line in make(seed)]
    if new:
        _keep(path, made_for, [*known, *new])
    return _made(path, made_for)


def lacks(made_for: Mapping[str, str], seeds: Sequence[int], *paths: Path) -> bool:
    """Whether one of the tables that `kept_by_seed` keeps has yet to be made of a seed."""
    return any({*map(str, seeds)} - {line["seed"] for line in _made(path, made_for)} for path in paths)


def _made(path: Path, made_for: Mapping[str, str]) -> Lines:
    """The lines of a table that was made for this; none where it was for something else, or nobody noted for what."""
    note = _note(path)
    return read_csv(path) if note.exists() and json.loads(note.read_text()) == dict(made_for) else []


def _keep(path: Path, made_for: Mapping[str, str], lines: Sequence[dict[str, Any]]) -> None:
    """Write lines, then what they were made for: a kill in between leaves lines that count for nothing."""
    _note(path).unlink(missing_ok=True)
    write_csv(path, lines)
    _note(path).write_text(json.dumps(dict(made_for), indent=1) + "\n")


def _note(path: Path) -> Path:
    return path.with_suffix(".json")


def shown(lines: Sequence[dict[str, Any]]) -> str:
    """The lines as a table, or that there are none yet."""
    return as_table(lines) if lines else "Nothing yet."


def write_readme(folder: Path, parts: Sequence[str]) -> None:
    """Put `parts` behind the mark in the folder's README; what is written by hand before it stays."""
    readme = folder / "README.md"
    before = readme.read_text().partition(MARK)[0] if readme.exists() else ""
    readme.write_text(before + MARK + "\n\n" + "\n\n".join(part for part in parts if part) + "\n")
