"""What optuna-dashboard's answers get beside what Optuna keeps: notes, files, attributes that a person can read.

Knows: the answers of its interface as JSON, the record of a study, Markdown. Does not know: HTTP, SQL, models. All of
it is made for the page and stored nowhere.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from shlex import quote
from typing import Any

from layersearch.names import file_name_of
from layersearch.pattern import Pattern
from layersearch.report.artifacts import CHECKPOINT, REPORT, names_of_artifacts
from layersearch.report.commands import export_command
from layersearch.report.trial import facts_of, state_of
from layersearch.search.objectives import COSTS
from layersearch.search.record import Record
from layersearch.search.times import in_words
from layersearch.search.trials import Row

LONGEST = 160  # letters of an attribute; what is longer is cut
HIDDEN = {"driver", "influence", "lost", "ray_trial", "retry", "retry_of", "versions"}  # of no use in a table of trials
_IN_A_NOTE = {"strategy", "dropped", "kept", "confirmed", "confirmed kept", "shared", "rungs"}

Answer = dict[str, Any]


def dress_studies(answer: Answer) -> None:
    """Shorten the attributes in the list of studies."""
    for study in answer["study_summaries"]:
        study["user_attrs"] = _short(study["user_attrs"])


def dress_study(answer: Answer, study_id: int, record: Record | None, place: str) -> None:
    """Give a study its note and files, each of its trials of ours a note that has none, and short attributes.

    `record` is None for what has none of its own: confirmations, shared scores and studies of others.
    """
    rows = {} if record is None else {row.number: row for row in record.rows}
    for trial in [*answer["trials"], *answer["best_trials"]]:
        attrs = {attr["key"]: attr["value"] for attr in trial["user_attrs"]}
        row = rows.get(trial["number"])
        if record is not None and row is not None:
            trial["artifacts"] += _checkpoint(record, row)
            note = _note(record, row, place)
        else:
            note = _plain_note(attrs, trial.get("values") or [], answer.get("objective_names", []))
        trial["note"]["body"] = trial["note"]["body"] or note
        trial["user_attrs"] = [a for a in _short(trial["user_attrs"]) if a["key"] != "checkpoint" or _is_there(a)]
    answer["union_user_attrs"] = [attr for attr in answer["union_user_attrs"] if attr["key"] not in HIDDEN]
    if record is not None:
        answer["artifacts"] += _files(record)
        answer["note"]["body"] = answer["note"]["body"] or _study_note(record, study_id, place)
        answer["user_attrs"] = [*_asked(record), *(a for a in answer["user_attrs"] if a["key"] != "purpose")]
    answer["user_attrs"] = _short(answer["user_attrs"])


def _is_there(attr: Mapping[str, str]) -> bool:
    return Path(attr["value"]).is_dir()


def _short(attrs: list[dict[str, str]]) -> list[dict[str, str]]:
    return [{"key": attr["key"], "value": _cut(attr["value"])} for attr in attrs if attr["key"] not in HIDDEN]


def _cut(text: str) -> str:
    return text if len(text) <= LONGEST else f"{text[: LONGEST - 2]} …"


def _asked(record: Record) -> list[dict[str, str]]:
    """What the study is for, an attribute each; the space is named beside it."""
    values = {name: value for name, value in record.purpose.values.items() if name != "space"}
    names = sorted(values, key=lambda name: (name not in ("model", "task", "method"), name))
    return [{"key": name, "value": str(values[name])} for name in names]


def _checkpoint(record: Record, row: Row) -> list[dict[str, Any]]:
    """The file of a trial, as the page lists it; none where its weights are not kept."""
    if row.checkpoint is None or not (Path(row.checkpoint) / "manifest.json").is_file():
        return []
    return [_listed(CHECKPOINT, "application/x-tar", f"{file_name_of(record.name)}-{row.number}.tar")]


def _files(record: Record) -> list[dict[str, Any]]:
    return [
        _listed(name, kind, f"{file_name_of(record.name)}-{name}") for name, kind in names_of_artifacts(record).items()
    ]


def _listed(name: str, mimetype: str, filename: str) -> dict[str, Any]:
    return {"artifact_id": name, "filename": filename, "mimetype": mimetype, "encoding": None}


def _study_note(record: Record, study_id: int, place: str) -> str:
    """Markdown: the pictures, the report, and the commands that say more."""
    files = names_of_artifacts(record)
    if not files:
        return f"{record.name} has no finished trial yet."
    pictures = [f"![{name}](/artifacts/{study_id}/{name})" for name in files if name != REPORT]
    commands = [f"layersearch {word} {quote(record.name)}{place}" for word in ("front", "report")]
    return "\n\n".join([f"[The whole report](/artifacts/{study_id}/{REPORT})", *pictures, _fenced(*commands)])


def _note(record: Record, row: Row, place: str) -> str:
    """Markdown: a trial's diagram, what it is and scores, its form as an export, and the command that makes it."""
    wanted = {*_IN_A_NOTE, record.purpose.metric, *_titles(record), *(("parameters", "export") if row.done else ())}
    facts = [f"{name}: {words}" for name, words in facts_of(record, row).items() if name in wanted]
    head = f"`{_diagram(record, row)}` pattern **{row.pattern}**"
    lines = "\n".join(f"- {_plain(line)}" for line in (state_of(record, row), *facts))
    command = export_command(record, row, place)
    return "\n\n".join([head, lines, *([_fenced(command)] if command else [])])


def _titles(record: Record) -> set[str]:
    """The titles of the study's costs."""
    return {COSTS[name].title for name in record.purpose.costs if name in COSTS} | set(
        map(in_words, record.timed_settings)
    )


def _diagram(record: Record, row: Row) -> str:
    return Pattern.parse(row.pattern).diagram(int(record.facts["num_layers"]))


def _plain(text: str) -> str:
    """Text in which Markdown finds nothing to mark up."""
    return "".join(f"\\{letter}" if letter in "\\`*_[]<>#|!~$" else letter for letter in text)


def _fenced(*commands: str) -> str:
    return "\n".join(["```", *commands, "```"])


def _plain_note(attrs: Mapping[str, str], values: list[float], names: list[str]) -> str:
    """Markdown of a trial that only Optuna's attributes tell of; nothing where it has no pattern of ours."""
    if "pattern" not in attrs:
        return ""
    costs = [COSTS.get(name) for name in names]
    named = [
        f"{name if cost is None else cost.title}: {f'{value:.4f}' if cost is None else cost.shown(value)}"
        for name, cost, value in zip(names, costs, values, strict=False)
    ]
    more = [f"{key}: {attrs[key]}" for key in ("seed", "reused", "reason") if key in attrs]
    return "\n".join(f"- {line}" for line in [f"pattern **{attrs['pattern']}**", *map(_plain, [*named, *more])])
