"""Somebody who shows what happens in a search.

Knows: which moments a driver tells of. Does not know: terminals, SQL, who drives.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from layersearch.training.job import Job, Outcome

if TYPE_CHECKING:
    from layersearch.search.study import Study


class Watcher(Protocol):
    """Somebody who shows what happens; every call returns at once."""

    def phase(self, study: Study, wanted: int) -> None:
        """`study` is worked on until it holds `wanted` complete trials."""

    def started(self, job: Job) -> None: ...
    def progressed(self, number: int, share: float) -> None:
        """Trial `number` has done `share` (0 to 1) of its training; only told where it runs in this process."""

    def reused(self, count: int) -> None:
        """`count` trials were settled at once, their evaluations known from other studies of the database."""

    def reached(self, outcome: Outcome, *, goes_on: bool) -> None:
        """A candidate was scored at a rung of halving, and goes on at once or is paused."""

    def finished(self, outcome: Outcome) -> None: ...
    def say(self, line: str) -> None:
        """A line that the user must see."""
