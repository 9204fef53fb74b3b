"""Trials as a table: one line each, as many columns as the terminal has room for.

Knows: rich's tables, the rows of a study. Does not know: where rows come from, what is printed around the table.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from rich.console import Console
from rich.table import Table
from rich.text import Text

from layersearch.pattern import Pattern
from layersearch.search.certainty import Certainty, Interval
from layersearch.search.trials import Confirmed, Direction, Row, kept_share, tied, tied_with_next

LEGIBLE = 120  # letters of a line of running text at most, where no terminal is narrower
WIDE = 200  # letters a line where no terminal cuts it
LAID_OUT = 500  # rows that rich lays out
# columns that a narrow terminal does without, in order
DISPENSABLE = (
    *("training s", "layers", "timed 32 ms", "ONNX 32 ms"),
    *("95 % interval", "confirmed kept", "export", "share"),
)


def output() -> Console:
    """Standard output; into a file or a pipe no line is cut."""
    console = Console(highlight=False)
    return console if console.is_terminal else Console(highlight=False, width=WIDE)


def print_legend(console: Console, text: str) -> None:
    """Print what stands in the table above, and an empty line."""
    console.print(text, style="dim", width=min(console.width, LEGIBLE))
    console.print()


def front_table(
    front: Sequence[Row],
    baseline: Row | None,
    num_layers: int,
    unchanged_parameters: int,
    confirmed: dict[str, Confirmed],
    metric: str = "score",
    width: int = WIDE,
    marked: Collection[int] = (),
    more: Mapping[int, Mapping[str, str]] | None = None,
    direction: Direction = "maximize",
    certain: Mapping[str, Certainty] | None = None,
) -> Table:
    """The front, largest first, with its scores relative to `baseline` and its confirmation where there is one.

    `marked` are the numbers of the front where `front` holds other trials too, `more` further cells by number. On a
    terminal of fewer letters than `width` needs, the columns of `DISPENSABLE` go first. `certain` tells, by pattern,
    how sure the confirmation is.
    """
    ties = tied_with_next([row for row in front if not marked or row.number in marked])
    shared = (baseline, num_layers, unchanged_parameters, confirmed, metric, direction, certain or {}, ties)
    rows = [cells_of(row, *shared) for row in front]
    if more:
        rows = [with_more(cells, more.get(row.number, {})) for row, cells in zip(front, rows, strict=True)]
    if marked:
        rows = [{**cells, "front": "*" if row.number in marked else ""} for row, cells in zip(front, rows, strict=True)]
    titles = _fitting(rows, width)
    table = Table(box=None, pad_edge=False, header_style="bold")
    for title in titles:
        text = title in ("trial", "layers", "pattern")
        table.add_column(title, justify="left" if text else "right", no_wrap=title != "pattern")
    for row in rows:
        table.add_row(*(coloured(row[title]) if title == "layers" else row[title] for title in titles))
    return table


def with_more(cells: dict[str, str], more: Mapping[str, str]) -> dict[str, str]:
    """Further cells, behind the share of parameters."""
    titles = list(cells)
    after = titles.index("share") + 1
    return {title: {**cells, **more}[title] for title in [*titles[:after], *more, *titles[after:]]}


def _fitting(rows: list[dict[str, str]], width: int) -> list[str]:
    """The columns of `rows` that stand side by side in `width` letters, two between them."""
    titles = list(rows[0]) if rows else []
    for title in DISPENSABLE:
        needed = sum(max(len(t), *(len(row[t]) for row in rows)) + 2 for t in titles) - 2
        if needed > width and title in titles:
            titles.remove(title)
    return titles


def cells_of(
    row: Row,
    baseline: Row | None,
    num_layers: int,
    unchanged_parameters: int,
    confirmed: dict[str, Confirmed],
    metric: str,
    direction: Direction,
    certain: Mapping[str, Certainty],
    ties: Collection[int],
) -> dict[str, str]:
    """One trial's cells by the titles of their columns; `ties` are not to be told from the next smaller."""
    kept = kept_share(row.score, None if baseline is None else baseline.score, direction)
    mark = " =" if baseline is not None and row.number != baseline.number and tied(row, baseline) else ""
    mark += " ~" if row.number in ties else ""
    cells = {
        "trial": str(row.number),
        "layers": Pattern.parse(row.pattern).diagram(num_layers),
        "pattern": row.pattern,
        "parameters": f"{row.parameters:,}",
        "share": f"{(row.parameters or 0) / unchanged_parameters:.1%}",
        metric: f"{row.score:.4f}{mark}",
        "95 % interval": interval_cell(row.interval),
        "kept": "" if kept is None else f"{kept:.1%}",
        "training s": "" if row.train_seconds is None else f"{row.train_seconds:.0f}",
    }
    if confirmed:
        cells["confirmed"] = confirmed_cell(confirmed.get(row.pattern))
    if any(sure.kept_interval for sure in certain.values()):
        cells["confirmed kept"] = kept_cell(certain.get(row.pattern))
    return cells


_COLOURS = {"▀": "yellow", "▄": "yellow", "·": "dim"}


def coloured(diagram: str) -> Text:
    """A pattern's diagram: halves, repeated and dropped layers in colours of their own, where a terminal takes them."""
    text = Text(diagram)
    for place, glyph in enumerate(diagram):
        text.stylize(_COLOURS.get(glyph, "green" if glyph == "█" else "cyan"), place, place + 1)
    return text


def confirmed_cell(found: Confirmed | None) -> str:
    """Mean, standard deviation and number of fresh seeds; nothing for what was not confirmed."""
    if found is None:
        return ""
    spread = "" if found.spread is None else f" ± {found.spread:.4f}"
    return f"{found.mean:.4f}{spread} ({len(found.seeds)})"


def kept_cell(sure: Certainty | None) -> str:
    """The share of the unchanged model's score kept on the validation set, with its interval in percent."""
    if sure is None or sure.kept is None:
        return ""
    ends = sure.kept_interval and f" ({100 * sure.kept_interval[0]:.1f}-{100 * sure.kept_interval[1]:.1f})"
    return f"{sure.kept:.1%}{ends or ''}"


def interval_cell(interval: Interval | None) -> str:
    """Both ends of an interval of scores; nothing for none."""
    return "" if interval is None else f"{interval[0]:.4f}-{interval[1]:.4f}"


def print_table(console: Console, table: Table) -> None:
    """Print `table`, whose cells are text; a long one without rich, which takes half a millisecond a row to lay out."""
    if table.row_count <= LAID_OUT:
        console.print(table)
        return
    columns = [[str(column.header), *map(str, column.cells)] for column in table.columns]
    widths = [max(map(len, cells)) for cells in columns]
    right = [column.justify == "right" for column in table.columns]
    for row in zip(*columns, strict=True):
        cells = zip(row, widths, right, strict=True)
        console.file.write("  ".join(cell.rjust(w) if r else cell.ljust(w) for cell, w, r in cells).rstrip() + "\n")
