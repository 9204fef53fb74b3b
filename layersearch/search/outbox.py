"""Finished outcomes on disk, from before they are told until they are: a paid-for result survives a killed process.

Knows: one small JSON file an outcome in one folder. Does not know: the study.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from layersearch.durable import whole_file
from layersearch.training.job import Outcome


class Outbox:
    """The outcomes of one study that are not told yet."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder

    def put(self, outcome: Outcome) -> None:
        """Write `outcome` so that it is whole or absent, and on the disk when this returns."""
        with whole_file(self._file(outcome.number)) as file:
            file.write(outcome.as_json().encode())

    def remove(self, number: int) -> None:
        """Forget the outcome of trial `number`: it is told."""
        self._file(number).unlink(missing_ok=True)

    def pending(self) -> Iterator[Outcome]:
        """The outcomes that were finished and not told, by trial number."""
        for file in sorted(self._folder.glob("*.json")):
            yield Outcome.from_json(file.read_text())

    def _file(self, number: int) -> Path:
        return self._folder / f"{number:06d}.json"
