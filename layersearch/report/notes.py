"""What a table of a front says below it and beside it: costs, times, limits, what was known before training.

Knows: the record of a study, the costs by name. Does not know: terminals, SQL, models.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from layersearch.counts import count
from layersearch.search.divergence import WHAT_DIVERGED, diverged
from layersearch.search.files import bytes_in
from layersearch.search.files import shown as shown_bytes
from layersearch.search.objectives import COSTS, OVER, SCORE, off_by
from layersearch.search.times import Setting, bought_none, in_words, shown, shown_ms, times_of
from layersearch.search.trials import BEATEN, LOW_RANKED, Row, tied, tied_with_next

if TYPE_CHECKING:
    from layersearch.search.record import Record

POINT = 0.01  # of a metric whose best is 1
NO_FASTER = "PyTorch is not faster with them, and they lie in its files like other numbers"  # zeros


def cost_cells(record: Record, row: Row) -> dict[str, str]:
    """The cells of what a study wants small beside parameters, of the built candidate's time, and of its export."""
    times, cells = record.times(row), counted_cells(record, row)
    for setting in record.timed_settings:
        found, (runtime, size) = times.get(setting), setting
        title = f"{'timed' if runtime == 'PyTorch' else 'ONNX'}{' 32' * (size > 1)} ms"
        tail = f" (p95 {shown_ms(found.p95)})" if found and size == 1 else ""
        cells[title] = "" if found is None else f"{shown_ms(found.median)}{tail}"
    form = record.form(row)
    return cells if form is None else {**cells, "export": form}


def counted_cells(record: Record, row: Row) -> dict[str, str]:
    """The cells of what a study wants small beside parameters, and of what is left of these without zeros."""
    known = "" if row.non_zero is None else f"{row.non_zero:,}"
    left = {"non-zero": known} if record.zeros_of(row) else {}
    return left | {COSTS[name].title: COSTS[name].shown(value) for name, value in record.costs_of(row).items()}


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
    where = f" on {on['hardware']}{_tokens_of(on, record)} ({where})" if on else ""
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
        notes.append(f"{count(over, 'proposal')} {'were' if over > 1 else 'was'} over a limit and not trained")
    if "limits" in record.purpose.values:
        notes.append(f"the front keeps {record.purpose.values['limits']}")
        if record.baseline is not None and not record.baseline.allowed:
            notes.append(
                f"trial {record.baseline.number}, the unchanged model, does not, and is listed to compare with"
            )
    measured = record.facts.get("measured")
    if measured:
        sums = [f"{name} {off_by(off)}" for name, off in measured["off"].items() if off]
        notes.append(f"measured on {measured['hardware']}{_tokens_of(measured, record)}")
        notes += [f"estimated as sums of parts: {'; '.join(sums)}"] if sums else []
    return [*notes, *_notes_on_times(record)]


def _tokens_of(measured: Mapping[str, Any], record: Record) -> str:
    """How long the inputs were that were measured with; pictures have one size."""
    return "" if record.purpose.values.get("task") == "images" else f" with {count(measured['tokens'], 'token')}"


def notes_on_zeros(record: Record) -> list[str]:
    """What `non-zero` means, and that it buys no time."""
    if "recipe.sparsity" not in record.purpose.values:
        return []
    reached = [row.sparsity for row in record.rows if row.done and row.sparsity]
    ends = f"{min(reached):.1%} to {max(reached):.1%}" if reached else "none yet"
    asked = float(record.purpose.values["recipe.sparsity"])
    return [
        f"non-zero: parameters that are not zero, which the front does not go by ({asked:.1%} of the weights of the "
        f"layers' matrices were to become zero, {ends} did): {NO_FASTER}"
    ]


def notes_on_divergence(record: Record) -> list[str]:
    """How many trainings of the confirmation came to nothing, and what that means."""
    ran = sum(len(found.ran) for found in record.divergences.values())
    lost = {pattern: found for pattern, found in record.divergences.items() if found.diverged}
    if not lost:
        return []
    number = sum(len(found.diverged) for found in lost.values())
    which = ", ".join(f"{len(found.diverged)} of {len(found.ran)} of `{pattern}`" for pattern, found in lost.items())
    return [f"{number} of {count(ran, 'training')} of the confirmation diverged ({which}): {WHAT_DIVERGED}"]


def notes_on_disk(record: Record) -> list[str]:
    """What the study takes of the disk, and whose weights are not there."""
    folder = Path(record.facts.get("folder", ""))
    if "folder" not in record.facts or not os.path.isdir(folder):
        return []
    cap = record.facts.get("disk")
    most = "" if cap is None else f" of {shown_bytes(cap)}"
    notes = [f"disk: {shown_bytes(bytes_in(folder))}{most} in {folder}"]
    gone = [] if "replay" in record.facts else [str(row.number) for row in record.front if row.checkpoint is None]
    if gone:
        which = f"trial {gone[0]} are" if len(gone) == 1 else f"trials {', '.join(gone)} are"
        notes.append(f"the weights of {which} not kept: `layersearch export` trains them again")
    return notes


def notes_on_kept(record: Record) -> list[str]:
    """What `kept` means where less is better."""
    purpose = record.purpose
    return [f"kept: the unchanged model's {purpose.metric} over the candidate's"] * (purpose.direction == "minimize")


def notes_on_skipped(record: Record) -> list[str]:
    """What was known before training, and what it spared."""
    notes = []
    if beaten := record.skipped(BEATEN):
        were = "was" if beaten == 1 else "were"
        costs = " and ".join(record.purpose.costs)
        notes.append(
            f"{count(beaten, 'proposal')} {were} not trained: at best no better than a trial with no more {costs}"
        )
    if (cheap := record.cheap) is not None:
        skipped = record.skipped(LOW_RANKED)
        used = f"{skipped} skipped for it" if cheap.filters or skipped else "not used to filter"
        notes.append(f"cheap scores: {cheap} over {count(cheap.trials, 'trial')}: {used}")
    return notes


def _flat(record: Record) -> list[str]:
    """That nothing was learned, or that all score alike."""
    scored = [row for row in record.rows if row.score is not None]
    nothing = "so nothing was learned: train longer (--epochs) or with another --lr"
    if scored and all(diverged(row, record.purpose.direction) for row in scored):
        return [f"no score is better than that of one answer to everything ({scored[0].constant:.4f}), {nothing}"]
    if len(scored) < 2 or len({row.score for row in scored}) > 1:
        return []
    if scored[0].constant is None and scored[0].score != 1:
        return [f"all scores are equal, {nothing}"]
    return ["all scores are equal, so nothing but their size tells the candidates apart"]


def notes_on_front(record: Record, *, everything: bool) -> list[str]:
    """What stands below the front in a terminal."""
    notes = ["share and kept are relative to the unchanged model"]
    full, rows = record.baseline, record.shown(everything=everything)
    if full is not None and any(row.number != full.number and tied(row, full) for row in rows):
        notes.append("=: its interval overlaps the unchanged model's")
    notes += ["~: it overlaps that of the next smaller member"] * bool(tied_with_next(record.shown(everything=False)))
    notes += notes_on_kept(record)
    if record.purpose.scored_on == "shared":
        notes.append("scores over the super-network's weights: no pattern was trained by itself")
    seeds = max((len(found.seeds) for found in record.confirmed.values()), default=0)
    if any(row.seeds for row in record.front):
        notes.append("scores near the front are means over several seeds")
    if seeds:
        fresh = "one fresh seed" if seeds == 1 else "mean ± standard deviation (fresh seeds)"
        notes.append(f"confirmed: validation set, {fresh}")
        notes += [line] if (line := optimism_line(record)) else []
    baseline = record.baseline
    if everything:
        notes.append("*: on the front")
    elif baseline is not None and baseline.allowed and baseline not in record.front:
        notes.append(
            f"trial {baseline.number} is the unchanged model and not on the front: "
            "a trial that is no larger scores at least as well"
        )
    if "parameters_are" in record.facts:
        notes.append(f"parameters are counted in {record.facts['parameters_are']}")
    notes += _flat(record)
    unchanged = record.confirmed.get(record.unchanged)
    if unchanged and baseline and baseline.interval and not _within(unchanged.mean, baseline.interval):
        notes.append(
            "the unchanged model confirms outside the interval of its search score: compare with more fresh seeds "
            "(--confirm) before you trust either"
        )
    if record.stopped:
        at = ", ".join(f"{number} at {share:.3g} of the training" for share, number in record.stopped.items())
        notes.append(f"stopped early and not listed: {at}")
        if record.front == [baseline]:
            notes.append("too few candidates for halving to finish one: raise --trials")
    found = record.agreement
    if found is not None:
        notes.append(
            f"the super-network's scores rank the {count(found.number, 'candidate')} tuned from it with a correlation "
            f"of {found.rho:.2f} ({found.low:.2f} to {found.high:.2f}), to which their different sizes alone contribute"
        )
    more = (notes_on_zeros, notes_on_divergence, notes_on_skipped, notes_on_costs, notes_on_disk)
    return [*notes, *(line for notes_on in more for line in notes_on(record))]


def _within(value: float, interval: tuple[float, float]) -> bool:
    return interval[0] <= value <= interval[1]


def optimism_line(record: Record) -> str:
    """How much better the front looked at selection than confirmed, in one line; nothing where nothing tells it."""
    found = record.optimism
    if found is None:
        return ""
    sign, word = (-1, "pessimistic") if found.mean < 0 else (1, "optimistic")
    number = f"the {len(found.patterns)} confirmed" if len(found.patterns) > 1 else "the one confirmed"
    said = f"selection was {word} by {_in_points(sign * found.mean, record)} on average over {number}"
    if found.interval is None:
        return f"{said} (how much of it is noise takes two seeds or more)"
    low, high = sorted(sign * end for end in found.interval)
    if low == high:
        return said
    luck = ", which may be luck" if low <= 0 <= high else ""
    return f"{said} (95 % interval {_bare(low, record)} to {_bare(high, record)}{luck})"


def _in_points(value: float, record: Record) -> str:
    unit = "points" if _has_points(record) else f"of {record.purpose.metric}"
    return f"{_bare(value, record)} {unit}"


def _bare(value: float, record: Record) -> str:
    return f"{value / POINT:.2f}" if _has_points(record) else f"{value:.4g}"


def _has_points(record: Record) -> bool:
    return record.purpose.direction == "maximize" and all(found.mean <= 1 for found in record.confirmed.values())
