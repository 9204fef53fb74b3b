"""All that a study knows of one trial, whatever became of it.

Knows: rows, the front, the confirmation, rich's tables. Does not know: SQL, models.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.filesize import decimal
from rich.table import Table
from rich.text import Text

from layersearch.counts import count
from layersearch.pattern import Pattern
from layersearch.report.commands import export_command
from layersearch.report.layers import share_of
from layersearch.report.notes import NO_FASTER, counted_cells, over_limits, time_cells
from layersearch.report.table import coloured, confirmed_cell, interval_cell, kept_cell
from layersearch.search.divergence import WHAT_DIVERGED, diverged
from layersearch.search.trials import IN_WORDS, Confirmed, Row, as_record, best_no_larger, in_words, tied
from layersearch.training.recipe import BYTES_A_PARAMETER

if TYPE_CHECKING:
    from layersearch.search.record import Record


def print_trial(console: Console, record: Record, number: int, place: str) -> None:
    """Everything about trial `number`, one thing a line. Raises WordsError for a number that is not there."""
    row = record.row(number)
    if row is None:
        console.print(
            f"trial {number} of {record.name} {IN_WORDS[record.spelled_none[number]]}", soft_wrap=True, markup=False
        )
        return
    table = Table(box=None, pad_edge=False, show_header=False)
    table.add_column(style="dim", no_wrap=True)
    table.add_column(overflow="fold")
    table.add_row("trial", Text(f"{number} of {record.name}: {state_of(record, row)}"))
    table.add_row("layers", coloured(Pattern.parse(row.pattern).diagram(int(record.facts["num_layers"]))))
    for name, words in facts_of(record, row).items():
        table.add_row(Text(name), Text(words))
    console.print(table)
    command = export_command(record, row, place)
    if command is not None:
        console.print(command, soft_wrap=True, markup=False)


def facts_of(record: Record, row: Row) -> dict[str, str]:
    """What is known of a trial, in words, under short names; what is not known is left out."""
    known = {
        **_made_of(record, row),
        **(counted_cells(record, row) | _zeros(record, row) | time_cells(record, row) if row.done else {}),
        **_scores(record, row),
        **_course(row),
        **_weights(record, row),
    }
    return {name: words for name, words in known.items() if words}


def _zeros(record: Record, row: Row) -> dict[str, str]:
    """What is left of the parameters without zeros, and what that is worth."""
    size = record.zeros_of(row).get("compressed_bytes")
    if size is None or row.sparsity is None or row.non_zero is None or row.parameters is None:
        return {}
    return {
        "non-zero": f"{row.non_zero:,} of {row.parameters:,} parameters",
        "sparsity": f"{row.sparsity:.2%} of the weights of the layers' matrices are zero; {NO_FASTER}",
        "compressed": f"{decimal(round(size))} where a bit a parameter says which are zero and the rest stays fp32, "
        f"{decimal(BYTES_A_PARAMETER * row.parameters)} as they are",
    }


def state_of(record: Record, row: Row) -> str:
    """What became of a trial, in words."""
    if not row.done:
        other = record.instead_of(row)
        return in_words(row) + (f"; trial {other.number} has its pattern, and the scores" if other else "")
    if row in record.front:
        return "complete, on the front"
    if not row.allowed:
        return f"complete; {over_limits(row)}"
    better = _beaten_by(record, row)
    return f"complete; beaten by trial {better.number} ({better.pattern})" if better else "complete"


def _beaten_by(record: Record, row: Row) -> Row | None:
    """The front member with the best score that is no larger in anything; none beats what is over a limit."""
    behind = row.done and row.allowed and row not in record.front
    return best_no_larger(record.front, row, record.purpose.direction) if behind else None


def _made_of(record: Record, row: Row) -> dict[str, str]:
    pattern = Pattern.parse(row.pattern)
    size = (
        "" if row.parameters is None else f"{row.parameters:,}, {share_of(row, record):.1f} % of the unchanged model's"
    )
    return {
        "pattern": row.pattern,
        "dropped": pattern.dropped_in_words(int(record.facts["num_layers"])),
        "strategy": "the unchanged model" if row.pattern == record.unchanged else row.strategy or "",
        "parameters": size,
        "mix": row.mix or "",
    }


def _scores(record: Record, row: Row) -> dict[str, str]:
    metric, found, baseline = record.purpose.metric, _confirmed(record, row), record.baseline
    kept, shared = record.kept(row), record.shared.get(row.pattern)
    score = "" if row.score is None else f"{row.score:.4f} in the search"
    score += f", 95 % interval {row.interval[0]:.4f} to {row.interval[1]:.4f}" if score and row.interval else ""
    nothing = diverged(row, record.purpose.direction)
    if score and not nothing and baseline is not None and row != baseline and tied(row, baseline):
        score += "; not to be told from the unchanged model's"
    if row.seeds:
        score += f"; the mean of {count(len(row.seeds), 'seed')}: {', '.join(f'{its:.4f}' for its in row.seeds)}"
    seeds = [] if found is None else [f"seed {s}: {v:.4f}" for s, v in zip(found.seeds, found.scores, strict=True)]
    lost = record.divergences.get(row.pattern) if row.done else None
    return {
        metric: score,
        "diverged": f"yes: {WHAT_DIVERGED}" if nothing else "",
        "beside it": _listed({k: v for k, v in (row.metrics or {}).items() if k != metric}, ".4f"),
        "kept": "" if kept is None else f"{kept:.1%} of the unchanged model's score",
        "confirmed": f"{confirmed_cell(found)}: {', '.join(seeds)}" if found else "",
        "seeds that diverged": f"{len(lost.diverged)} of {len(lost.ran)} of the confirmation" if lost else "",
        **(_trust(record, row) if found else {}),
        "shared": "" if shared is None else f"{shared:.4f} over the super-network's weights",
        "rungs": ", ".join(f"{score:.4f} at {share:.3g} of the training" for share, score in row.rungs.items()),
    }


def _confirmed(record: Record, row: Row) -> Confirmed | None:
    """The confirmation of a trial's pattern, which belongs to the trial that has its score."""
    return record.confirmed.get(row.pattern) if row.done else None


def _trust(record: Record, row: Row) -> dict[str, str]:
    """How sure the confirmation is, and how much selection flattered the trial."""
    sure, optimism = record.certainty.get(row.pattern), record.optimism
    if sure is None:
        return {}
    over = "all seeds and all such examples" if sure.of_seeds else "all such examples, not over seeds"
    flattered = None if optimism is None else optimism.patterns.get(row.pattern)
    kept = "" if row.pattern == record.unchanged else kept_cell(sure)
    return {
        "95 % interval": f"{interval_cell(sure.interval)}, of the mean over {over}" if sure.interval else "",
        "another seed": f"{interval_cell(sure.another)} is where its score is expected" if sure.another else "",
        "confirmed kept": f"{kept} of the unchanged model's score" if kept else "",
        "optimism": ""
        if flattered is None
        else f"{flattered:+.4f}: how much better it looked at selection, against the unchanged model",
    }


def _listed(values: Mapping[str, float], form: str) -> str:
    return ", ".join(f"{name} {value:{form}}" for name, value in values.items())


def _course(row: Row) -> dict[str, str]:
    times = {"training": row.train_seconds, "scoring": row.score_seconds, "in all": row.seconds}
    return {
        "seed": str(row.seed),
        "seconds": _listed({name: value for name, value in times.items() if value is not None}, ".1f"),
        "work": "" if row.work is None else f"{row.work:.3g} fine-tunings of the unchanged model",
        "ended": "" if row.ended is None else f"{row.ended:%Y-%m-%d %H:%M:%S}",
        "started from": row.start or "",
        "reused": row.reused or "",
        "versions": row.versions or "",
    }


def _weights(record: Record, row: Row) -> dict[str, str]:
    if "replay" in record.facts:
        return {"weights": f"none: scores came from {record.facts['replay']}"}
    lost = "not kept; an export trains the trial again" if row.done else ""
    return {"weights": row.checkpoint or lost, "export": record.form(row) or ""}


def as_plain(record: Record, number: int, place: str) -> dict[str, Any]:
    """Everything about trial `number` as plain values for JSON. Raises WordsError for a number that is not there."""
    row = record.row(number)
    if row is None:
        return {"trial": number, "state": record.spelled_none[number]}
    found, better, other = _confirmed(record, row), _beaten_by(record, row), record.instead_of(row)
    known = as_record(
        row,
        record.baseline,
        found,
        record.parameters,
        on_front=row in record.front,
        costs=record.columns(row) if row.done else {},
        direction=record.purpose.direction,
    )
    more = {name: getattr(row, name) for name in ("state", "seed", "metrics", "seconds", "score_seconds", "work")}
    more |= {name: getattr(row, name) for name in ("start", "checkpoint", "reused", "versions", "mix", "reason")}
    return {
        **known,
        **more,
        "layers": Pattern.parse(row.pattern).diagram(int(record.facts["num_layers"])),
        "confirmed_scores": dict(zip(found.seeds, found.scores, strict=True)) if found else {},
        "shared_score": record.shared.get(row.pattern),
        "diverged": diverged(row, record.purpose.direction),
        "rungs": {f"{share:.3g}": score for share, score in row.rungs.items()},
        "ended": None if row.ended is None else row.ended.isoformat(),
        "beaten_by": None if better is None else better.number,
        "scored_by": None if other is None else other.number,
        "export": export_command(record, row, place),
    }
