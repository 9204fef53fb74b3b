"""What a terminal shows: live progress of a run, the front as a table, a plan.

Knows: rich, rows and records. Does not know: SQL, Ray, models. Results go to standard output, the rest
to standard error.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from layersearch.pattern import LEGEND, Pattern
from layersearch.search.trials import Confirmed, Row, baseline_of, kept_share, tied

if TYPE_CHECKING:
    from layersearch.search.plan import Cost, Line
    from layersearch.search.question import Prepared
    from layersearch.search.record import Record
    from layersearch.search.study import Study
    from layersearch.training.evaluator import Job, Outcome

REFRESH_HERTZ = 2
WIDE = 200  # letters a line where no terminal cuts it
DISPENSABLE = ("training s", "layers", "95 % interval", "share")  # columns a narrow terminal does without, in order


class Progress:
    """The Watcher of a terminal: a live table where somebody looks, one line a finished trial elsewhere."""

    def __init__(self) -> None:
        self._console = Console(stderr=True, highlight=False)
        self._study: Study | None = None
        self._live: Live | None = None
        self._begin(0)

    def __enter__(self) -> Progress:
        if self._console.is_terminal:
            self._live = Live(get_renderable=self._view, console=self._console, refresh_per_second=REFRESH_HERTZ)
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._live is not None:
            self._live.stop()

    def phase(self, study: Study, wanted: int) -> None:
        """Start counting anew for `study`."""
        self._study = study
        self._begin(wanted)
        facts = study.facts
        self._num_layers = int(facts.get("num_layers", 0))
        self._parameters = int(facts.get("parameters", 1))
        have = study.finished()
        self._have = have
        self._done = have
        what = "searching" if study.purpose.scored_on == "search" else "confirming on the validation set"
        self.say(f"{what}: study {study.name}, {have} of {wanted} trials finished")

    def started(self, job: Job) -> None:
        """A candidate goes to a worker."""
        self._running[job.number] = job.pattern

    def finished(self, outcome: Outcome) -> None:
        """A candidate came back."""
        self._running.pop(outcome.number, None)
        if outcome.score is None:
            self._failed += not outcome.lost
            self.say(f"trial {outcome.number} ({outcome.pattern}): {outcome.reason}")
            return
        self._done += 1
        if outcome.note:
            self.say(f"trial {outcome.number}: {outcome.note}")
        if self._live is None:
            self.say(self._line(outcome))
        self._look()

    def say(self, line: str) -> None:
        """A line that stays."""
        self._console.print(line, soft_wrap=True, markup=False)

    def _begin(self, wanted: int) -> None:
        self._wanted = wanted
        self._began = time.monotonic()
        self._running: dict[int, str] = {}
        self._failed = 0
        self._have = 0
        self._done = 0
        self._front: list[Row] = []
        self._baseline: Row | None = None
        self._num_layers = 0
        self._parameters = 1

    def _look(self) -> None:
        """Read the front from the study, in the main thread."""
        if self._study is None or self._study.purpose.scored_on != "search":
            return
        self._front = self._study.front()
        self._baseline = baseline_of(self._study.rows(), str(Pattern.full(self._num_layers)))

    def _line(self, outcome: Outcome) -> str:
        metric = self._study.purpose.metric if self._study else "score"
        return (
            f"trial {outcome.number}: {outcome.pattern}  {metric} {outcome.score:.4f}  "
            f"{outcome.parameters:,} parameters  {outcome.seconds:.0f} s  ({self._state()})"
        )

    def _state(self) -> str:
        parts = [f"{self._done}/{self._wanted} done"]
        parts += [f"{len(self._running)} running"] if self._running else []
        parts += [f"{self._failed} failed"] if self._failed else []
        left = self._seconds_left()
        parts += [] if left is None else [f"{_duration(left)} left"]
        return ", ".join(parts)

    def _seconds_left(self) -> float | None:
        """From the pace of this session; None before its first finished trial."""
        here = self._done - self._have
        if here == 0:
            return None
        return (time.monotonic() - self._began) / here * max(0, self._wanted - self._done)

    def _view(self) -> Group:
        """Runs in rich's refresh thread, so it reads only what the main thread left: no SQL here."""
        running = "  ".join(f"{n}: {p}" for n, p in sorted(self._running.items()))
        lines: list[Text | Table] = [Text(f"{self._state()}   running  {running}" if running else self._state())]
        if self._front:
            table = front_table(
                self._front, self._baseline, self._num_layers, self._parameters, {}, width=self._console.width
            )
            lines.append(table)
        return Group(*lines)


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def front_table(
    front: Sequence[Row],
    baseline: Row | None,
    num_layers: int,
    unchanged_parameters: int,
    confirmed: dict[str, Confirmed],
    metric: str = "score",
    width: int = WIDE,
) -> Table:
    """The front, largest first, with its scores relative to `baseline` and its confirmation where there is one.

    On a terminal of fewer letters than `width` needs, the columns of `DISPENSABLE` go first.
    """
    rows = [_cells(row, baseline, num_layers, unchanged_parameters, confirmed, metric) for row in front]
    titles = _fitting(rows, width)
    table = Table(box=None, pad_edge=False, header_style="bold")
    for title in titles:
        text = title in ("trial", "layers", "pattern")
        table.add_column(title, justify="left" if text else "right", no_wrap=title != "pattern")
    for row in rows:
        table.add_row(*(row[title] for title in titles))
    return table


def _fitting(rows: list[dict[str, str]], width: int) -> list[str]:
    """The columns of `rows` that stand side by side in `width` letters, two between them."""
    titles = list(rows[0]) if rows else []
    for title in DISPENSABLE:
        needed = sum(max(len(t), *(len(row[t]) for row in rows)) + 2 for t in titles) - 2
        if needed > width:
            titles.remove(title)
    return titles


def _cells(
    row: Row,
    baseline: Row | None,
    num_layers: int,
    unchanged_parameters: int,
    confirmed: dict[str, Confirmed],
    metric: str,
) -> dict[str, str]:
    kept = kept_share(row, baseline)
    mark = " =" if baseline is not None and row.number != baseline.number and tied(row, baseline) else ""
    cells = {
        "trial": str(row.number),
        "layers": Pattern.parse(row.pattern).diagram(num_layers),
        "pattern": row.pattern,
        "parameters": f"{row.parameters:,}",
        "share": f"{(row.parameters or 0) / unchanged_parameters:.1%}",
        metric: f"{row.score:.4f}{mark}",
        "95 % interval": f"{row.interval[0]:.4f}-{row.interval[1]:.4f}" if row.interval else "",
        "kept": "" if kept is None else f"{kept:.1%}",
        "training s": "" if row.train_seconds is None else f"{row.train_seconds:.0f}",
    }
    return {**cells, "confirmed": _confirmed_cell(confirmed.get(row.pattern))} if confirmed else cells


def _confirmed_cell(found: Confirmed | None) -> str:
    if found is None:
        return ""
    spread = "" if found.spread is None else f" ± {found.spread:.4f}"
    return f"{found.mean:.4f}{spread} ({len(found.seeds)})"


def _output() -> Console:
    """Standard output; into a file or a pipe no line is cut."""
    console = Console(highlight=False)
    return console if console.is_terminal else Console(highlight=False, width=WIDE)


def print_front(record: Record) -> None:
    """The front of a study on standard output, with what its columns mean."""
    console = _output()
    baseline = record.baseline
    layers = int(record.facts["num_layers"])
    rows = record.front
    if baseline is not None and baseline.number not in {row.number for row in rows}:
        rows = [baseline, *rows]
    if not rows:
        console.print(f"study {record.name} has no finished trial yet", soft_wrap=True)
        return
    confirmed, metric = dict(record.confirmed), record.purpose.metric
    console.print(front_table(rows, baseline, layers, record.parameters, confirmed, metric, console.width))
    notes = ["share and kept are relative to the unchanged model", "=: its interval overlaps the unchanged model's"]
    if record.confirmed:
        notes.append("confirmed: validation set, mean ± standard deviation (fresh seeds)")
    console.print("; ".join(notes), style="dim", soft_wrap=True)


def print_next_commands(record: Record, storage: str, default_storage: str) -> None:
    """What to type next, ready to be copied."""
    console = _output()
    where = "" if storage == default_storage else f" --storage {storage}"
    smaller = [row for row in record.front if Pattern.parse(row.pattern).is_whole]
    console.print("next:", style="bold")
    if smaller:
        row = smaller[len(smaller) // 2]
        console.print(
            f"  layersearch export {record.name} --trial {row.number} --to {record.name}-{row.number}{where}",
            soft_wrap=True,
        )
    console.print(f"  layersearch front {record.name} --png front.png{where}", soft_wrap=True)
    console.print(f"  layersearch dashboard{where}", soft_wrap=True)


def print_plan(prepared: Prepared, listed: Sequence[Line], total: Cost) -> None:
    """The patterns of a space, and what the run would cost."""
    console = _output()
    layers = prepared.num_layers
    size = prepared.space.size(layers)
    table = Table(box=None, pad_edge=False, header_style="bold")
    for title, side in (("layers", "left"), ("pattern", "left"), ("parameters", "right"), ("share", "right")):
        table.add_column(title, justify=side, no_wrap=True)  # type: ignore[arg-type]
    table.add_column("export")
    table.add_column("tried first")
    for line in listed:
        diagram = line.pattern.diagram(layers)
        cells = (diagram, str(line.pattern), f"{line.parameters:,}", f"{line.share:.1%}", line.export)
        table.add_row(*cells, "yes" if line.is_start else "")
    console.print(table)
    console.print(f"{LEGEND}; {len(listed)} of {size:,} patterns listed", style="dim", soft_wrap=True)
    for text in _cost_lines(prepared, total):
        console.print(text, soft_wrap=True)


def _cost_lines(prepared: Prepared, total: Cost) -> list[str]:
    splits = prepared.splits
    return [
        *(f"warning: {warning}" for warning in splits.warnings),
        f"data: {len(splits.train):,} examples to train on, {len(splits.search):,} to search on, "
        f"{len(splits.validation):,} in the untouched validation set",
        f"work: {total.trials} trials cost about {total.fine_tunings:.0f} fine-tunings of the unchanged model, their "
        f"confirmation up to {total.confirmation:.0f} more; one fine-tuning is {total.examples:,} examples",
        f"room: a checkpoint of the unchanged model takes {total.checkpoint_bytes / 1e6:,.0f} MB of disk (one is kept "
        f"for each front member), training it {total.training_bytes / 1e6:,.0f} MB of memory and its activations",
        "export: `plain folder` opens with from_pretrained; patterns with halves can be searched and not exported yet",
    ]
