"""How many of a candidate's weights are zero at which step, and how they are chosen: the words of `--sparsity`.

Knows: shares, steps, which words go together. Does not know: tensors, models, recipes.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal, get_args

from layersearch.errors import WordsError
from layersearch.names import unknown

SparsityMethod = Literal["magnitude", "movement", "soft-movement"]
SparsityScope = Literal["local", "global"]

# The example recipe of movement pruning (huggingface/transformers, examples/research_projects/movement-pruning): the
# zeros grow from the end of a warm-up of a tenth of the steps until two tenths before the last one.
STEPS = "0.1-0.8"
SCORE_RATE = 1e-2  # peak learning rate of scores, there
PENALTY = 400.0  # of soft movement, there
THRESHOLD = 0.1  # of a score's sigmoid, at the end of the schedule; there
RENEWALS = 100  # times at most that the zeros are chosen anew: sorting all weights of a model takes its time


@dataclass(frozen=True)
class Sparsity:
    """That a `share` of the weights of the dense matrices of kept halves ends as exact zeros.

    `magnitude` takes the smallest weights (Zhu and Gupta, arXiv 1710.01878), `movement` the lowest scores, which fall
    where training moves a weight towards zero (Sanh et al., arXiv 2005.07683), `soft-movement` the scores under a
    threshold, with a penalty that pushes them down. `local` gives every matrix the same share, `global` all of them
    together. `begin` and `end` are shares of the steps, `rate` is the peak learning rate of scores, `penalty` the
    weight of their mean sigmoid in the loss; both 0 where the method has none.
    """

    share: float
    method: SparsityMethod
    scope: SparsityScope
    begin: float
    end: float
    rate: float = 0.0
    penalty: float = 0.0

    def grown(self, step: int, steps: int) -> float:
        """How much of the share is reached after `step` of `steps`, from 0 to 1: by the cube (Zhu and Gupta)."""
        first, last = self.span(steps)
        if step >= last:
            return 1.0
        return 0.0 if step <= first else 1.0 - (1.0 - (step - first) / (last - first)) ** 3

    def span(self, steps: int) -> tuple[int, int]:
        """The steps, of so many, behind which the zeros begin and end to grow."""
        last = max(1, round(self.end * steps))
        return min(int(self.begin * steps), last - 1), last

    def renewals(self, steps: int) -> frozenset[int]:
        """The steps behind which the zeros are chosen anew, the last one where they end to grow."""
        first, last = self.span(steps)
        times = min(RENEWALS, last - first)
        return frozenset(first + round((last - first) * time / times) for time in range(1, times + 1))


def zeros_among(weights: int, share: float) -> int:
    """How many of so many weights end as zeros: `share` of them, to the nearest whole number."""
    return round(share * weights)


def settled(
    sparsity: float | None,
    sparsity_method: str | None,
    sparsity_scope: str | None,
    sparsity_steps: str | None,
    sparsity_lr: float | None,
    sparsity_penalty: float | None,
) -> dict[str, float | str]:
    """What the words mean, by their names, with the defaults of those left out; nothing where no zeros are wanted.

    By default the zeros are chosen by magnitude, and in each matrix by itself; by soft movement over all matrices,
    because one threshold holds for all scores there. Raises WordsError for words that are wrong or say nothing.
    """
    further = {
        "--sparsity-method": sparsity_method,
        "--sparsity-scope": sparsity_scope,
        "--sparsity-steps": sparsity_steps,
        "--sparsity-lr": sparsity_lr,
        "--sparsity-penalty": sparsity_penalty,
    }
    if sparsity is None:
        idle = [word for word, value in further.items() if value is not None]
        if idle:
            raise WordsError(f"{idle[0]} says nothing without --sparsity; add the share of zeros, such as 0.5")
        return {}
    if not 0 < sparsity < 1:
        raise _impossible("--sparsity", sparsity, "above 0 and below 1, the share of the weights that end as zero")
    method = _known("sparsity method", sparsity_method or "magnitude", get_args(SparsityMethod))
    own = "global" if method == "soft-movement" else "local"
    scope = _known("sparsity scope", sparsity_scope or own, get_args(SparsityScope))
    found: dict[str, float | str] = {"sparsity": sparsity, "sparsity_method": method, "sparsity_scope": scope}
    found["sparsity_steps"] = sparsity_steps or STEPS
    span_in(str(found["sparsity_steps"]))
    scored = {"sparsity_lr": (sparsity_lr, SCORE_RATE, method != "magnitude", "above 0 and at most 1")}
    scored["sparsity_penalty"] = (sparsity_penalty, PENALTY, method == "soft-movement", "above 0")
    for name, (value, default, used, allowed) in scored.items():
        option = f"--{name.replace('_', '-')}"
        if value is not None and not used:
            raise WordsError(f"{option} says nothing of --sparsity-method {method}; leave it out")
        if value is not None and not 0 < value <= (1 if name == "sparsity_lr" else 1e9):
            raise _impossible(option, value, allowed)
        found |= {name: default if value is None else value} if used else {}
    return found


def span_in(text: str) -> tuple[float, float]:
    """Where zeros begin and end to grow, as shares of the steps, in a text such as `0.1-0.8`.

    Raises WordsError for another text.
    """
    found = re.fullmatch(r"(\d*\.?\d+)-(\d*\.?\d+)", text)
    begin, end = (float(part) for part in found.groups()) if found else (1.0, 0.0)
    if not begin < end <= 1:
        raise _impossible("--sparsity-steps", text, "two rising shares of the steps, such as 0.1-0.8")
    return begin, end


def _known(what: str, name: str, allowed: tuple[str, ...]) -> str:
    if name not in allowed:
        raise WordsError(unknown(what, name, allowed))
    return name


def _impossible(option: str, value: object, allowed: str) -> WordsError:
    return WordsError(f"{option} {value} is not possible; allowed: {allowed}")
