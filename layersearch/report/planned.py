"""The patterns of a space as a table, and what a run would cost, in words: what `plan` shows.

Knows: rich, lines of a plan. Does not know: how they are counted, studies, SQL.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich.console import Console
from rich.filesize import decimal
from rich.table import Table

from layersearch.counts import count
from layersearch.pattern import legend_for
from layersearch.report.table import coloured, output, print_table
from layersearch.search.objectives import COSTS
from layersearch.search.question import NETWORKS
from layersearch.search.replicates import MOST

if TYPE_CHECKING:
    from layersearch.search.plan import Cost, Line
    from layersearch.search.question import Prepared, Question


def print_plan(question: Question, listed: Sequence[Line], below: Sequence[str], *, to: Console | None = None) -> None:
    """The patterns of a space, and the lines that stand `below` them."""
    console = to or output()
    layers = question.num_layers
    size = question.space.size(layers)
    table = Table(box=None, pad_edge=False, header_style="bold")
    for title, side in (("layers", "left"), ("pattern", "left"), ("parameters", "right"), ("share", "right")):
        table.add_column(title, justify=side, no_wrap=True)  # type: ignore[arg-type]
    sparse = any(line.non_zero is not None for line in listed)
    if sparse:
        table.add_column("non-zero", justify="right", no_wrap=True)
    costs = [name for name in (question.costs.parts if question.costs else ()) if name != "parameters"]
    for name in costs:
        table.add_column(COSTS[name].title, justify="right", no_wrap=True)
    named = question.purpose.values.get("method") != "one-shot"  # which asks for no strategy by name
    limited = bool(question.costs and question.costs.limits)
    for title in ("export", *(["start point"] if named else []), *(["limits"] if limited else [])):
        table.add_column(title)
    for line in listed:
        diagram = coloured(line.pattern.diagram(layers))
        cells = (diagram, str(line.pattern), f"{line.parameters:,}", f"{line.share:.1%}")
        left = [f"{line.non_zero:,}"] if sparse else []
        more = (COSTS[name].shown(line.costs[name]) for name in costs)
        first = ["yes" if line.is_start else ""] if named else []
        table.add_row(*cells, *left, *more, line.export, *first, *([] if line.within else ["over"]))
    print_table(console, table)
    signs = legend_for(line.pattern for line in listed)
    console.print(f"{signs}; {len(listed):,} of {count(size, 'pattern')} listed", style="dim", soft_wrap=True)
    if sparse and question.purpose.values.get("method") in NETWORKS:
        dense = "non-zero: the unchanged model keeps all, for the candidates start from it or learn from it"
        console.print(dense, style="dim", soft_wrap=True)
    for text in below:
        console.print(text, soft_wrap=True)


def cost_lines(prepared: Prepared, total: Cost, replicates: int = 0) -> list[str]:
    """What a run would cost, in words."""
    again = f"seeds: {replicates} more at most for up to {MOST} patterns near the front and the unchanged model"
    splits = prepared.splits
    return [
        *(f"warning: {warning}" for warning in splits.warnings),
        f"data: {count(len(splits.train), 'example')} to train on, {len(splits.search):,} to search on, "
        f"{len(splits.validation):,} in the untouched validation set",
        f"work: {count(total.trials, 'trial')} for about {total.fine_tunings:.0f} fine-tunings of the unchanged model, "
        f"the confirmation up to {total.confirmation:.0f} more, scoring left out; one fine-tuning is "
        f"{count(total.examples, 'example')}",
        *([again] if replicates else []),
        f"room: a checkpoint of the unchanged model takes {decimal(total.checkpoint_bytes)} of disk (one is kept "
        f"for each front member), training it {decimal(total.training_bytes)} of memory and its activations",
        "export: `native` opens with plain from_pretrained, `with code` with trust_remote_code=True; both with "
        "layersearch.load",
    ]
