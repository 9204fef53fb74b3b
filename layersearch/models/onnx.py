"""ONNX: a candidate as one graph that ONNX Runtime runs, with batch and length left open.

Knows: torch's exporter, ONNX Runtime's sessions on the processor, how one answers in a model's place. Does not know:
checkpoints, folders, or whether the answers are right (that is `onnx_export`). Both libraries come with the extra
`onnx`. `torch.onnx.export` and not `transformers.exporters` (5.23), which traces through it, takes twice as long, warns
of being experimental and gave the same graphs for the families tried.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Container, Iterator, Mapping
from contextlib import contextmanager
from importlib.util import find_spec
from inspect import signature
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedConfig, PreTrainedModel
from transformers.modeling_outputs import QuestionAnsweringModelOutput, SequenceClassifierOutput

from layersearch.errors import ExportError
from layersearch.kinds import KindName
from layersearch.models.places import configs_of

OPSET = 23  # the first with attention as one operator: ONNX Runtime takes down to half of the time (results/latency)
LARGEST = 2_000_000_000  # bytes of weights inside the file; protobuf ends at 2 GiB, and beyond this they lie beside it
INSTALL = "`pip install -c constraints.txt '.[onnx]'` in the checkout of layersearch"
_LIBRARIES = ("onnx", "onnxscript", "onnxruntime")
_TALKERS = ("torch.onnx", "torch.export", "onnxscript", "onnx_ir")  # they log what concerns no user
_SPAN = ("start_logits", "end_logits")


def is_installed() -> bool:
    """Whether the extra `onnx` is there."""
    return all(find_spec(name) for name in _LIBRARIES)


def require_onnx() -> None:
    """Raise ExportError where the extra `onnx` is not installed."""
    missing = [name for name in _LIBRARIES if find_spec(name) is None]
    if missing:
        raise ExportError(f"ONNX needs {', '.join(missing)}, not installed here; install the extra with {INSTALL}")


def write_onnx(model: PreTrainedModel, inputs: Mapping[str, torch.Tensor], file: Path, kind: KindName) -> None:
    """Write `model` as a graph from `inputs` (int64 [batch, tokens] each, or pixels) to logits, without a cache.

    `model` is in evaluation mode, on the CPU; `inputs` hold two examples of two tokens or more, and any other number of
    either runs too; those that the model's `forward` does not name are no inputs of the graph. Weights beyond LARGEST
    lie in a file of their own beside it. Raises ExportError that says what the exporter cannot do.
    """
    require_onnx()
    named = signature(model.forward).parameters
    inputs = {name: tensor for name, tensor in inputs.items() if name in named}
    axes = {name: dict.fromkeys(_open_axes(tensor), torch.export.Dim.DYNAMIC) for name, tensor in inputs.items()}
    heavy = sum(parameter.nbytes for parameter in model.parameters()) > LARGEST
    with _without_cache(model), _quiet(), torch.no_grad():
        try:
            torch.onnx.export(
                model,
                (),
                file,
                kwargs=dict(inputs),
                input_names=list(inputs),
                output_names=_SPAN if kind == "span" else ("logits",),
                dynamic_shapes=axes,
                dynamo=True,
                opset_version=_opset_for(model),
                external_data=heavy,
                verbose=False,
            )
        except (RuntimeError, ValueError, torch.onnx.OnnxExporterError) as error:
            raise ExportError(
                f"torch's ONNX exporter cannot do this {model.config.model_type} model ({_reason(error)}); "
                "choose another form with --form"
            ) from error


def with_token_types(inputs: Mapping[str, torch.Tensor], takes: Container[str]) -> dict[str, torch.Tensor]:
    """The inputs, int64 [batch, tokens] each, and where token types are taken and none are given, all of the first one.

    To most models that is the same as none; GPT-2 adds the embedding of token 0 for it.
    """
    if "token_type_ids" in takes and "token_type_ids" not in inputs:
        return {**inputs, "token_type_ids": torch.zeros_like(inputs["input_ids"])}
    return dict(inputs)


def zeros_in_graph(file: Path) -> int:
    """How many numbers of the tensors that a graph holds are exactly zero."""
    import onnx
    from onnx import numpy_helper

    graph = onnx.load(str(file)).graph
    return sum(int((numpy_helper.to_array(tensor, str(file.parent)) == 0).sum()) for tensor in graph.initializer)


def _opset_for(model: PreTrainedModel) -> int | None:
    """OPSET, or None for the exporter's own, an earlier one, where positions are rotated.

    From 23 on that is one operator too, which ONNX Runtime 1.31 runs at no other batch size than the traced one.
    """
    return None if any("rotary" in name for name, _ in model.named_modules()) else OPSET


def _open_axes(tensor: torch.Tensor) -> tuple[int, ...]:
    """Batch and length; of images the batch alone."""
    return (0, 1) if tensor.ndim == 2 else (0,)


@contextmanager
def _without_cache(model: PreTrainedModel) -> Iterator[None]:
    """A decoder hands out its keys and values only where a configuration of its says so."""
    before = [(config, config.use_cache) for config in configs_of(model).values() if hasattr(config, "use_cache")]
    for config, _ in before:
        config.use_cache = False
    try:
        yield
    finally:
        for config, use_cache in before:
            config.use_cache = use_cache


@contextmanager
def _quiet() -> Iterator[None]:
    levels = {name: logging.getLogger(name).level for name in _TALKERS}
    for name in levels:
        logging.getLogger(name).setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for name, level in levels.items():
            logging.getLogger(name).setLevel(level)


def _reason(error: BaseException) -> str:
    """The first line of what lies at the bottom: the exporter wraps it into advice of many lines."""
    while error.__cause__ is not None:
        error = error.__cause__
    return next((line.strip()[:200] for line in str(error).splitlines() if line.strip()), type(error).__name__)


def open_session(file: Path, threads: int) -> Any:
    """ONNX Runtime's session of `file` on the processor.

    Threads that wait sleep: those that spin, the default, take the processor from what is timed next.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return onnxruntime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])


class OnnxModel:
    """A session in the place of a model: called with a batch's tensors, it answers with the logits of its head."""

    device = torch.device("cpu")

    def __init__(self, file: Path, config: PreTrainedConfig) -> None:
        self.config = config
        self._session = open_session(file, torch.get_num_threads())
        self._takes = {one.name for one in self._session.get_inputs()}
        gives = [one.name for one in self._session.get_outputs()]
        self._gives = [name for name in (*_SPAN, "logits") if name in gives]

    def eval(self) -> OnnxModel:
        """A graph has no other mode."""
        return self

    def can_generate(self) -> bool:
        """A graph keeps no cache."""
        return False

    def __call__(self, **inputs: torch.Tensor) -> SequenceClassifierOutput | QuestionAnsweringModelOutput:
        """The answers [batch, ...] of one batch; what the graph does not take is left out."""
        whole = with_token_types(inputs, self._takes)
        fed = {name: tensor.numpy() for name, tensor in whole.items() if name in self._takes}
        found = [torch.from_numpy(answer) for answer in self._session.run(self._gives, fed)]
        if len(found) > 1:
            return QuestionAnsweringModelOutput(start_logits=found[0], end_logits=found[1])
        return SequenceClassifierOutput(logits=found[0])
