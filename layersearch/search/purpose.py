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

FORMAT = 1  # of the attributes that a study and its trials carry
_OWN = ("format", "metric", "direction", "scored_on")


@dataclass(frozen=True)
class Purpose:
    """What a study is for: everything that changes a result. Two studies are alike exactly if their purposes are.

    `values` are flat, named and plain (they are stored and compared one by one); `metric` and `direction` are the
    first objective, `costs` the others; `scored_on` is the split that scores.
    """

    values: Mapping[str, Any]
    metric: str
    direction: Direction
    scored_on: Split = "search"

    @property
    def costs(self) -> tuple[str, ...]:
        """The objectives behind the metric, all to be minimised; a study that does not say means parameters."""
        return tuple(str(self.values.get("objectives", "parameters")).split(","))

    def as_dict(self) -> dict[str, Any]:
        """The stored form."""
        own = dict(zip(_OWN, (FORMAT, self.metric, self.direction, self.scored_on), strict=True))
        return dict(sorted({**self.values, **own}.items()))

    @classmethod
    def from_dict(cls, stored: Mapping[str, Any]) -> Purpose:
        """The inverse of `as_dict`."""
        values = {key: value for key, value in stored.items() if key not in _OWN}
        return cls(values, stored["metric"], stored["direction"], stored["scored_on"])

    @property
    def mark(self) -> str:
        """Eight letters that tell this purpose from others, for the names of folders."""
        return hashlib.sha256(json.dumps(self.as_dict(), sort_keys=True).encode()).hexdigest()[:8]

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
    """Raise StudyError naming every key that differs, with both values."""
    different = [k for k in sorted({*stored, *wanted}) if stored.get(k) != wanted.get(k)]
    if "method" in different:  # the rest of a method's settings says no more
        different = [key for key in different if not key.startswith(("one_shot.", "halving."))]
    if different:
        said = "; ".join(f"{k} is {_said(stored, k)} there and {_said(wanted, k)} here" for k in different)
        raise StudyError(f"study {name!r} was made for something else: {said}. Ask for the same, or name a new --study")


def _said(values: Mapping[str, Any], key: str) -> str:
    return repr(values[key]) if values.get(key) is not None else "not given"
