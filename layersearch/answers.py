"""What the calls of `api.py` give back: values that print as a terminal shows them and show as tables in a notebook.

Knows: which printer shows which value. Does not know: how anything is found, words, files.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING, Any

from layersearch.report import answer, both, console, planned, trial
from layersearch.report.notebook import picture_html, shown_html, shown_text, table_html
from layersearch.report.notes import notes_on_front
from layersearch.report.patterns import print_patterns

if TYPE_CHECKING:
    from layersearch.measured import Measured
    from layersearch.search.compare import Comparison
    from layersearch.search.patterns import Spelled
    from layersearch.search.plan import Line
    from layersearch.search.question import Question
    from layersearch.search.record import Record
    from layersearch.search.trials import Row
    from layersearch.search.wish import Answer, Member


@dataclass(frozen=True, repr=False)
class Front:
    """The rows of a study's front, largest first, the unchanged model always among them; or, `everything`, all rows.

    A row has, among others, `number`, `pattern`, `score`, `interval` and `parameters`. `record` is the whole study.
    """

    record: Record
    everything: bool = False

    @property
    def rows(self) -> list[Row]:
        """The trials, one row each."""
        return self.record.shown(everything=self.everything)

    def __iter__(self) -> Iterator[Row]:
        return iter(self.rows)

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, place: int) -> Row:
        return self.rows[place]

    def records(self) -> list[dict[str, Any]]:
        """The rows as plain values, as `--json` prints them."""
        return self.record.records(everything=self.everything)

    def to_pandas(self) -> Any:
        """The rows as a pandas.DataFrame."""
        import pandas

        return pandas.DataFrame(self.records())

    def __repr__(self) -> str:
        return shown_text(lambda to: console.print_front(self.record, everything=self.everything, to=to))

    def _repr_html_(self) -> str:
        table = console.table_of(self.record, everything=self.everything)
        if table is None:
            return escape(repr(self))
        notes = escape("; ".join(notes_on_front(self.record, everything=self.everything)))
        return f"{table_html(table)}<p><small>{notes}</small></p>{picture_html(self.record)}"


@dataclass(frozen=True, repr=False)
class Best:
    """What a study says to a wish. `answer` has the pick, the runner-up, its neighbours; or what comes nearest."""

    record: Record
    answer: Answer
    place: str = ""

    @property
    def pick(self) -> Member | None:
        """The candidate that fits best, None where none fits."""
        return self.answer.pick

    @property
    def trial(self) -> int | None:
        """The number of the pick's trial, for `export`; None where none fits."""
        return None if self.answer.pick is None else self.answer.pick.row.number

    def facts(self) -> dict[str, Any]:
        """The answer as plain values, as `--json` prints it."""
        return answer.as_plain(self.record, self.answer, self.place)

    def __repr__(self) -> str:
        return shown_text(lambda to: answer.print_answer(to, self.record, self.answer, self.place))

    def _repr_html_(self) -> str:
        return shown_html(lambda to: answer.print_answer(to, self.record, self.answer, self.place))


@dataclass(frozen=True, repr=False)
class Trial:
    """Everything about one trial. `row` is None while it has no pattern."""

    record: Record
    number: int
    place: str = ""

    @property
    def row(self) -> Row | None:
        """Its row in the study."""
        return self.record.row(self.number)

    def facts(self) -> dict[str, Any]:
        """Everything as plain values, as `--json` prints it."""
        return trial.as_plain(self.record, self.number, self.place)

    def __repr__(self) -> str:
        return shown_text(lambda to: trial.print_trial(to, self.record, self.number, self.place))

    def _repr_html_(self) -> str:
        return shown_html(lambda to: trial.print_trial(to, self.record, self.number, self.place))


@dataclass(frozen=True, repr=False)
class Compared:
    """Two studies side by side, under the names by which they are told apart."""

    comparison: Comparison
    names: tuple[str, str]

    @property
    def difference(self) -> float:
        """The second's hypervolume less the first's."""
        return self.comparison.difference

    @property
    def interval(self) -> tuple[float, float] | None:
        """What that may be if the same fronts were scored again (95 %); None where nothing is known of it."""
        return self.comparison.interval

    def facts(self) -> dict[str, Any]:
        """The comparison as plain values, as `--json` prints it."""
        return both.as_plain(self.comparison, self.names)

    def __repr__(self) -> str:
        return shown_text(lambda to: both.print_comparison(to, self.comparison, self.names))

    def _repr_html_(self) -> str:
        return shown_html(lambda to: both.print_comparison(to, self.comparison, self.names))


@dataclass(frozen=True, repr=False)
class Plan:
    """The patterns that a search may try, `size` of them in all, and in words what it would cost."""

    question: Question
    lines: tuple[Line, ...]
    costs: tuple[str, ...]

    @property
    def size(self) -> int:
        """How many patterns the space has."""
        return self.question.space.size(self.question.num_layers)

    def __iter__(self) -> Iterator[Line]:
        return iter(self.lines)

    def __len__(self) -> int:
        return len(self.lines)

    def records(self) -> list[dict[str, Any]]:
        """The lines as plain values, as `--json` prints them."""
        return [line.as_record() for line in self.lines]

    def __repr__(self) -> str:
        return shown_text(lambda to: planned.print_plan(self.question, self.lines, self.costs, to=to))

    def _repr_html_(self) -> str:
        return f"<pre>{escape(repr(self))}</pre>"


@dataclass(frozen=True, repr=False)
class Patterns:
    """What strategies spell for a model of `num_layers` layers, and the numbers that some were measured by."""

    found: tuple[Spelled, ...]
    measured: Measured | None
    num_layers: int

    def __iter__(self) -> Iterator[Spelled]:
        return iter(self.found)

    def __len__(self) -> int:
        return len(self.found)

    def records(self) -> list[dict[str, Any]]:
        """The patterns as plain values, as `--json` prints them."""
        return [one.as_record() for one in self.found]

    def __repr__(self) -> str:
        return shown_text(lambda to: print_patterns(to, self.found, self.measured, self.num_layers))

    def _repr_html_(self) -> str:
        return shown_html(lambda to: print_patterns(to, self.found, self.measured, self.num_layers))
