"""The question of a study that is there, with its parts looked up again: the same, or an error.

Knows: what a study keeps of its question. Does not know: who asks again, or what for.
"""

from __future__ import annotations

from dataclasses import replace

from layersearch.errors import StudyError
from layersearch.search.again import prepared_again
from layersearch.search.measured_costs import with_stored
from layersearch.search.question import Prepared
from layersearch.search.record import Record
from layersearch.search.spelling import knowing


def asked_again(record: Record) -> Prepared:
    """The question that a study was made for, as its own driver had it; nothing is measured anew.

    Raises StudyError for a study over a table, for one without a trial and for a model or data that have changed, and
    the errors of `prepare` for those that are gone.
    """
    if "replay" in record.facts:
        raise StudyError(
            f"study {record.name!r} took its scores from {record.facts['replay']} and trained no model; search with "
            "`layersearch run` to have something to train again"
        )
    if not record.rows:
        raise StudyError(f"study {record.name!r} has no trial yet; continue it with `layersearch run`")
    prepared = prepared_again(record, record.baseline or record.rows[0])
    told = replace(prepared, space=knowing(prepared, record.facts.get("spelled", {})).space, purpose=record.purpose)
    measured = record.facts.get("measured")
    return told if measured is None else with_stored(told, measured)
