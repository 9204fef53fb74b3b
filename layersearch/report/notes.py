"""What a table of a front says below it and beside it: costs, times, limits, what was known before training.

Knows: the record of a study, the costs by name. Does not know: terminals, SQL, models.
"""

from __future__ import annotations

from layersearch.search.objectives import COSTS, OVER, SCORE, off_by
from layersearch.search.record import Record
from layersearch.search.times import Setting, bought_none, in_words, shown, times_of
from layersearch.search.trials import BEATEN, LOW_RANKED, Row


def cost_cells(record: Record, row: Row) -> dict[str, str]:
    """The cells of what a study wants small beside parameters, of the built candidate's time, and of its export."""
    times, cells = record.times(row), counted_cells(record, row)
    for setting in record.timed_settings:
        found, (runtime, size) = times.get(setting), setting
        title = f"{'timed' if runtime == 'PyTorch' else 'ONNX'}{' 32' * (size > 1)} ms"
        tail = f" (p95 {found.p95:.3g})" if found and size == 1 else ""
        cells[title] = "" if found is None else f"{found.median:.3g}{tail}"
    form = record.form(row)
    return cells if form is None else {**cells, "export": form}


def counted_cells(record: Record, row: Row) -> dict[str, str]:
    """The cells of what a study wants small beside parameters."""
    return {COSTS[name].title: COSTS[name].shown(value) for name, value in record.costs_of(row).items()}


def time_cells(record: Record, row: Row) -> dict[str, str]:
    """What the built candidate takes by runtime and batch size, at length."""
    slow = slow_settings(record, row)
    return {
        in_words(setting): shown(time) + ("; its fewer parameters bought no time" if setting in slow else "")
        for setting, time in record.times(row).items()
    }


def slow_settings(record: Record, row: Row) -> list[Setting]:
    """Where a candidate of fewer parameters than the unchanged model takes no less time, beyond the noise."""
    if (row.parameters or 0) >= record.parameters:
        return []
    unchanged = times_of(record.facts, record.unchanged)
    return [setting for setting, time in record.times(row).items() if bought_none(time, unchanged.get(setting))]


def _notes_on_times(record: Record) -> list[str]:
    """On what the front was timed, and which of its members are smaller and no faster."""
    if not record.timed_settings:
        return []
    on = record.facts.get("timed_on", {})
    where = ", ".join(f"{name} {value}" for name, value in on.items() if name not in ("hardware", "tokens"))
    where = f" on {on['hardware']} with {on['tokens']} tokens ({where})" if on else ""
    sizes = "timed and ONNX: PyTorch and ONNX Runtime" if len(record.timed_settings) > 2 else "timed"
    notes = [f"{sizes}: the built candidate alone{where}, batch size 1 or 32, median and 95 % quantile"]
    slow = {row.number: slow_settings(record, row) for row in record.shown()}
    for setting in record.timed_settings:
        numbers = [str(number) for number, found in slow.items() if setting in found]
        if numbers:
            plural = "s" * (len(numbers) > 1)
            notes.append(
                f"warning: fewer parameters bought no time on {in_words(setting)}: trial{plural} {', '.join(numbers)}"
            )
    return notes


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
    return [*notes, *_notes_on_times(record)]


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
