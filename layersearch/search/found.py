"""Finding studies in a database: the one asked for (made, or checked against its purpose), and what others know.

Knows: the purpose that is stored with every study of ours. Does not know: asking, telling, trials that run.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Any, Literal

import optuna
from optuna.storages import BaseStorage
from optuna.trial import TrialState

from layersearch.errors import StudyError
from layersearch.search.purpose import Purpose, check_purpose
from layersearch.search.storage import PatientStorage, Say, open_storage, parse_url
from layersearch.search.trials import Row, rows_of


def facts_of(storage: PatientStorage, name: str) -> Mapping[str, Any]:
    """What is noted with the study called `name`; nothing if there is none."""
    return next((s.user_attrs for s in storage.get_all_studies() if s.study_name == name), {})


def noted(storage_text: str, name: str, say: Say) -> Mapping[str, Any]:
    """`facts_of` a study of a database that is not open."""
    storage = open_storage(parse_url(storage_text), say, create=True)
    try:
        return facts_of(storage, name)
    finally:
        storage.engine.dispose()


def holder_of(storage: PatientStorage, name: str) -> str:
    """Who last drove the study called `name`, for the message to a second driver."""
    return str(facts_of(storage, name).get("driver", "unknown"))


def create_or_load(storage: BaseStorage, name: str, purpose: Purpose) -> optuna.Study:
    """The study called `name`, made if new; raises StudyError naming every key in which the stored purpose differs."""
    directions: list[Literal["maximize", "minimize"]] = [purpose.direction, *["minimize"] * len(purpose.costs)]  # type: ignore[list-item]
    names = [found.study_name for found in storage.get_all_studies()]
    if name not in names:
        study = optuna.create_study(storage=storage, study_name=name, directions=directions, load_if_exists=True)
    else:
        study = optuna.load_study(storage=storage, study_name=name)
    stored = study.user_attrs.get("purpose")
    if stored is None and study.trials:
        raise StudyError(f"study {name!r} was not made by layersearch; give another name with --study")
    if stored is None:
        study.set_user_attr("purpose", purpose.as_dict())
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            study.set_metric_names([purpose.metric, *purpose.costs])
    else:
        check_purpose(name, stored, purpose.as_dict())
    return study


def known_elsewhere(storage: PatientStorage, name: str, purpose: Purpose) -> dict[tuple[str, int], tuple[str, Row]]:
    """Complete trials of other studies in the database whose evaluations are worth the same: (pattern, seed) -> row."""
    found: dict[tuple[str, int], tuple[str, Row]] = {}
    if purpose.values.get("method") in ("one-shot", "distill", "tune-drop-tune"):  # worth what they start from
        return found
    for other in storage.get_all_studies():
        stored = other.user_attrs.get("purpose")
        if other.study_name == name or stored is None:
            continue
        if Purpose.from_dict(stored).evaluation != purpose.evaluation:
            continue
        for row in rows_of(storage.get_all_trials(other._study_id, states=(TrialState.COMPLETE,))):
            found[row.pattern, row.seed] = (other.study_name, row)
    return found
