"""A study as a reader sees it: rows, front, confirmation and facts, without driving it.

Knows: how to find a study and its confirmation in a database. Does not know: writing, models, looks.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from layersearch.errors import StudyError
from layersearch.pattern import Pattern
from layersearch.search.purpose import Purpose
from layersearch.search.storage import PatientStorage, Say, open_storage, parse_url, shown
from layersearch.search.trials import Confirmed, Row, as_record, baseline_of, confirmed_of, front_of, rows_of

CONFIRMATION = ".confirm"  # the study NAME.confirm holds the confirmation of the study NAME


@dataclass(frozen=True)
class Record:
    """What a study holds. `facts` are its notes (where model and data lie, counts), `confirmed` is by pattern."""

    name: str
    purpose: Purpose
    facts: Mapping[str, Any]
    rows: tuple[Row, ...]
    confirmed: Mapping[str, Confirmed]

    @property
    def unchanged(self) -> str:
        """The pattern of the unchanged model."""
        return str(Pattern.full(int(self.facts["num_layers"])))

    @property
    def parameters(self) -> int:
        """Parameters of the unchanged model."""
        return int(self.facts["parameters"])

    @property
    def baseline(self) -> Row | None:
        """The unchanged model's row, if it is complete."""
        return baseline_of(self.rows, self.unchanged)

    @property
    def front(self) -> list[Row]:
        """The front, largest candidate first."""
        return front_of(self.rows, self.purpose.direction)

    def trial(self, number: int) -> Row:
        """The row of trial `number`; raises StudyError for a number that is not there or not complete."""
        row = next((r for r in self.rows if r.number == number), None)
        if row is None:
            raise StudyError(
                f"study {self.name!r} has no trial {number}; `layersearch front` lists the trials worth it"
            )
        if not row.done:
            raise StudyError(
                f"trial {number} of {self.name!r} is {row.state} ({row.reason or 'no score'}); take another"
            )
        return row

    def records(self, *, everything: bool = False) -> list[dict[str, Any]]:
        """The front, or every complete trial, as plain values for CSV and JSON."""
        rows = [row for row in self.rows if row.done] if everything else self.front
        baseline = self.baseline
        return [as_record(row, baseline, self.confirmed.get(row.pattern), self.parameters) for row in rows]


def read_study(storage_text: str, name: str | None, say: Say) -> Record:
    """Read the study called `name`, or the only one there is. Raises StudyError."""
    url = parse_url(storage_text)
    storage = open_storage(url, say, create=False)
    try:
        studies = {s.study_name: s for s in storage.get_all_studies() if "purpose" in s.user_attrs}
        name = _chosen(name, [n for n in studies if not n.endswith(CONFIRMATION)], shown(url))
        study = studies[name]
        confirmation = studies.get(name + CONFIRMATION)
        return Record(
            name=name,
            purpose=Purpose.from_dict(study.user_attrs["purpose"]),
            facts=study.user_attrs,
            rows=tuple(_rows(storage, study._study_id)),
            confirmed=confirmed_of(_rows(storage, confirmation._study_id)) if confirmation else {},
        )
    finally:
        storage.engine.dispose()


def _rows(storage: PatientStorage, study_id: int) -> list[Row]:
    return rows_of(storage.get_all_trials(study_id))


def _chosen(name: str | None, names: list[str], where: str) -> str:
    if name is None and len(names) == 1:
        return names[0]
    listed = ", ".join(sorted(names)) or "none"
    if name is None:
        raise StudyError(f"name the study: {where} holds {listed}")
    if name not in names:
        raise StudyError(f"there is no study {name!r} in {where}; it holds {listed}")
    return name
