"""Two studies side by side, for people and for programs.

Knows: rich's tables, the comparison and what its numbers mean. Does not know: how they came about, SQL, pictures.
"""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from layersearch.pattern import Pattern
from layersearch.report.table import coloured
from layersearch.search.trials import Row, tied

if TYPE_CHECKING:
    from layersearch.search.compare import Carried, Comparison
    from layersearch.search.record import Record

NEVER_SAID = ("data", "revision", "replay")  # letters and digits that tell a reader nothing


def print_comparison(console: Console, found: Comparison, names: tuple[str, str]) -> None:
    """Both fronts as one table, largest candidate first, and what follows from them."""
    console.print(_table(found, names))
    if any(_alike(*rows) for _, _, rows in _rows(found)):
        console.print("=: the intervals of the two scores overlap", style="dim", soft_wrap=True)
    if found.first.parameters != found.second.parameters:
        whose = f"share: of {names[0]}'s unchanged model, or of {names[1]}'s where that front alone has the pattern"
        console.print(whose, style="dim", soft_wrap=True, markup=False)
    for line in lines_of(found, names):
        console.print(line, soft_wrap=True, markup=False)


def lines_of(found: Comparison, names: tuple[str, str]) -> list[str]:
    """What the comparison says, a line each."""
    lines = [
        f"hypervolume: {found.volumes[0]:.4f} {names[0]}, {found.volumes[1]:.4f} {names[1]}; "
        f"difference {found.difference:+.4f}",
        _interval(found),
        f"on both fronts: {len(found.common)}{': ' * bool(found.common)}{', '.join(found.common)}",
        _carried(names, found.carried[0]),
        _carried(names[::-1], found.carried[1]),
    ]
    differ = [_asked(name, *values) for name, values in _said(found).items()]
    if differ:
        lines.append(f"asked differently: {'; '.join(differ)}")
    if "task" in found.differ:
        lines.append("the tasks differ, so a difference of hypervolumes compares tasks and not searches")
    return lines


def _said(found: Comparison) -> dict[str, tuple[object, object]]:
    """What was asked differently and is worth a word: a method's own settings are not, nor what a table cannot have."""
    one_is_a_table = None in found.differ.get("replay", ())
    return {
        name: values
        for name, values in found.differ.items()
        if name not in NEVER_SAID
        and not name.startswith(("one_shot.", "halving."))
        and not (one_is_a_table and None in values)
    }


def _asked(name: str, *values: object) -> str:
    there, here = ("default" if value is None else value for value in values)
    return f"{name} {there} and {here}"


def _interval(found: Comparison) -> str:
    if found.interval is None:
        return "no interval: nothing is known of the noise of these scores"
    low, high = found.interval
    again = "trained again with other seeds" if found.confirmed else "scored on as many other examples"
    told = "" if low > 0 or high < 0 else ", not to be told from 0"
    return (
        f"95 % interval of the difference: {low:+.4f} to {high:+.4f}{told}; it is for these two fronts {again}, not "
        "for what another search would find"
    )


def _carried(names: tuple[str, str], carried: Carried) -> str:
    share = "" if carried.share is None or not carried.tried else f", where they reach {carried.share:.1%} of its front"
    return f"of the {carried.patterns} on the front of {names[0]}, {names[1]} has tried {carried.tried}{share}"


def _table(found: Comparison, names: tuple[str, str]) -> Table:
    """A line for each pattern on either front; the mark = where both studies' scores cannot be told apart."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    layers = int(found.first.facts["num_layers"])
    for title in ("layers", "pattern", "share", *names, "front of"):
        table.add_column(Text(title), justify="right" if title in ("share", *names) else "left")
    for pattern, share, rows in _rows(found):
        same = _alike(*rows)
        scores = [_score(study, row, mark=same) for study, row in zip((found.first, found.second), rows, strict=True)]
        diagram = coloured(Pattern.parse(pattern).diagram(layers))
        table.add_row(diagram, pattern, f"{share:.1%}", *scores, _whose(found, pattern, names))
    return table


def _alike(first: Row | None, second: Row | None) -> bool:
    """Whether the scores of both studies cannot be told apart."""
    return first is not None and second is not None and tied(first, second)


def _rows(found: Comparison) -> list[tuple[str, float, list[Row | None]]]:
    """The patterns of either front, largest first: their share of the parameters, and the row of each study."""
    studies = (found.first, found.second)
    sides = [{row.pattern: row for row in study.rows if row.done} for study in studies]
    shares = {row.pattern: (row.parameters or 0) / study.parameters for study in studies[::-1] for row in study.front}
    rows = [(pattern, share, [side.get(pattern) for side in sides]) for pattern, share in shares.items()]
    return sorted(rows, key=lambda row: (-row[1], row[0]))


def _score(study: Record, row: Row | None, *, mark: bool) -> str:
    if row is None:
        return ""
    kept = study.kept(row)
    share = "" if kept is None else f" ({kept:.1%})"
    return f"{row.score:.4f}{share}{' =' * mark}"


def _whose(found: Comparison, pattern: str, names: tuple[str, str]) -> Text:
    if pattern in found.common:
        return Text("both")
    return Text(names[0] if any(row.pattern == pattern for row in found.first.front) else names[1])


def as_plain(found: Comparison, names: tuple[str, str]) -> dict[str, Any]:
    """The comparison as plain values for JSON."""
    fronts = [
        [{"pattern": row.pattern, "parameters": row.parameters, "score": row.score} for row in study.front]
        for study in (found.first, found.second)
    ]
    return {
        "studies": list(names),
        "metric": found.first.purpose.metric,
        "scores": "validation" if found.confirmed else "search",
        "hypervolumes": list(found.volumes),
        "difference": found.difference,
        "interval": None if found.interval is None else list(found.interval),
        "on_both_fronts": list(found.common),
        "carried": [asdict(carried) for carried in found.carried],
        "differ": {name: list(values) for name, values in found.differ.items()},
        "fronts": fronts,
    }
