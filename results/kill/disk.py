"""What a killed run left on the disk, read without healing anything.

Knows: the tables of Optuna's SQL studies, the outbox's files. Does not know: layersearch, processes.
"""

from __future__ import annotations

import json
import shutil
import sqlite3
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Trial:
    """One row of the study as SQL tells it. Times are ISO texts; `values` are empty unless the trial is complete."""

    study: str
    number: int
    state: str
    pattern: str | None
    seed: int | None
    values: tuple[float, ...]
    started: str | None
    ended: str | None


@dataclass(frozen=True)
class Snapshot:
    """What was on the disk right after a kill: the study's trials, and outcomes that were paid for and not told."""

    trials: list[Trial]
    untold: list[dict[str, Any]]


def snapshot(home: Path) -> Snapshot:
    """Read a copy of the database with its log, so that reading heals nothing, and the outbox."""
    untold = [json.loads(file.read_text()) for file in sorted(home.glob("files/**/outbox/*.json"))]
    with tempfile.TemporaryDirectory() as name:
        for file in (home / "study.db", home / "study.db-wal"):
            if file.exists():
                shutil.copy(file, name)
        return Snapshot(trials_of(Path(name) / "study.db"), untold)


def trials_of(file: Path) -> list[Trial]:
    """All trials of all studies in an SQLite file; none if it has no tables yet."""
    with sqlite3.connect(file) as connection:
        if not connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'trial_values'").fetchone():
            return []
        values: dict[int, list[float]] = {}
        for trial, value in connection.execute("SELECT trial_id, value FROM trial_values ORDER BY trial_id, objective"):
            values.setdefault(trial, []).append(value)
        attrs: dict[int, dict[str, Any]] = {}
        for trial, key, text in connection.execute("SELECT trial_id, key, value_json FROM trial_user_attributes"):
            attrs.setdefault(trial, {})[key] = json.loads(text)
        rows = connection.execute(
            "SELECT trial_id, study_name, number, state, datetime_start, datetime_complete "
            "FROM trials JOIN studies USING (study_id) ORDER BY trial_id"
        ).fetchall()
    return [
        Trial(
            study=study,
            number=number,
            state=state,
            pattern=attrs.get(key, {}).get("pattern"),
            seed=attrs.get(key, {}).get("seed"),
            values=tuple(values.get(key, ())),
            started=started,
            ended=ended,
        )
        for key, study, number, state, started, ended in rows
    ]


def integrity(file: Path) -> str:
    """SQLite's own verdict on the file."""
    with sqlite3.connect(file) as connection:
        return str(connection.execute("PRAGMA integrity_check").fetchone()[0])
