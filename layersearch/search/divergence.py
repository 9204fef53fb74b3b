"""Which trainings came to nothing: how many seeds of a pattern diverged.

Knows: rows of trials, their reasons, what a constant answer scores. Does not know: SQL, training, how a rate is shown.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from layersearch.counts import count
from layersearch.search.trials import Direction, Row
from layersearch.training.job import DIVERGED

WHAT_DIVERGED = "no finite loss and logits, or no better than one answer to everything"
NO_BETTER = 1e-6  # than a constant answer, of which older studies know six digits


@dataclass(frozen=True)
class Divergence:
    """Of the seeds of a pattern that `ran`, those that `diverged`."""

    diverged: tuple[int, ...]
    ran: tuple[int, ...]

    @property
    def rate(self) -> float:
        """The share that diverged."""
        return len(self.diverged) / len(self.ran)

    def __str__(self) -> str:
        return f"{len(self.diverged)} of {count(len(self.ran), 'seed')} diverged"


def diverged(row: Row, direction: Direction) -> bool:
    """Whether a training came to nothing.

    Its loss or its logits are not finite, or its score is no better than that of the best constant answer to the same
    examples (`tasks/constant.py`; nothing is known of that in older studies, for spans and for texts).
    """
    if row.score is None:
        return row.state == "FAIL" and DIVERGED in (row.reason or "")
    if row.constant is None:
        return False
    better = row.score - row.constant if direction == "maximize" else row.constant - row.score
    return better <= NO_BETTER


def came_to_nothing(row: Row, confirmed: Divergence | None, direction: Direction) -> bool:
    """Whether nobody is served by a trial: its own training diverged, or every seed of its confirmation did.

    `confirmed` are the seeds of its confirmation, None where there are none.
    """
    return diverged(row, direction) or (confirmed is not None and len(confirmed.diverged) == len(confirmed.ran))


def told_of(row: Row, confirmed: Divergence | None, direction: Direction) -> str:
    """What a reader of a trial's weights has to know: whether their own training or its pattern's fresh seeds diverged.

    `confirmed` are the seeds of its confirmation, None where there are none. Nothing where all went well.
    """
    own = [f"the training of these weights (seed {row.seed}) diverged"] if diverged(row, direction) else []
    lost = confirmed.diverged if confirmed else ()
    seeds = f"seed{'s' * (len(lost) > 1)} {', '.join(map(str, lost))}"
    again = [f"{confirmed} in the confirmation of this pattern ({seeds})"] if confirmed and lost else []
    return f"{'; '.join([*own, *again])}: {WHAT_DIVERGED}" if own or again else ""


def constant_in(rows: Iterable[Row]) -> float | None:
    """What the best constant answer scores to the examples that scored `rows`; None where that is unknown.

    No correlation, Matthews' neither, gives one more than 0: no chart needs that line, to which its axis would reach
    down.
    """
    return next((row.constant for row in rows if row.constant is not None), None)


def divergences(rows: Iterable[Row], direction: Direction) -> dict[str, Divergence]:
    """By pattern, how many of the seeds that were trained to an end diverged; failures of another kind do not count."""
    known: dict[str, dict[int, bool]] = {}
    for row in rows:
        found = diverged(row, direction)
        if row.done or found:
            known.setdefault(row.pattern, {})[row.seed] = found
    return {
        pattern: Divergence(tuple(sorted(s for s, bad in seeds.items() if bad)), tuple(sorted(seeds)))
        for pattern, seeds in known.items()
    }
