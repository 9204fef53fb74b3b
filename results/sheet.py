"""A result's files: rows read from and kept in a CSV, and the part of its README that a script writes.

Knows: files. Does not know: what they are about.
"""

from __future__ import annotations

import csv
from collections.abc import Callable, Sequence
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


def kept(path: Path, make: Callable[[], Sequence[dict[str, Any]]]) -> Lines:
    """What `make` finds out, made once and kept in `path`; delete the file to make it again."""
    if not path.exists() and (lines := make()):
        write_csv(path, lines)
    return read_csv(path)


def kept_by_seed(path: Path, seeds: Sequence[int], make: Callable[[int], Sequence[dict[str, Any]]]) -> Lines:
    """What `make` finds out of each seed, kept in `path`; only seeds that are not in it are made, and may be later."""
    known = read_csv(path)
    new = [line for seed in seeds if str(seed) not in {one["seed"] for one in known} for line in make(seed)]
    return refreshed(path, [*known, *new])


def shown(lines: Sequence[dict[str, Any]]) -> str:
    """The lines as a table, or that there are none yet."""
    return as_table(lines) if lines else "Nothing yet."


def write_readme(folder: Path, parts: Sequence[str]) -> None:
    """Put `parts` behind the mark in the folder's README; what is written by hand before it stays."""
    readme = folder / "README.md"
    before = readme.read_text().partition(MARK)[0] if readme.exists() else ""
    readme.write_text(before + MARK + "\n\n" + "\n\n".join(part for part in parts if part) + "\n")
