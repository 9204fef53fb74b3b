"""An exported folder trained again from what it says about itself, and whether its score comes back.

Knows: what a folder must hold so that nobody needs the study, and what differs here from where it was made. Does not
know: how anything is trained, how weights become a folder, words of the command line.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from layersearch.errors import ExportError, StudyError
from layersearch.models.folder import damage_in, read_record
from layersearch.search.again import cost_again, jobs_again, prepared_again, question_of, train_again
from layersearch.search.purpose import Purpose
from layersearch.search.question import How, Prepared, What
from layersearch.search.record import Record
from layersearch.search.storage import Say
from layersearch.search.trials import Row
from layersearch.training.steps import Heartbeat

QUESTION = "question"  # the key in layersearch.json, which models/export.py writes

_FACTS = ("model_folder", "model_type", "data_folder", "num_layers", "parameters", "space_name", "command")
_FACTS_OF_SOME = ("columns", "start_from", "spelled", "measured")
_OF_A_ROW = (
    *("number", "state", "pattern", "seed", "score", "interval", "metrics", "parameters"),
    *("train_seconds", "work", "start", "versions", "non_zero", "sparsity"),
)


@dataclass(frozen=True)
class Reproduced:
    """What training a folder's recipe again gave: the score `now`, and `then` with its 95 % interval, None if unknown.

    `differences` name, a line each, what is not as it was where the folder was made.
    """

    study: str
    trial: int
    pattern: str
    metric: str
    then: float
    now: float
    interval: tuple[float, float] | None
    differences: tuple[str, ...]

    @property
    def same(self) -> bool:
        """Whether the score is the same to the last digit."""
        return self.now == self.then

    @property
    def inside(self) -> bool:
        """Whether the score lies in the interval."""
        return self.same or (self.interval is not None and self.interval[0] <= self.now <= self.interval[1])


def question_in(record: Record, row: Row) -> dict[str, Any]:
    """What has to be asked to get `row` again, as JSON values for the folder that it is shipped in."""
    facts = {name: record.facts.get(name) for name in _FACTS}
    facts |= {name: record.facts[name] for name in _FACTS_OF_SOME if name in record.facts}
    own = row.seeds[0] if row.seeds else row.score  # the weights are one seed's, not the mean's
    trial = {name: getattr(row, name) for name in _OF_A_ROW} | {"score": own}
    return {"study": record.name, "purpose": record.purpose.as_dict(), "facts": facts, "trial": trial}


def record_in(folder: Path) -> tuple[Record, Row]:
    """The study that an exported folder comes from, as far as it holds it: the question and one trial.

    Raises ExportError for a folder that tells none.
    """
    told = read_record(folder)
    try:
        asked: Mapping[str, Any] = told[QUESTION]
        trial = dict(asked["trial"])
        row = Row(**{**trial, "interval": None if trial["interval"] is None else tuple(trial["interval"])})
        record = Record(asked["study"], Purpose.from_dict(asked["purpose"]), asked["facts"], (row,), {})
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ExportError(
            f"{folder} does not say how it was made: it comes from an older layersearch, or from no study; export the "
            "trial again"
        ) from error
    return record, row


def reproduce(
    folder: Path,
    how: How,
    say: Say,
    *,
    model: str | None = None,
    data: Path | None = None,
    heartbeat: Heartbeat = lambda _: None,
) -> Reproduced:
    """Train the recipe in an exported `folder` again, all that its candidate started from included, and score it.

    `model` and `data` say where these lie now. What it costs is said before it starts. Raises ExportError for a folder
    that does not tell its question, StudyError for a model or data that are gone or not the same.
    """
    record, row = record_in(folder)
    if damage := damage_in(folder, read_record(folder)):
        say(
            f"warning: {folder} is damaged ({next(iter(damage.values()))}), which its recipe does not need; "
            f"`layersearch verify {folder}` says all that is wrong"
        )
    what = _lying(record, model, data)
    prepared = prepared_again(record, row, what, "say with --model or --data where those lie now")
    with TemporaryDirectory(prefix="layersearch-") as scratch:
        jobs = jobs_again(record, row, prepared, Path(scratch))
        cost = cost_again(row, jobs, prepared.num_layers)
        say(f"trial {row.number} of study {record.name!r}, `{row.pattern}`, is trained again: {cost}")
        again = train_again(row, jobs, prepared, how, say, heartbeat)
    assert row.score is not None
    assert again.score is not None
    differences = _differences(record, row, prepared, again.versions)
    return Reproduced(
        record.name, row.number, row.pattern, record.purpose.metric, row.score, again.score, row.interval, differences
    )


def _lying(record: Record, model: str | None, data: Path | None) -> What:
    """The question with its model and data where they lie now. Raises StudyError for what is gone."""
    what = question_of(record)
    what = replace(what, model=model or what.model, data=data or what.data)
    local = what.revision is None and not what.model.startswith("package:")
    for kind, place in (("model", Path(what.model) if local else None), ("data", what.data)):
        if place is not None and not place.exists():
            raise StudyError(
                f"the {kind} of study {record.name!r} {'is' if kind == 'model' else 'are'} not in {place}; say with "
                f"--{kind} where it lies now"
            )
    return what


def _differences(record: Record, row: Row, prepared: Prepared, versions: str | None) -> tuple[str, ...]:
    """What is otherwise here: versions and hardware, and settings that another version of this program has."""
    there, here = record.purpose.values, prepared.purpose.values
    settings = [key for key in sorted(here) if key.startswith("one_shot.") and key in there and there[key] != here[key]]
    lines = [f"{key} was {there[key]}, here it is {here[key]}" for key in settings]
    if record.purpose.training != prepared.purpose.training:
        lines.append(f"trained in version {record.purpose.training} of the training, here {prepared.purpose.training}")
    if row.versions != versions:
        lines.append(f"made with {row.versions or 'versions that the study does not tell'}; here {versions}")
    return tuple(lines)


def as_plain(found: Reproduced) -> dict[str, Any]:
    """The answer as JSON values."""
    return {**asdict(found), "inside": found.inside, "same": found.same}
