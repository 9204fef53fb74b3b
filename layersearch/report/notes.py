"""What a table of a front says below it and beside it: costs, limits, what was known before training.

Knows: the record of a study, the costs by name. Does not know: terminals, SQL, models.
"""

from __future__ import annotations

from layersearch.search.objectives import COSTS, OVER, SCORE, off_by
from layersearch.search.record import Record
from layersearch.search.trials import BEATEN, LOW_RANKED, Row


def cost_cells(record: Record, row: Row) -> dict[str, str]:
    """The cells of what a study wants small beside parameters, of the built candidate's time, and of its export."""
    cells = {COSTS[name].title: COSTS[name].shown(value) for name, value in record.costs_of(row).items()}
    if "timed" in record.facts:
        median, p95 = record.timed(row).get(1, (None, None))
        cells["timed ms"] = "" if median is None else f"{median:.3g} (p95 {p95:.3g})"
    form = record.form(row)
    return cells if form is None else {**cells, "export": form}


def over_limits(row: Row) -> str:
    """By how much a row is over which limits, in words; nothing where it keeps them."""
    over = {name: by for name, by in row.over.items() if by > 0}
    words = [f"score by {by:.4f}" if name == SCORE else f"{name} by {by:.1%} of all" for name, by in over.items()]
    return f"{OVER}: {', '.join(words)}" if words else ""


def notes_on_costs(record: Record) -> list[str]:
    """What the limits left out, and what measured costs are worth."""
    notes = []
    if over := record.skipped(OVER):
        notes.append(f"{over} proposal{'s were' if over > 1 else ' was'} over a limit and not trained")
    if "limits" in record.purpose.values:
        notes.append(f"the front keeps {record.purpose.values['limits']}")
        if record.baseline is not None and not record.baseline.allowed:
            notes.append(
                f"trial {record.baseline.number}, the unchanged model, does not, and is listed to compare with"
            )
    measured = record.facts.get("measured")
    if measured:
        sums = [f"{name} {off_by(off)}" for name, off in measured["off"].items() if off]
        notes.append(f"measured on {measured['hardware']} with {measured['tokens']} tokens")
        notes += [f"estimated as sums of parts: {'; '.join(sums)}"] if sums else []
    if "timed" in record.facts:
        notes.append("timed: the built candidate alone, batch size 1, median and 95 % quantile")
    return notes


def notes_on_kept(record: Record) -> list[str]:
    """What `kept` means where less is better."""
    purpose = record.purpose
    return [f"kept: the unchanged model's {purpose.metric} over the candidate's"] * (purpose.direction == "minimize")


def notes_on_skipped(record: Record) -> list[str]:
    """What was known before training, and what it spared."""
    notes = []
    if beaten := record.skipped(BEATEN):
        were = "proposal was" if beaten == 1 else "proposals were"
        costs = " and ".join(record.purpose.costs)
        notes.append(f"{beaten} {were} not trained: at best no better than a trial with no more {costs}")
    if (cheap := record.cheap) is not None:
        skipped = record.skipped(LOW_RANKED)
        used = f"{skipped} skipped for it" if cheap.filters or skipped else "not used to filter"
        notes.append(f"cheap scores: {cheap} over {cheap.trials} trials: {used}")
    return notes
