"""What an exported folder has to reproduce, and the proof that it did.

Knows: the facts of both, as plain values. Does not know: how a folder is written or examined.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from layersearch.counts import count
from layersearch.kinds import KindName
from layersearch.models.families import Form
from layersearch.tasks.task import Examples, Task

GRAPH = "model.onnx"


@dataclass(frozen=True)
class Validation:
    """The examples of a task on which the exported folder has to score what the checkpoint scores."""

    task: Task
    examples: Examples


@dataclass(frozen=True)
class Case:
    """What the exported folder has to reproduce: see `layersearch.models.proof`.

    `texts` are real inputs with their `input_ids` and `logits`, `made` others that stand for no data, with theirs.
    `left` says that texts end together, `code` that the folder's own is run, `graph` that ONNX Runtime runs it;
    `others` are more batches of real inputs, each with its `texts`, `max_length`, `input_ids` and `logits`. `measured`
    is the file of the examples whose answers are wanted, none where no score is compared. `zeros` are the weights that
    are exactly zero in the tensors called `matrices`, and how many weights these have, tied copies once; nothing where
    there are none.
    """

    texts: tuple[tuple[str, ...], ...]
    max_length: int
    input_ids: list[list[int]]
    logits: list[Any]
    parameters: int
    tolerance: float
    head: str
    reader: str
    made: Mapping[str, Any]
    kind: KindName = "classification"
    code: bool = False
    left: bool = False
    measured: str | None = None
    graph: bool = False
    others: tuple[Mapping[str, Any], ...] = ()
    matrices: tuple[str, ...] = ()
    zeros: tuple[int, int] = (0, 0)

    @property
    def form(self) -> Form:
        """What the folder needs to be opened."""
        return "onnx" if self.graph else "with code" if self.code else "native"


@dataclass(frozen=True)
class Own:
    """What the weights of an exported folder score on the first `scored` of the `examples` of the validation set."""

    score: float
    scored: int
    examples: int

    @property
    def split(self) -> str:
        """The examples in words."""
        part = "" if self.scored == self.examples else f"first {self.scored:,} of {count(self.examples, 'example')}, "
        return f"validation set, {part}these weights"


@dataclass(frozen=True)
class Proof:
    """That a fresh process opened `folder` and found no missing, unexpected or mismatched key, and equal numbers.

    `inputs` examples were run; their logits differ by `max_difference` at most, where `tolerance` is allowed. `cached`:
    it generates with a cache as without. `metric` is `score` in both processes, on the first `scored` of `examples` of
    the validation set; None where there was none. `seconds` is how long the process took, `head` the class of
    transformers that opened the folder, with its code or without, as `form` says. `zeros` are the weights of the
    layers' matrices that are exactly zero there, and all of them; (0, 0) where the export has none.
    """

    folder: Path
    head: str
    inputs: int
    parameters: int
    max_difference: float
    tolerance: float
    seconds: float
    form: Form = "native"
    cached: bool = False
    metric: str | None = None
    score: float | None = None
    scored: int = 0
    examples: int = 0
    zeros: tuple[int, int] = (0, 0)

    def __str__(self) -> str:
        """What was proven, in one line."""
        words = f"proven in a fresh process in {self.seconds:.1f} s: "
        if self.form == "onnx":
            words += "ONNX Runtime's "
        else:
            words += f"no missing or unexpected key, {self.parameters:,} parameters as counted, "
        words += f"logits of {count(self.inputs, 'example')} equal within "
        words += f"{self.max_difference:.1e} (allowed {self.tolerance:.1e})"
        if self.metric is not None:
            of = "all" if self.scored == self.examples else f"only {self.scored:,} of"
            words += (
                f", {self.metric} {self.score:.4f} before and after, on {of} "
                f"{count(self.examples, 'validation example')}"
            )
        if self.zeros[0]:
            share = self.zeros[0] / self.zeros[1]
            words += f", {share:.2%} of the {count(self.zeros[1], 'weight')} of the layers' matrices exactly zero"
        return words + ", generates with a cache as without" * self.cached

    @property
    def own(self) -> Own | None:
        """What the exported weights score, None where no score was compared."""
        return None if self.score is None else Own(self.score, self.scored, self.examples)

    @property
    def call(self) -> str:
        """What opens the folder in Python."""
        if self.form == "onnx":
            return f'onnxruntime.InferenceSession("{self.folder / GRAPH}")'
        trusted = ", trust_remote_code=True" if self.form == "with code" else ""
        return f'{self.head}.from_pretrained("{self.folder}"{trusted})'
