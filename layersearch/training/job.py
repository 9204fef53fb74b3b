"""What a worker is asked and what it answers: a job and an outcome.

Knows: plain values, and how an outcome is spelled in a file. Does not know: models, studies, Ray, who does the job.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Literal

DIVERGED = "the training diverged"  # so says the reason of a failed trial whose loss or logits are not finite
Split = Literal["search", "validation", "shared"]  # shared: the search split, over a super-network's weights


@dataclass(frozen=True)
class Job:
    """One candidate to evaluate.

    `number` is the Optuna trial's, `scored_on` the split that scores it. `checkpoint` is the folder for its weights
    (None keeps none); they are written only if no point of `front` (score as a number to maximise, then the candidate's
    `costs`: parameters where it has none) is at least as good in all.

    `start` is the folder of a fine-tuned unchanged model or of a super-network: the candidate takes its weights from
    there and is taught by its answers, for the recipe's epochs, or for as many as make the work of `budget`
    fine-tunings of the unchanged model.
    A job with `patterns` is no candidate: it trains the super-network into `checkpoint`, unless it is there, out of the
    fine-tuned unchanged model in `start` (fine-tuned now if it is not there), and `scores` the patterns over its
    weights. Without `start` it is there, and its training is paid for.

    With `influence`, what each half of the fine-tuned layers does is measured too.

    `rungs` are the shares of the recipe's steps at which the candidate is scored, rising to 1.0; before the others its
    `state` is written to that file, and a state that is there is where it goes on.
    """

    number: int
    pattern: str
    seed: int
    scored_on: Split = "search"
    checkpoint: str | None = None
    front: tuple[tuple[float, ...], ...] = ()
    costs: tuple[float, ...] = ()
    start: str | None = None
    budget: float | None = None
    patterns: tuple[str, ...] = ()
    scores: bool = True
    rungs: tuple[float, ...] = ()
    state: str | None = None
    influence: bool = False


@dataclass(frozen=True)
class Outcome:
    """What became of a job: `score` and all that belongs to it, or the `reason` (one line) why there is none.

    `lost` says that the candidate itself is not to blame (a stop was asked for, or its process died: `died`) and may be
    tried again; `shared` holds the scores by pattern of a job that had `patterns`, `influence` what
    `training/influence.py` measures; `work` is what was run for the job in fine-tunings of the unchanged model (layers
    x examples, a backward pass counted twice); `start` is the name of the folder that the weights came from; `note` is
    a remark that the user should see; `rung` is the share of the recipe's steps after which a candidate was scored that
    may go on, None at the end (what it cost counts from its beginning); `versions` names libraries and hardware,
    `non_zero` of the parameters are not zero and `sparsity` is the share of zeros in the matrices of its layers, both
    None where the recipe asks for no zeros; `constant` is what the best constant answer scores there, if there is one;
    `ray_trial` the trial of Ray Tune; `redrawn` are its scores over examples drawn anew (`tasks/metrics.py`);
    `mix` says what the candidate learnt to mix, where it mixes its layers.
    Times are wall-clock seconds; `seconds` is all of the trial, from the job's start in the worker to its outcome.
    """

    number: int
    pattern: str
    seed: int
    score: float | None = None
    interval: tuple[float, float] | None = None
    redrawn: tuple[float, ...] = ()
    metrics: Mapping[str, float] = field(default_factory=dict)
    parameters: int | None = None
    non_zero: int | None = None
    sparsity: float | None = None
    constant: float | None = None
    train_loss: float | None = None
    train_seconds: float = 0.0
    score_seconds: float = 0.0
    seconds: float = 0.0
    examples: int = 0
    work: float = 0.0
    shared: Mapping[str, float] = field(default_factory=dict)
    influence: Mapping[str, Sequence[float]] = field(default_factory=dict)
    precision: str | None = None
    versions: str | None = None
    ray_trial: str | None = None
    mix: str | None = None
    checkpoint: str | None = None
    start: str | None = None
    note: str | None = None
    reason: str | None = None
    lost: bool = False
    died: bool = False
    rung: float | None = None
    trace: str | None = None

    def as_json(self) -> str:
        """One string, for a file or for Ray Tune (which flattens dictionaries)."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> Outcome:
        """The inverse of `as_json`."""
        values = json.loads(text)
        interval = values["interval"]
        known = {"interval": None if interval is None else tuple(interval), "redrawn": tuple(values.get("redrawn", ()))}
        return cls(**{**values, **known})
