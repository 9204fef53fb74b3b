"""Multi-objective successive halving: who goes on from a rung, and who stays behind.

Knows: the rungs and what every candidate scored there, as rows. Does not know: training, Ray, SQL, where a paused
candidate lies.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from layersearch.search.fronts import ranked
from layersearch.search.trials import Direction, Row
from layersearch.training.recipe import Halving


@dataclass(frozen=True)
class Rungs:
    """The rule of one search; all it needs to know stands in the rows of its study, so it has no state of its own.

    Asynchronous (ASHA: Li et al., arXiv 1810.05934) and for two objectives (Schmucker et al., arXiv 2106.12639): of the
    n candidates that reached a rung the best floor(n / eta) go on. The front of score and parameters comes first, then
    the front of the rest; within a front the largest, the smallest, then what lies between, so that a small candidate
    does not stay behind because a large one scores better. The pattern `unchanged` always goes on and takes
    nobody's place.
    """

    settings: Halving
    direction: Direction
    unchanged: str

    def of(self, number: int) -> tuple[float, ...]:
        """The rungs of trial `number`; brackets take turns."""
        return self.settings.rungs(self._bracket(number))

    def goes_on(self, rows: Sequence[Row], number: int) -> bool:
        """Whether trial `number`, one of `rows`, goes on from the last rung that it reached."""
        row = next((row for row in rows if row.number == number and row.paused), None)
        return row is not None and (row.pattern == self.unchanged or number in self._best(rows, *self._place(row)))

    def promoted(self, rows: Sequence[Row], out: Collection[int]) -> Row | None:
        """A paused trial that may go on and is not `out`, from the highest rung there is."""
        paused = {row.number: row for row in rows if row.paused and row.number not in out}
        first = next((row for row in paused.values() if row.pattern == self.unchanged), None)
        if first is not None:
            return first
        places = {self._place(row) for row in paused.values()}
        for bracket, share in sorted(places, key=lambda place: (-place[1], place[0])):
            here = (paused[number] for number in self._best(rows, bracket, share) if number in paused)
            found = next((row for row in here if self._place(row) == (bracket, share)), None)
            if found is not None:
                return found
        return None

    def _best(self, rows: Sequence[Row], bracket: int, share: float) -> list[int]:
        """The trials that may go on from a rung, the best first, gone on already or not."""
        sign = 1.0 if self.direction == "maximize" else -1.0
        there = [
            row
            for row in rows
            if share in row.rungs
            and row.state != "FAIL"
            and row.pattern != self.unchanged
            and self._bracket(row.number) == bracket
        ]
        order = ranked([(sign * row.rungs[share], row.parameters or 0) for row in there])
        return [there[place].number for place in order[: len(there) // self.settings.eta]]

    def _bracket(self, number: int) -> int:
        return number % self.settings.brackets

    def _place(self, row: Row) -> tuple[int, float]:
        """Bracket and share of the last rung that `row` reached."""
        return self._bracket(row.number), max(row.rungs)
