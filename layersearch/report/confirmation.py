"""The confirmation in words and cells: confirmed scores beside those at selection, how sure they are, what flattered.

Knows: the record of a study, rich's tables. Does not know: SQL, pages, how an interval is found.
"""

from __future__ import annotations

from rich.console import Console
from rich.table import Table

from layersearch.pattern import Pattern
from layersearch.report.layers import share_of
from layersearch.report.notes import notes_on_divergence, optimism_line
from layersearch.report.table import confirmed_cell, interval_cell, kept_cell
from layersearch.search.record import Record
from layersearch.search.trials import Row


def confirmed_rows(record: Record) -> list[Row]:
    """The complete trials whose patterns are confirmed, largest first."""
    found = [row for row in record.rows if row.done and row.pattern in record.confirmed]
    return sorted({row.pattern: row for row in found}.values(), key=lambda row: (-(row.parameters or 0), row.number))


def confirmation_cells(record: Record) -> list[dict[str, str]]:
    """A line each confirmed pattern, by the titles of the columns."""
    optimism = record.optimism
    flattered = {} if optimism is None else optimism.patterns
    return [
        {
            "trial": str(row.number),
            "layers": Pattern.parse(row.pattern).diagram(int(record.facts["num_layers"])),
            "pattern": row.pattern,
            "share": f"{share_of(row, record):.1f}%",
            "at selection": f"{row.score:.4f}",
            "confirmed": confirmed_cell(record.confirmed[row.pattern]),
            **_diverged(record, row),
            "95 % interval": interval_cell(record.certainty[row.pattern].interval),
            "another seed": interval_cell(record.certainty[row.pattern].another),
            "kept": kept_cell(record.certainty[row.pattern]),
            "optimism": f"{flattered[row.pattern]:+.4f}" if row.pattern in flattered else "",
        }
        for row in confirmed_rows(record)
    ]


def _diverged(record: Record, row: Row) -> dict[str, str]:
    """How many seeds of a pattern came to nothing, where one of any pattern did."""
    if not any(found.diverged for found in record.divergences.values()):
        return {}
    found = record.divergences.get(row.pattern)
    return {"diverged": f"{len(found.diverged)} of {len(found.ran)}" if found else ""}


def confirmation_notes(record: Record) -> list[str]:
    """What the columns mean, and how much selection flattered the front."""
    of_seeds = any(sure.of_seeds for sure in record.certainty.values())
    notes = ["confirmed: mean over fresh seeds on the validation set ± standard deviation (seeds)"]
    if of_seeds:
        notes.append("95 % interval, and that of kept: of the mean over all seeds and all such examples")
        notes.append("another seed: where one more seed's score on the validation set is expected (95 %)")
    else:
        notes.append("95 % interval: over examples alone; how seeds differ takes two of them, `layersearch confirm`")
    flattery = optimism_line(record)
    if flattery:
        notes.append("optimism: how much better it looked at selection, against the unchanged model")
    return [*notes, *([flattery] if flattery else []), *notes_on_divergence(record)]


def print_confirmation(console: Console, record: Record) -> None:
    """The confirmation of a study as a table, with what its columns mean."""
    lines = confirmation_cells(record)
    if not lines:
        console.print(f"nothing of study {record.name} is confirmed yet", soft_wrap=True, markup=False)
        return
    table = Table(box=None, pad_edge=False, header_style="bold")
    for title in lines[0]:
        text = title in ("trial", "layers", "pattern")
        table.add_column(title, justify="left" if text else "right", no_wrap=title != "pattern")
    for line in lines:
        table.add_row(*line.values())
    console.print(table)
    for note in confirmation_notes(record):
        console.print(note, style="dim", soft_wrap=True, markup=False)
