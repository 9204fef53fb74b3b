"""The report of a study as one HTML file that needs nothing else: no network, no other file.

Knows: the sections of the report and the words around its charts. Does not know: how charts are drawn, SQL. Whatever a
user wrote (names, patterns, reasons) is escaped, and the page forbids itself every connection.
"""

from __future__ import annotations

from functools import partial
from html import escape
from pathlib import Path
from typing import Any

from layersearch.counts import count
from layersearch.errors import StudyError
from layersearch.pattern import Pattern, legend_for
from layersearch.report.charts import (
    course_chart,
    front_chart,
    kept_chart,
    layer_map,
    near_front,
    time_unit,
)
from layersearch.report.commands import export_command
from layersearch.report.confirmation import confirmation_cells, confirmation_notes
from layersearch.report.course import Early, Step, course_of, ended_early
from layersearch.report.importance_map import importance_section
from layersearch.report.layers import PARAMETERS, share_of
from layersearch.report.notes import cost_cells, notes_on_costs, notes_on_kept, notes_on_zeros, over_limits
from layersearch.report.page import described, page, paragraph, section, table, write
from layersearch.report.table import cells_of, confirmed_cell, with_more
from layersearch.search.divergence import constant_in
from layersearch.search.record import Record
from layersearch.search.trials import Row, tied, tied_with_next
from layersearch.search.wish import Wish, best

LISTED = 100  # trials of one kind that ended early; a table of thousands helps nobody
_GLYPHS = {
    "of-front": '<circle class="member" cx="10" cy="8" r="5"/>',
    "of-intervals": '<path class="whisker" d="M10,1V15M7,1h6M7,15h6"/>',
    "of-ties": '<circle class="tied" cx="10" cy="8" r="4"/>',
    "of-others": '<circle class="other" cx="10" cy="8" r="4"/>',
    "of-named": '<path class="named" d="M10,2l6,11h-12z"/>',
    "of-confirmed": '<path class="confirmed" d="M10,2l6,6l-6,6l-6,-6z"/>',
    "of-baseline": '<line class="baseline" x1="0" y1="8" x2="20" y2="8"/>',
    "of-constant": '<line class="constant" x1="0" y1="8" x2="20" y2="8"/>',
}


def write_report(record: Record, file: Path, place: str = "") -> None:
    """Write the report of a study to `file`, whole or not at all; `place` names its storage in commands.

    Raises LayersearchError if the file cannot be written.
    """
    write(report_of(record, place), file, "the report")


def report_of(record: Record, place: str = "") -> str:
    """The page's text."""
    done = [row for row in record.rows if row.done]
    sections = [_head(record)]
    if done:
        sections += [_front(record), _layers(record), importance_section(record), _kept(record)]
        sections += [_confirmation(record), _course(record)]
    sections.append(_early(record))
    front = {row.number for row in record.front}
    known = [_trial(row, record, place, on_front=row.number in front) for row in done]
    return page(f"layersearch: {record.name}", "".join(sections), known)


def _head(record: Record) -> str:
    values, facts, constant = record.purpose.values, record.facts, constant_in(record.rows)
    done = [row for row in record.rows if row.done]
    versions = next((row.versions for row in reversed(done) if row.versions), "")
    ended = max((row.ended for row in done if row.ended), default=None)
    direction = "higher is better" if record.purpose.direction == "maximize" else "lower is better"
    pairs = [
        ("model", values.get("model") or f"a table of known scores: {facts.get('replay', 'unknown')}"),
        ("task", values.get("task")),
        ("metric", f"{record.purpose.metric}, {direction}"),
        ("unchanged model", f"{record.parameters:,} {facts.get('parameters_are', 'parameters')}"),
        ("best constant answer", constant is not None and f"{constant:.4f}"),
        ("search space", facts.get("space_name")),
        ("method", values.get("method")),
        ("sampler", values.get("sampler")),
        ("scored on", _split(record)),
        ("last trial", ended and f"{ended:%Y-%m-%d %H:%M}"),
        ("command", facts.get("command")),
        ("versions", versions),
    ]
    return f'<h1>{escape(record.name)}</h1>\n<p class="lead">{escape(_summary(record))}</p>\n{described(pairs)}'


def _split(record: Record) -> str:
    holdout = record.purpose.values.get("holdout")
    return f"{float(holdout):.0%} of the training data, held out for the search" if holdout else ""


def _summary(record: Record) -> str:
    done = sum(row.done for row in record.rows)
    if not done:
        return "No trial of this study is finished yet."
    words = f"{count(done, 'finished trial')}, {len(record.front):,} on the front."
    running = sum(row.state == "RUNNING" for row in record.rows)
    if running:
        words += f" {running:,} more had begun when this was written."
    baseline = record.baseline
    as_good = [row for row in record.front if baseline and row != baseline and _is_as_good(row, baseline, record)]
    if as_good:
        smallest = min(as_good, key=lambda row: row.parameters or 0)
        words += (
            " The smallest candidate whose search score lies within the unchanged model's interval, or is better, is "
            f"trial {smallest.number} ({smallest.pattern}), with {share_of(smallest, record):.1f} % of its parameters."
        )
    return words + _recommended(record)


def _recommended(record: Record) -> str:
    """What `best --knee` names; nothing where that is nothing, or the unchanged model."""
    try:
        member = best(record, Wish(knee=True)).pick
    except StudyError:
        return ""
    if member is None or member.row.pattern == record.unchanged:
        return ""
    row, apart = member.row, f"{abs(member.drop):.4f} {'worse' if member.drop > 0 else 'better'} than"
    if abs(member.drop) < 0.00005:
        apart = "as good as"
    return (
        f" Where the front bends most lies trial {row.number} ({row.pattern}), the one that `layersearch best --knee` "
        f"names: {100 * member.share:.1f} % of the parameters, the score that counts {apart} the unchanged model's."
    )


def _is_as_good(row: Row, baseline: Row, record: Record) -> bool:
    """Whether the score itself, not only its interval, reaches into the baseline's interval or beyond."""
    if row.score is None or baseline.interval is None:
        return False
    low, high = baseline.interval
    return row.score >= low if record.purpose.direction == "maximize" else row.score <= high


def _front(record: Record) -> str:
    near, done = near_front(record), [row for row in record.rows if row.done]
    named = sum(row.strategy is not None or row == record.baseline for row in done)
    has_intervals = any(row.interval for row in done)
    texts = {
        "of-front": f"front ({len(record.front)}); ringed: not to be told from the unchanged model",
        "of-intervals": "95 % intervals",
        "of-ties": f"not to be told from the front ({len(near)})",
        "of-others": "other trials",
        "of-named": f"named strategies and the unchanged model ({named})",
        "of-confirmed": "confirmed on the validation set",
        "of-baseline": f"the unchanged model's score{' and interval' * has_intervals}",
        "of-constant": "what the best constant answer scores, whatever is read",
    }
    absent = {"of-intervals": not has_intervals, "of-ties": not near, "of-confirmed": not record.confirmed}
    absent |= {"of-baseline": record.baseline is None, "of-constant": not constant_in(record.rows)}
    legend = "".join(
        f'<label><input type="checkbox" value="{part}" checked><svg aria-hidden="true">{_GLYPHS[part]}</svg>'
        f"{escape(words)}</label>\n"
        for part, words in texts.items()
        if not absent.get(part)
    )
    cells = partial(
        cells_of,
        baseline=record.baseline,
        num_layers=int(record.facts["num_layers"]),
        unchanged_parameters=record.parameters,
        confirmed=dict(record.confirmed),
        metric=record.purpose.metric,
        direction=record.purpose.direction,
        certain=record.certainty,
        ties=tied_with_next(record.front),
    )
    rows = [with_more(cells(row), cost_cells(record, row)) for row in record.shown()]
    signs = legend_for(Pattern.parse(row.pattern) for row in record.shown())
    notes = f"{signs}. Share and kept: of the unchanged model's. =: its interval overlaps the unchanged model's. "
    notes += "~: it overlaps that of the next smaller member."
    below = [*notes_on_kept(record), *notes_on_zeros(record), *notes_on_costs(record)]
    notes = " ".join([notes, *(f"{note[0].upper()}{note[1:]}." for note in below)])
    return section(
        "The front",
        paragraph("Point at a mark for its trial, click to keep it in view with the command that exports it."),
        f'<div class="legend">{legend}</div>\n<figure>{front_chart(record)}</figure>\n',
        table(rows),
        f'<p class="soft">{escape(notes)}</p>\n',
    )


def _layers(record: Record) -> str:
    return section(
        "Layers that the front keeps",
        paragraph(
            "Largest member first; the share of its parameters and its score beside it. Each layer of the base model "
            "has its attention half above and its FFN half below; x2: twice."
        ),
        f"<figure>{layer_map(record)}</figure>\n",
    )


def _kept(record: Record) -> str:
    sizes = kept_chart(record, lambda row: share_of(row, record), PARAMETERS)
    latency = kept_chart(record, record.latency, "latency, ms a batch of one")
    if not sizes:
        return ""
    colours = "Blue: the scores of the search."
    if record.confirmed:
        colours += " Orange: on the validation set, with fresh seeds."
    onnx = kept_chart(record, lambda row: record.latency(row, "ONNX Runtime"), "ms a batch of one, ONNX Runtime")
    figures = "".join(f"<figure>{chart}</figure>\n" for chart in (sizes, latency, onnx) if chart)
    return section("Score kept", paragraph(colours), figures)


def _confirmation(record: Record) -> str:
    rows = confirmation_cells(record)
    if not rows:
        return section("Confirmation", paragraph("No front member was trained again with fresh seeds."))
    return section(
        "Confirmation",
        paragraph(
            "The front and the unchanged model, trained again with fresh seeds and scored on the untouched validation "
            "set. Quote these: a score at selection is the best of many."
        ),
        table(rows),
        *(f'<p class="soft">{escape(f"{note[0].upper()}{note[1:]}.")}</p>\n' for note in confirmation_notes(record)),
    )


def _course(record: Record) -> str:
    steps = course_of(record)
    seconds = max((step.seconds or 0.0 for step in steps), default=0.0)
    size, unit = time_unit(seconds)

    def since(step: Step) -> float | None:
        return None if step.seconds is None else step.seconds / size

    charts = (
        course_chart(steps, since, f"{unit} since the first trial began"),
        course_chart(steps, lambda step: step.work, "work, fine-tunings of the unchanged model"),
    )
    explained = (
        "Hypervolume is the area that the front beats, from the worst score of a trial and all parameters of the "
        "unchanged model's layers on: 0 is nothing."
    )
    if steps and not any(step.volume for step in steps):
        explained += " It is 0 here."
    return section("Course", paragraph(explained), *(f"<figure>{chart}</figure>\n" for chart in charts if chart))


def _early(record: Record) -> str:
    kinds = ended_early(record)
    parts = [_kind_of_early(kind) for kind in kinds]
    strange = sum(state == "PRUNED" for state in record.spelled_none.values())
    if strange:
        parts.append(paragraph(f"{count(strange, 'proposal')} of the sampler spelled no pattern of the space."))
    if not parts:
        parts = [paragraph("Nothing: every trial was trained and scored in full.")]
    return section("What ended early, and why", *parts)


def _kind_of_early(kind: Early) -> str:
    rows = [
        {"trial": str(row.number), "pattern": row.pattern, "reason": row.reason or "no reason is known"}
        for row in kind.rows[:LISTED]
    ]
    left_out = len(kind.rows) - len(rows)
    more = paragraph(f"and {left_out:,} more") if left_out else ""
    title = f"{kind.title}: {len(kind.rows):,}"
    return (
        f'<details><summary><b>{escape(title)}</b> <span class="soft">{escape(kind.meaning)}</span></summary>\n'
        f"{table(rows)}{more}</details>\n"
    )


def _trial(row: Row, record: Record, place: str, *, on_front: bool) -> dict[str, Any]:
    """What the page's script shows of a complete trial."""
    kept, found, baseline = record.kept(row), record.confirmed.get(row.pattern), record.baseline
    interval = f" (95 % interval {row.interval[0]:.4f} to {row.interval[1]:.4f})" if row.interval else ""
    latency = record.latency(row)
    equal = baseline is not None and row != baseline and tied(row, baseline)
    pairs = [
        ("trial", f"{row.number}{', on the front' if on_front else ''}"),
        ("pattern", row.pattern),
        ("layers", Pattern.parse(row.pattern).diagram(int(record.facts["num_layers"]))),
        ("strategy", "the unchanged model" if row == baseline else row.strategy),
        ("parameters", f"{row.parameters:,} ({share_of(row, record):.1f} %)"),
        (record.purpose.metric, f"{row.score:.4f}{interval}"),
        *cost_cells(record, row).items(),
        ("limits", over_limits(row)),
        ("tied", "not to be told from the unchanged model" if equal else ""),
        ("kept", kept and f"{kept:.1%}"),
        ("confirmed", found and confirmed_cell(found)),
        ("latency", latency and f"{latency:.2f} ms"),
    ]
    facts = [pair for pair in pairs if pair[1]]
    return {"number": row.number, "facts": facts, "command": export_command(record, row, place)}
