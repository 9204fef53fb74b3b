"""What a terminal shows: live progress of a run, the front as a table, what to type next.

Knows: rich, rows and records. Does not know: SQL, Ray, models. Results go to standard output, the rest
to standard error.
"""

from __future__ import annotations

import threading
import time
from shlex import quote
from typing import TYPE_CHECKING

from rich.console import Console, Group
from rich.table import Table
from rich.text import Text

from layersearch.counts import count
from layersearch.errors import StudyError
from layersearch.pattern import Pattern
from layersearch.report.commands import export_command, place_of
from layersearch.report.notebook import View, live
from layersearch.report.notes import cost_cells, notes_on_front
from layersearch.report.table import WIDE, front_table, output
from layersearch.search.trials import Row, baseline_of
from layersearch.search.wish import to_export

if TYPE_CHECKING:
    from layersearch.search.record import Record
    from layersearch.search.study import Study
    from layersearch.training.job import Job, Outcome

QUIET_SECONDS = 60.0  # after which a log hears that something still runs
_PHASES = {"search": "round", "validation": "confirmation"}
_FOLLOWING = {"search": "further seeds near the front", "validation": "confirming on the validation set"}


class Progress:
    """The Watcher of a terminal or a notebook: a live table where somebody looks; elsewhere a line a finished trial,
    and one a minute in which none finishes.
    """

    def __init__(self) -> None:
        self._console = Console(stderr=True, highlight=False)
        self._study: Study | None = None
        self._live: View | None = None
        self._teller: threading.Thread | None = None
        self._ended = threading.Event()
        self._said, self._last = time.monotonic(), ""
        self._begin(0)

    def __enter__(self) -> Progress:
        self._live = live(self._view, self._console)
        if self._live is not None:
            self._live.start()
        else:
            self._teller = threading.Thread(target=self._tell_what_runs, daemon=True)
            self._teller.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        if self._teller is not None:
            self._teller.join()
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
        self._paused |= {row.number for row in study.rows() if row.paused}
        self._have = have + len(self._paused)
        self._done = have
        what = "searching" if study.proposes else _FOLLOWING[study.purpose.scored_on]
        trials = count(wanted, "trial")
        found = f"{have} of {trials}" if have <= wanted else f"{trials} asked for, {have}"
        paused = f", {len(self._paused)} paused" if self._paused else ""
        self.say(f"{what}: study {study.name}, {found} finished{paused}")

    def started(self, job: Job) -> None:
        """A candidate goes to a worker."""
        self._running[job.number] = job.pattern
        self._paused.discard(job.number)

    def progressed(self, number: int, share: float) -> None:
        """Trial `number` is trained for `share` of its steps; after the last it is scored."""
        self._shares[number] = share

    def reused(self, number: int) -> None:
        """So many trials were settled with what other studies know."""
        self._have += number
        self._done += number
        are = "is" if number == 1 else "are"
        self.say(
            f"{count(number, 'trial')} {are} known from other studies of this database and not trained again "
            f"({self._state()})"
        )
        self._look()

    def reached(self, outcome: Outcome, *, goes_on: bool) -> None:
        """A candidate was scored at a rung."""
        if not goes_on:
            self._running.pop(outcome.number, None)
            self._shares.pop(outcome.number, None)
            self._paused.add(outcome.number)
        if outcome.note:
            self.say(f"trial {outcome.number}: {outcome.note}")
        if self._live is None:
            self.say(self._line(outcome, "goes on" if goes_on else "paused"))

    def finished(self, outcome: Outcome) -> None:
        """A candidate came back."""
        self._running.pop(outcome.number, None)
        if outcome.number < 0:
            if outcome.reason:
                self.say(f"super-network of seed {outcome.seed}: {outcome.reason}")
            return
        self._shares.pop(outcome.number, None)
        if outcome.score is None:
            self._failed += not outcome.lost
            self.say(f"{self._which(outcome, in_full=True)} ({outcome.pattern}): {outcome.reason}")
            return
        self._done += 1
        if outcome.note:
            self.say(f"trial {outcome.number}: {outcome.note}")
        if self._live is None:
            self.say(self._line(outcome))
        self._look()

    def say(self, line: str) -> None:
        """A line that stays."""
        self._said, self._last = time.monotonic(), line
        self._console.print(line, soft_wrap=True, markup=False)

    def _begin(self, wanted: int) -> None:
        self._wanted = wanted
        self._began = time.monotonic()
        self._running: dict[int, str] = {}
        self._shares: dict[int, float] = {}
        self._paused: set[int] = set()  # at a rung of halving
        self._failed = 0
        self._have = 0
        self._done = 0
        self._front: list[Row] = []
        self._baseline: Row | None = None
        self._num_layers = 0
        self._parameters = 1

    def _look(self) -> None:
        """Read the front from the study, in the main thread."""
        if self._study is None or not self._study.proposes:
            return
        self._front = self._study.front()
        self._baseline = baseline_of(self._study.rows(), str(Pattern.full(self._num_layers)))

    def _line(self, outcome: Outcome, at_a_rung: str = "") -> str:
        metric = self._study.purpose.metric if self._study else "score"
        rung = "" if outcome.rung is None else f" at rung {outcome.rung:.3g}, {at_a_rung}"
        return (
            f"{self._which(outcome)}: {outcome.pattern}  {metric} {outcome.score:.4f}{rung}  "
            f"{outcome.parameters:,} parameters  {outcome.seconds:.0f} s  ({self._state()})"
        )

    def _which(self, outcome: Outcome, *, in_full: bool = False) -> str:
        """A trial of the search by its number, what follows it by its seed: its numbers are those of another study."""
        if self._study is None or self._study.proposes:
            return f"trial {outcome.number}"
        whose = f" of the {_PHASES[self._study.purpose.scored_on]}" if in_full else ""
        return f"seed {outcome.seed}{whose}"

    def _state(self) -> str:
        parts = [f"{self._done}/{self._wanted} done" if self._done <= self._wanted else f"{self._done} done"]
        parts += [f"{len(self._running)} running"] if self._running else []
        parts += [f"{len(self._paused)} paused"] if self._paused else []
        parts += [f"{self._failed} failed"] if self._failed else []
        left = self._seconds_left()
        searching = self._study is None or self._study.proposes
        phase = "search" if self._study is None or searching else _PHASES[self._study.purpose.scored_on]
        parts += [] if left is None else [f"{_duration(left)} left in the {phase}"]
        return ", ".join(parts)

    def _seconds_left(self) -> float | None:
        """From the pace of this session; None before its first finished trial."""
        done = self._done + len(self._paused)
        here = done - self._have  # another thread than this one may count on
        if here <= 0:
            return None
        return (time.monotonic() - self._began) / here * max(0, self._wanted - done)

    def _tell_what_runs(self) -> None:
        """Where nothing is live, a line whenever none was said for QUIET_SECONDS; runs in a thread of its own.

        Not through rich, which closes standard output too where nobody reads: that is for the main thread's next line.
        """
        while not self._ended.wait(QUIET_SECONDS / 10):
            if time.monotonic() - self._said < QUIET_SECONDS:
                continue
            self._said = time.monotonic()
            what = f"at work since: {self._last}" if self._study is not None and not self._running else self._now()
            try:
                print(f"still {what}\n", end="", file=self._console.file, flush=True)
            except (OSError, ValueError):  # nobody reads, or it is closed
                return

    def _now(self) -> str:
        """What is done and what runs, from another thread than the main one, so of what that one left: no SQL here."""
        if self._study is None:
            return "preparing the model, the data and the study"
        running = sorted(self._running.copy().items())
        names = {n: f"{n}: {p}" if n >= 0 else "super-network" for n, p in running}
        told = "  ".join(f"{name}{self._progress(n)}" for n, name in names.items())
        return f"{self._state()}   running  {told}" if told else self._state()

    def _view(self) -> Group:
        """Runs in rich's refresh thread."""
        lines: list[Text | Table] = [Text(self._now())]
        if self._study is not None and self._front:
            table = front_table(
                self._front,
                self._baseline,
                self._num_layers,
                self._parameters,
                {},
                width=self._console.width,
                direction=self._study.purpose.direction,
            )
            lines.append(table)
        return Group(*lines)

    def _progress(self, number: int) -> str:
        share = self._shares.get(number)
        if share is None:
            return ""
        return " scoring" if share >= 1 else f" {share * 100:.0f} %"


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def print_front(record: Record, *, everything: bool = False, to: Console | None = None) -> None:
    """The front of a study on standard output, or every complete trial, with what the columns mean."""
    console = to or output()
    table = table_of(record, everything=everything, width=console.width)
    if table is None:
        console.print(f"study {record.name} has no finished trial yet", soft_wrap=True)
        return
    console.print(table)
    for note in notes_on_front(record, everything=everything):
        console.print(note, style="dim", soft_wrap=True)


def table_of(record: Record, *, everything: bool = False, width: int = WIDE) -> Table | None:
    """The front of a study, or every complete trial; None where there is none."""
    rows = record.shown(everything=everything)
    if not rows:
        return None
    return front_table(
        rows,
        record.baseline,
        int(record.facts["num_layers"]),
        record.parameters,
        dict(record.confirmed),
        record.purpose.metric,
        width,
        [row.number for row in record.front] if everything else (),
        {row.number: cost_cells(record, row) for row in rows},
        record.purpose.direction,
        record.certainty,
    )


def print_next_commands(record: Record, storage: str, default_storage: str) -> None:
    """What to type next, ready to be copied."""
    console, where = output(), place_of(storage, default_storage)
    console.print("next:", style="bold")
    for command in (
        *_export_next(record, where),
        f"layersearch report {quote(record.name)}{where}",
        f"layersearch dashboard{where}",
    ):
        console.print(f"  {command}", soft_wrap=True, markup=False)


def _export_next(record: Record, where: str) -> list[str]:
    """The export that `best --knee` speaks for, or why there is none; nothing where there are no weights."""
    if "replay" in record.facts:
        return []
    try:
        member = to_export(record)
    except StudyError as error:
        return [f"nothing to export: {error}"]
    command = export_command(record, member.row, where) if member else None
    none = (
        "nothing to export: the front has no sound candidate beside the unchanged model; add --trials, or train longer "
        "(--epochs) under a new --study"
    )
    return [command or none]
