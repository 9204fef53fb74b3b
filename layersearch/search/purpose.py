"""What a study is for: the fingerprint that is stored with it and compared when it is opened again.

Knows: flat, named, plain values. Does not know: SQL, Optuna, what the values mean.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from layersearch.errors import StudyError
from layersearch.search.trials import Direction
from layersearch.training.job import Split
from layersearch.training.recipe import FIRST_TRAINING, TRAINING, option_of

FORMAT = 1  # of the attributes that a study and its trials carry
_OWN = ("format", "metric", "direction", "scored_on", "training")


@dataclass(frozen=True)
class Purpose:
    """What a study is for: everything that changes a result. Two studies are alike exactly if their purposes are.

    `values` are flat, named and plain (they are stored and compared one by one); `metric` and `direction` are the
    first objective, `costs` the others; `scored_on` is the split that scores, `training` the version of how a recipe
    is followed (`training/recipe.py`).
    """

    values: Mapping[str, Any]
    metric: str
    direction: Direction
    scored_on: Split = "search"
    training: int = TRAINING

    @property
    def costs(self) -> tuple[str, ...]:
        """The objectives behind the metric, all to be minimised; a study that does not say means parameters."""
        return tuple(str(self.values.get("objectives", "parameters")).split(","))

    def as_dict(self) -> dict[str, Any]:
        """The stored form."""
        own = dict(zip(_OWN, (FORMAT, self.metric, self.direction, self.scored_on, self.training), strict=True))
        return dict(sorted({**self.values, **own}.items()))

    @classmethod
    def from_dict(cls, stored: Mapping[str, Any]) -> Purpose:
        """The inverse of `as_dict`."""
        values = {key: value for key, value in stored.items() if key not in _OWN}
        training = stored.get("training", FIRST_TRAINING)
        return cls(values, stored["metric"], stored["direction"], stored["scored_on"], training)

    @property
    def mark(self) -> str:
        """Eight letters that tell this purpose from others, for the names of folders; whatever version trains."""
        told = {key: value for key, value in self.as_dict().items() if key != "training"}
        return hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()[:8]

    @property
    def evaluation(self) -> str:
        """What must agree for an evaluation to be worth the same in another study: all but how patterns are found."""
        left_out = {"space", "sampler", "measured_on"}
        left_out |= {"model"}  # the revision identifies the weights, not the name they go by
        left_out |= {"objectives", "limits", "hardware"}  # costs are the study's own, and scores are not theirs
        kept = {k: v for k, v in self.as_dict().items() if k not in left_out and not k.startswith("halving.")}
        if kept.get("method") == "halving":  # what is complete there was fine-tuned in full
            kept["method"] = "fine-tune"
        return json.dumps(kept, sort_keys=True)


def check_purpose(name: str, stored: Mapping[str, Any], wanted: Mapping[str, Any]) -> None:
    """Raise StudyError for a study that was trained otherwise, else naming every key that differs, with both values."""
    there, here = stored.get("training", FIRST_TRAINING), wanted["training"]
    if there != here and "replay" not in wanted:  # a table trains nothing
        raise StudyError(
            f"study {name!r} was trained in version {there} of the training, and this layersearch trains in version "
            f"{here}: the same recipe gives other scores. Search again under a new --study; what this one has can be "
            "read and exported"
        )
    different = [k for k in sorted({*stored, *wanted} - {"training"}) if stored.get(k) != wanted.get(k)]
    if "method" in different:  # the rest of a method's settings says no more
        different = [key for key in different if not key.startswith(("one_shot.", "halving."))]
    if different:
        said = "; ".join(f"{_named(k)} is {_said(stored, k)} there and {_said(wanted, k)} here" for k in different)
        drawn = "own.text" in wanted and wanted.get("own.examples") is None
        rows = " (of a large table --examples 0 takes all rows)" if "data" in different and drawn else ""
        raise StudyError(
            f"study {name!r} was made for something else: {said}. Ask for the same{rows}, or name a new --study"
        )


def _named(key: str) -> str:
    """A key as the user knows it: by its option, if the group that it stands in has options."""
    group, _, name = key.rpartition(".")
    if group == "own":
        return "--text-pair" if name == "pair" else f"--{name.replace('_', '-')}"
    return option_of(name) if group == "recipe" else key


def _said(values: Mapping[str, Any], key: str) -> str:
    return repr(values[key]) if values.get(key) is not None else "not given"
