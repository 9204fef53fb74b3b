"""The answer to `best` for people and for programs.

Knows: rich's tables, the pick and what is beside it. Does not know: how it was picked, SQL.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from layersearch.counts import count
from layersearch.pattern import Pattern
from layersearch.report.commands import export_command
from layersearch.report.table import coloured
from layersearch.search.divergence import WHAT_DIVERGED, told_of

if TYPE_CHECKING:
    from layersearch.search.record import Record
    from layersearch.search.wish import Answer, Member


def print_answer(console: Console, record: Record, answer: Answer, place: str) -> None:
    """The pick, the runner-up and the next points of the front; or that nothing fits, and what comes nearest."""
    if answer.pick is None:
        console.print(f"nothing fits; the nearest is trial {_number(answer.nearest)}:", soft_wrap=True)
        for line in answer.misses:
            console.print(f"  {line}", soft_wrap=True, markup=False)
    console.print(_table(record, answer))
    if answer.left_out:
        trials = f"{count(len(answer.left_out), 'trial')} that would fit ({', '.join(map(str, answer.left_out))})"
        console.print(f"left out: {trials}, which diverged: {WHAT_DIVERGED}", style="dim", soft_wrap=True)
    if answer.pick is not None and (lost := _lost(record, answer.pick)):
        console.print(f"the pick: {lost}", style="dim", soft_wrap=True)
    for line in _about(record, answer):
        console.print(line, style="dim", soft_wrap=True)
    command = None if answer.pick is None else export_command(record, answer.pick.row, place)
    if command is not None:
        console.print(command, soft_wrap=True, markup=False)


def _lost(record: Record, member: Member) -> str:
    return told_of(member.row, record.divergences.get(member.row.pattern), record.purpose.direction)


def _number(member: Member | None) -> str:
    return "none" if member is None else str(member.row.number)


def _named(answer: Answer) -> list[tuple[str, Member]]:
    members = (
        ("pick", answer.pick),
        ("nearest", answer.nearest),
        ("runner-up", answer.runner_up),
        ("next larger", answer.larger),
        ("next smaller", answer.smaller),
        ("unchanged", answer.unchanged),
    )
    return [(name, member) for name, member in members if member is not None]


def _table(record: Record, answer: Answer) -> Table:
    has_latency = any(member.latency is not None for _, member in _named(answer))
    titles = ["", "trial", "layers", "pattern", "parameters", "share", record.purpose.metric, "lost"]
    titles += ["latency ms"] * has_latency + ["against the pick"] * (answer.pick is not None)
    table = Table(box=None, pad_edge=False, header_style="bold")
    for title in titles:
        left = title in ("", "trial", "layers", "pattern", "against the pick")
        table.add_column(Text(title), justify="left" if left else "right", no_wrap=title != "pattern")
    for name, member in _named(answer):
        diagram = coloured(Pattern.parse(member.row.pattern).diagram(int(record.facts["num_layers"])))
        cells = [f"{member.parameters:,}", f"{member.share:.1%}", f"{member.score:.4f}", f"{member.drop:+.4f}"]
        cells += ["" if member.latency is None else f"{member.latency:.2f}"] * has_latency
        cells += [_against(member, answer.pick)] * (answer.pick is not None)
        table.add_row(name, str(member.row.number), diagram, member.row.pattern, *cells)
    return table


def _against(member: Member, pick: Member | None) -> str:
    """What another choice would cost or bring."""
    if pick is None or member == pick:
        return ""
    size, score = member.parameters / pick.parameters - 1, pick.drop - member.drop
    words = f"{100 * size:+.1f} % parameters, {score:+.4f}"
    if member.latency is not None and pick.latency is not None:
        words += f", {member.latency - pick.latency:+.2f} ms"
    return words


def _about(record: Record, answer: Answer) -> list[str]:
    if answer.confirmed:
        seeds = max(len(found.seeds) for found in record.confirmed.values())
        scores = f"confirmed on the validation set ({count(seeds, 'fresh seed')})"
    else:
        scores = "those of the search, the best of many and so optimistic: the front is not confirmed in full"
    columns = "lost: of the unchanged model's score"
    if answer.pick is not None:
        columns += "; against the pick: + is more or better"
    return [f"scores are {scores}", columns]


def as_plain(record: Record, answer: Answer, place: str) -> dict[str, Any]:
    """The answer as plain values for JSON; what is not there is null."""
    found: dict[str, Any] = {name.replace("-", "_").replace(" ", "_"): _plain(m) for name, m in _named(answer)}
    absent = dict.fromkeys(("pick", "runner_up", "next_larger", "next_smaller", "nearest"))
    command = None if answer.pick is None else export_command(record, answer.pick.row, place)
    scores = "validation" if answer.confirmed else "search"
    told = {"misses": list(answer.misses), "left_out": list(answer.left_out), "scores": scores, "export": command}
    return {**absent, **found, **told}


def _plain(member: Member) -> dict[str, Any]:
    return {
        "trial": member.row.number,
        "pattern": member.row.pattern,
        "parameters": member.parameters,
        "parameters_share": member.share,
        "score": member.score,
        "lost": member.drop,
        "latency_ms": member.latency,
    }
