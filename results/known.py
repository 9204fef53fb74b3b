"""What is known of trainings: by the studies of a work folder, and by the tables that lie beside the papers' commands.

Knows: rows of studies, lines of runs.csv. Does not know: how a candidate is trained, what a paper makes of its lines.

A work folder is lost with its machine, the tables are kept: a line there whose question is the one that is asked counts
like a training, but has no weights.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from layersearch.pattern import Pattern
from layersearch.search.purpose import Purpose
from layersearch.search.record import Record, read_study
from layersearch.search.storage import open_storage, parse_url
from layersearch.search.trials import Row
from results.asked import Asked, Setting, Way
from results.sheet import Lines, read_csv

ENDING = ".validation"
ON_THE_WAY = "at "  # how the names of scores begin that a candidate had at a share of its steps

DIGITS = 5  # of a score
EQUAL = 10.0**-DIGITS  # what scores may differ by that are rounded

COLUMNS = (
    *("scale", "task", "way", "question", "pattern", "layers", "seed", "metric", "score", "parameters", "work"),
    *("train_seconds", "score_seconds", "reason", "on the way"),
)
HERE = Path(__file__).parent
Key = tuple[str, int]  # pattern and seed


def question_of(purpose: Purpose) -> str:
    """Eight letters that tell what makes a score (data, weights, recipe ...) from all else, wherever files lie."""
    return hashlib.sha256(replace(purpose, scored_on="validation").evaluation.encode()).hexdigest()[:8]


def tabled(question: str) -> dict[Key, dict[str, Any]]:
    """The lines of this question in the tables that are kept."""
    lines = (line for file in sorted(HERE.glob("*/runs.csv")) for line in read_csv(file))
    return {(line["pattern"], int(line["seed"])): line for line in lines if line.get("question") == question}


def in_work(setting: Setting, task: str, way: Way, question: str) -> dict[Key, tuple[Row, Record]]:
    """The rows of all processes' studies of a task and way, those with a score before failures."""
    known: dict[Key, tuple[Row, Record]] = {}
    for name in _names(setting):
        if name.startswith(f"{setting.name(task, way)}-{question}-"):
            record = read_study(setting.storage, name, print)
            for row in record.rows:
                failed = row.state == "FAIL" and not row.lost
                if row.done or (failed and (row.pattern, row.seed) not in known):
                    known[row.pattern, row.seed] = (row, record)
    return known


def known(setting: Setting, task: str, way: Way, question: str) -> dict[Key, dict[str, Any]]:
    """A line for all that is known of a task and way: the work folder before tables, a score before none."""
    lines = {key: line | {"task": task, "way": way.name} for key, line in tabled(question).items()}
    for key, (row, record) in in_work(setting, task, way, question).items():
        if row.done or key not in lines:
            lines[key] = _line(setting, task, way, row, record)
    return lines


def _names(setting: Setting) -> list[str]:
    if not Path(setting.storage).exists():
        return []
    storage = open_storage(parse_url(setting.storage), print, create=False)
    try:
        return [study.study_name for study in storage.get_all_studies() if study.study_name.endswith(ENDING)]
    finally:
        storage.engine.dispose()


def found(setting: Setting, asked: Sequence[Asked]) -> Lines:
    """What is known of what is asked, a line each, in the order of `asked`; failures with their reason."""
    lines = {
        (task, way): known(setting, task, way, question_of(setting.prepared(task, way).purpose))
        for task, way in dict.fromkeys((one.task, one.way) for one in asked)
    }
    every = ((lines[one.task, one.way], (one.pattern, one.seed)) for one in asked)
    return [of[key] for of, key in every if key in of]


def _line(setting: Setting, task: str, way: Way, row: Row, record: Record) -> dict[str, Any]:
    diagram = Pattern.parse(row.pattern).diagram(int(record.facts["num_layers"]))
    values = (setting.scale.name, task, way.name, question_of(record.purpose), row.pattern, diagram, row.seed)
    score = None if row.score is None else round(row.score, DIGITS)
    told = (record.purpose.metric, score, row.parameters, row.work, row.train_seconds, row.score_seconds)
    on_the_way = {name: score for name, score in (row.metrics or {}).items() if name.startswith(ON_THE_WAY)}
    curve = " ".join(f"{name.removeprefix(ON_THE_WAY)}:{score:.4f}" for name, score in on_the_way.items())
    return dict(zip(COLUMNS, (*values, *told, row.reason, curve), strict=True))
