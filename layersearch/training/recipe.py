"""The hyper-parameters of fine-tuning, frozen: part of what a study is, so two studies with different recipes differ.

Knows: numbers, their bounds, named presets with their sources, and what training holds in memory. Does not know:
models, data, devices.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from typing import Any, Literal

from layersearch.errors import WordsError
from layersearch.mixing import Mixing
from layersearch.names import unknown
from layersearch.training.schedule import Sparsity, settled, span_in

# The version of how a recipe is followed: one more with whatever gives the same recipe and seed another score.
# 2: a processor takes batches of more than 1,024 tokens in pieces (not of language models, tags and images); scores of
# zeros by movement are clipped.
FIRST_TRAINING, TRAINING = 1, 2  # studies that tell none are of the first

_OPTIONS = {"learning_rate": "--lr", "max_grad_norm": "max_grad_norm"}  # not called like the field

Precision = Literal["auto", "bf16", "fp32"]

TEACH = ("logits", "hidden", "logits+hidden")
START_WEIGHTS = ("fine-tuned", "pre-trained")
DROP_EVERY = "above 0 (epochs); leave it out to drop all layers before training"

BYTES_A_PARAMETER = 4  # checkpoints are fp32
BITS_A_BYTE = 8
STATE_BYTES_A_PARAMETER = 12  # weights and AdamW's two moments, fp32


@dataclass(frozen=True)
class Recipe:
    """How every candidate of a study is fine-tuned.

    `learning_rate` is the peak of a linear schedule that rises over the first `warmup` share of the steps and falls to
    zero; `epochs` may be fractional; `max_length` is in tokens, pair included; gradients are clipped at `max_grad_norm`
    (0 leaves them). `precision` "auto" is bf16 autocast where the hardware has bf16 instructions, else fp32. What
    `freeze` names (`embeddings`, and layers of the base model such as `0-2` or `4`) is not trained. With `drop_every`
    a candidate begins as the unchanged model and loses one of its layers after every so many epochs, from the top
    down, before it is trained for `epochs`; 0 drops all of them first. `mix` says how candidates that mix their layers
    do so, in the words of `mixing.py`, and `mix_lr` is the peak learning rate of their scalars (None: that of all
    else). With `sparsity` that share of the weights of the candidate's matrices ends as
    zero; the other words of it are explained at `schedule.Sparsity`, and `schedule.settled` has their defaults.
    Where a candidate is taught, `teach` says by what (the teacher's `logits`, its `hidden` states, or
    both), and `start_weights` whether its own weights are the `fine-tuned` ones of the teacher or the `pre-trained`
    ones. Raises WordsError for a value outside its bounds.
    """

    learning_rate: float = 1e-4
    batch_size: int = 32
    epochs: float = 3.0
    warmup: float = 0.1
    weight_decay: float = 0.01
    max_grad_norm: float = 1.0
    max_length: int = 128
    seed: int = 0
    precision: Precision = "auto"
    freeze: str = ""
    drop_every: float = 0.0
    mix: str = ""
    mix_lr: float | None = None
    sparsity: float | None = None
    sparsity_method: str | None = None
    sparsity_scope: str | None = None
    sparsity_steps: str | None = None
    sparsity_lr: float | None = None
    sparsity_penalty: float | None = None
    teach: str = "logits"
    start_weights: str = "fine-tuned"

    def __post_init__(self) -> None:
        checks = {
            "learning_rate": (0 < self.learning_rate <= 1, "above 0 and at most 1"),
            "batch_size": (self.batch_size >= 1, "1 or more"),
            "epochs": (self.epochs > 0 and math.isfinite(self.epochs), "above 0"),
            "warmup": (0 <= self.warmup < 1, "from 0 to below 1 (a share of the steps)"),
            "weight_decay": (0 <= self.weight_decay < 1, "from 0 to below 1"),
            "max_grad_norm": (self.max_grad_norm >= 0, "0 or more (0 does not clip)"),
            "max_length": (self.max_length >= 4, "4 or more tokens"),
            "seed": (0 <= self.seed < 2**32, "from 0 to 2**32 - 1"),
            "precision": (self.precision in ("auto", "bf16", "fp32"), "auto, bf16 or fp32"),
            "mix_lr": (self.mix_lr is None or 0 < self.mix_lr <= 1, "above 0 and at most 1"),
            "drop_every": (self.drop_every >= 0 and math.isfinite(self.drop_every), DROP_EVERY),
        }
        for name, (good, allowed) in checks.items():
            if not good:
                raise WordsError(f"{option_of(name)} {getattr(self, name)} is not possible; allowed: {allowed}")
        _, layers = frozen(self.freeze)
        if self._sparse and layers:
            raise WordsError(
                f"--freeze {self.freeze!r} leaves layers as they are, and --sparsity makes weights of all layers zero; "
                "leave one of them out, or freeze `embeddings`"
            )
        for option, word, words in (
            ("--teach", self.teach, TEACH),
            ("--start-weights", self.start_weights, START_WEIGHTS),
        ):
            if word not in words:
                raise WordsError(unknown(option, word, words))
        object.__setattr__(self, "mix", str(Mixing.parse(self.mix)))  # in one order

    @property
    def mixing(self) -> Mixing:
        """How candidates that mix their layers do so."""
        return Mixing.parse(self.mix)

    def with_(self, **changes: object) -> Recipe:
        """This recipe with the given fields changed, those that are None left as they are."""
        known = {f.name for f in fields(self)}
        assert set(changes) <= known, set(changes) - known
        return replace(self, **{k: v for k, v in changes.items() if v is not None})  # type: ignore[arg-type]

    @property
    def zeros(self) -> Sparsity | None:
        """Which weights are made zero and when; None where none are."""
        found = self._sparse
        if not found:
            return None
        begin, end = span_in(found["sparsity_steps"])
        named = found["sparsity"], found["sparsity_method"], found["sparsity_scope"]
        return Sparsity(*named, begin, end, found.get("sparsity_lr", 0.0), found.get("sparsity_penalty", 0.0))

    @property
    def _sparse(self) -> dict[str, Any]:
        """The words about zeros with the defaults of those left out; nothing where no zeros are wanted."""
        return settled(**{name: getattr(self, name) for name in _SPARSE})

    @property
    def dense(self) -> Recipe:
        """The same without zeros."""
        return replace(self, **dict.fromkeys(_SPARSE))  # type: ignore[arg-type]

    @property
    def state_bytes(self) -> int:
        """Bytes a parameter of a training that is put down: weights and two moments; with zeros whole weights, a mask.

        Scores come with two moments of their own.
        """
        return STATE_BYTES_A_PARAMETER + (5 if self.zeros else 0) + (12 if self._scored else 0)

    @property
    def _scored(self) -> bool:
        """Whether the weights of matrices have scores, which are trained beside them."""
        return self.zeros is not None and self.zeros.rate > 0

    @property
    def training_bytes(self) -> int:
        """Bytes a parameter that training holds: a state, gradients, and a teacher whose hidden states lead."""
        return self.state_bytes + 4 + (4 if self._scored else 0) + (4 if "hidden" in self.teach else 0)

    def as_dict(self) -> dict[str, float | int | str]:
        """The fields by name, for the study and the model card; those after the `_FIRST` only if they say something.

        Studies made before those were there go on.
        """
        values = asdict(self) | self._sparse
        return {name: values[name] for name in values if name in _FIRST or values[name] != getattr(Recipe, name)}


_SPARSE = tuple(f"sparsity{ending}" for ending in ("", "_method", "_scope", "_steps", "_lr", "_penalty"))
_FIRST = (
    *("learning_rate", "batch_size", "epochs", "warmup", "weight_decay"),
    *("max_grad_norm", "max_length", "seed", "precision"),
)


def option_of(field: str) -> str:
    """What the command line calls a field of a Recipe; one without an option keeps its name."""
    return _OPTIONS.get(field, f"--{field.replace('_', '-')}")


def frozen(text: str) -> tuple[bool, frozenset[int]]:
    """Whether the embeddings are frozen, and which layers (0-based), in a text such as `embeddings 0-2 4`.

    Raises WordsError for other words.
    """
    embeddings, layers = False, set[int]()
    for word in text.split():
        found = re.fullmatch(r"(\d{1,4})(?:-(\d{1,4}))?", word)
        if found is None and word != "embeddings":
            raise WordsError(
                f"--freeze {text!r} is not possible: {word!r} is neither `embeddings` nor layers such as 0-2 or 4"
            )
        embeddings |= found is None
        if found is not None:
            first, last = int(found[1]), int(found[2] or found[1])
            if last < first:
                raise WordsError(f"--freeze {text!r}: the range {word} runs backwards; write {last}-{first}")
            layers |= set(range(first, last + 1))
    return embeddings, frozenset(layers)


def compressed_bytes(parameters: int, non_zero: int) -> int:
    """The bytes of a model whose zeros are left out: a bit a parameter says where they are, the rest stays fp32."""
    return BYTES_A_PARAMETER * non_zero + math.ceil(parameters / BITS_A_BYTE)


@dataclass(frozen=True)
class OneShotRecipe:
    """How a super-network is trained and its best sub-networks after it (results/search-cost says why so).

    The super-network sees the data `epochs` times as often as the recipe says, after the unchanged model has. A chosen
    candidate is fine-tuned from the shared weights for `tuning` times the work of fine-tuning the unchanged model once,
    however small it is, so a small one sees the data more often. `taught` is the weight of the full model's answers in
    the loss of a drawn or chosen pattern, the rest is the labels'. Learning rates and all else are the recipe's.
    """

    epochs: float = 1.0
    tuning: float = 0.3
    taught: float = 0.7


@dataclass(frozen=True)
class Halving:
    """Where successive halving looks at candidates, and how few it lets on.

    The first rung is at the share `first` of the recipe's steps, each next one `eta` times as far, the last at the end;
    about one in `eta` goes on from a rung. With `brackets` candidates take turns: those of bracket b begin at rung b
    and are ranked among themselves (Li et al., arXiv 1810.05934). Raises WordsError for a value outside its
    bounds.
    """

    eta: int = 3
    first: float = 1 / 9
    brackets: int = 1

    def __post_init__(self) -> None:
        if self.eta < 2:
            raise WordsError(f"halving: eta = {self.eta}; allowed is 2 or more")
        if not 0 < self.first < 1:
            raise WordsError(f"halving: first = {self.first}; allowed is above 0 and below 1 (a share of the steps)")
        most = len(self.rungs())
        if not 1 <= self.brackets <= most:
            raise WordsError(f"halving: brackets = {self.brackets}; allowed is 1 to {most}, the number of rungs")

    def rungs(self, bracket: int = 0) -> tuple[float, ...]:
        """The rungs of a bracket as shares of the recipe's steps, rising to 1.0, to six decimals."""
        shares = [self.first]
        while shares[-1] * self.eta < 1 - 1e-6:
            shares.append(shares[-1] * self.eta)
        return (*(round(share, 6) for share in shares), 1.0)[bracket:]

    @property
    def work(self) -> float:
        """The share of its full training that a candidate gets on average, one in `eta` going on from each rung."""
        total = 0.0
        for bracket in range(self.brackets):
            rungs = self.rungs(bracket)
            steps = zip((0.0, *rungs), rungs, strict=False)
            total += sum((end - begin) / self.eta**rung for rung, (begin, end) in enumerate(steps))
        return total / self.brackets


# Sajjad et al. state "3 epochs, standard settings" and not which: the tree they forked offers these two
# (hsajjad/transformers @ a832254, examples/README.md and the defaults of examples/run_glue.py).
PRESETS: Mapping[str, Recipe] = {
    "default": Recipe(),
    "glue-readme": Recipe(learning_rate=2e-5, batch_size=32, warmup=0.0, weight_decay=0.0),
    "run-glue-defaults": Recipe(learning_rate=5e-5, batch_size=8, warmup=0.0, weight_decay=0.0),
    "demo": Recipe(learning_rate=1.5e-4, batch_size=16, epochs=1.0),
}


def preset(name: str) -> Recipe:
    """The preset called `name`; raises WordsError that offers the nearest name."""
    if name not in PRESETS:
        raise WordsError(unknown("recipe", name, PRESETS))
    return PRESETS[name]
