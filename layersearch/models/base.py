"""The base model: opened from a folder once, then shared.

Knows: how to open pre-trained weights strictly and quietly, which parameters they lack (the task's head), and how to
take the model to pieces that other processes share without a copy. Does not know: the hub, patterns, data, training.
"""

from __future__ import annotations

import copy
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
import transformers
from huggingface_hub.errors import StrictDataclassError
from numpy.typing import NDArray
from safetensors import SafetensorError
from torch import nn
from transformers import AutoConfig, AutoModelForMaskedLM, PreTrainedConfig, PreTrainedModel
from transformers.utils import logging as transformers_logging

from layersearch.errors import ModelError
from layersearch.kinds import KINDS, KindName
from layersearch.models.surgery import auto_class, family_in, layers_of, skeleton
from layersearch.models.weights import set_weights, weights_of

BROKEN = (OSError, ValueError, RuntimeError, SafetensorError, StrictDataclassError)
"""What transformers raises for files that it cannot read."""


@dataclass(frozen=True, eq=False)
class SharedWeights:
    """A base model in pieces that pickle without a copy: its configuration, fresh names, and all tensors as arrays."""

    config: PreTrainedConfig
    fresh: tuple[str, ...]
    arrays: Mapping[str, NDArray[np.generic]]
    kind: KindName = "classification"


@dataclass(frozen=True, eq=False)
class BaseModel:
    """The pre-trained model with the task's head, fp32, in evaluation mode; never trained itself.

    `fresh` names the parameters that the folder does not hold, so that they start from random numbers: the head, which
    is that of `kind`.
    """

    model: PreTrainedModel
    fresh: tuple[str, ...]
    kind: KindName = "classification"

    @property
    def num_layers(self) -> int:
        """Layers, of all stacks together."""
        return len(layers_of(self.model))

    def arrays(self) -> SharedWeights:
        """The model in pieces, as views of its own memory; `from_arrays` puts them together again."""
        tensors = {name: tensor.numpy() for name, tensor in weights_of(self.model).items()}
        return SharedWeights(copy.deepcopy(self.model.config), self.fresh, tensors, self.kind)


def load_config(folder: Path, *, num_labels: int, kind: KindName) -> PreTrainedConfig:
    """The configuration in `folder` with a head of `num_labels` outputs. Raises ModelError like `load_base`.

    A language model has the head that it comes with.
    """
    head = {"num_labels": num_labels, "problem_type": KINDS[kind].problem} if KINDS[kind].labelled else {}
    config = read_config(folder, **head)
    _require_head(config, kind)
    if kind == "causal-lm" and _reads_both_ways(config):
        raise _no_decoder(config, folder)
    return config


def read_config(folder: Path, **settings: Any) -> PreTrainedConfig:
    """The configuration in `folder`, but for `settings`. Raises ModelError where there is none that can be read."""
    _require_folder(folder)
    try:
        with quiet():
            config = AutoConfig.from_pretrained(folder, trust_remote_code=False, local_files_only=True, **settings)
    except BROKEN as error:
        raise not_opened(folder, error) from error
    return cast(PreTrainedConfig, config)


def _require_head(config: PreTrainedConfig, kind: KindName) -> None:
    if type(config) not in auto_class(kind)._model_mapping:
        raise ModelError(
            f"a {config.model_type} model has no head for {kind} tasks ({KINDS[kind].head}); "
            "choose another model or another task"
        )
    if KINDS[kind].labelled and getattr(config, "pad_token_id", 0) is None:
        ends = getattr(config, "eos_token_id", None)  # a decoder finds a padded text's end by it; Llama has several
        config.pad_token_id = ends[0] if isinstance(ends, list) else ends


def load_reader(folder: Path, kind: KindName) -> Any:
    """What makes the inputs of the model in `folder`: its tokenizer, or its image processor; no code from the folder.

    Raises ModelError with transformers' own first line.
    """
    try:
        with quiet():
            reader = getattr(transformers, KINDS[kind].reader)
            return reader.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    except (*BROKEN, ImportError, KeyError, TypeError, AttributeError) as error:  # of a tokenizer.json of another form
        what, file = {
            "AutoTokenizer": ("tokenizer", "tokenizer.json"),
            "AutoImageProcessor": ("image processor", "preprocessor_config.json"),
        }[KINDS[kind].reader]
        raise ModelError(
            f"the {what} in {folder} cannot be opened: {first_line(error)}; give a folder with a {file}"
        ) from error


def load_base(folder: Path, *, num_labels: int, kind: KindName) -> BaseModel:
    """Open the model in `folder` with a head of `num_labels` outputs; safetensors only, no code from the folder.

    The head starts from seed 0 and the random state of the process is left alone. Raises ModelError if the folder holds
    no such model, its layers cannot be told, or weights of the embeddings or layers are missing or left over.
    """
    config = load_config(folder, num_labels=num_labels, kind=kind)
    require_weights(folder)
    try:
        with quiet(), torch.random.fork_rng(devices=[]):
            model, info = auto_class(kind).from_pretrained(
                folder,
                config=config,
                dtype=torch.float32,
                use_safetensors=True,
                trust_remote_code=False,
                local_files_only=True,
                ignore_mismatched_sizes=True,  # a head of another task; anything else is refused below
                output_loading_info=True,
            )
    except BROKEN as error:
        raise not_opened(folder, error) from error
    base = BaseModel(model, _fresh(folder, model, info), kind)
    if not KINDS[kind].labelled:
        _require_causal(folder, model)
        if base.fresh:
            raise ModelError(
                f"the weights in {folder} lack {base.fresh[0]}, without which a language model tells nothing; get a "
                "folder with the whole language model"
            )
    reset_head(model, base, seed=0)
    return base


def from_arrays(shared: SharedWeights) -> BaseModel:
    """Put a base model together over the memory of `shared`, without a copy, even if it is read-only."""
    model = skeleton(auto_class(shared.kind), shared.config)
    with warnings.catch_warnings():
        # Read-only memory is what Ray's object store hands out, and nothing here or in surgery writes to a base model.
        warnings.filterwarnings("ignore", message="The given NumPy array is not writable")
        tensors = {name: torch.from_numpy(array) for name, array in shared.arrays.items()}
    set_weights(model, tensors)
    return BaseModel(model, shared.fresh, shared.kind)


def reset_head(model: PreTrainedModel, base: BaseModel, seed: int) -> None:
    """Draw the fresh parameters of a candidate (or the base model) anew, in place; equal for a seed on any device."""
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.default_generator.manual_seed(seed)
        for path in dict.fromkeys(name.rpartition(".")[0] for name in base.fresh):
            drawn = copy.deepcopy(model.get_submodule(path)).cpu()
            model._init_weights(drawn)  # type: ignore[no-untyped-call]
            for name, parameter in drawn.named_parameters(prefix=path, recurse=False):
                if name in base.fresh:
                    model.get_parameter(name).copy_(parameter)


def start_output_at(model: PreTrainedModel, base: BaseModel, value: float) -> None:
    """Let a fresh head with one output answer `value` to begin with, in place; a head from the folder is left alone.

    A regression that starts at the labels' mean need not spend its first steps on getting there: on STS-B five layers
    of MiniLM reach 0.80 (Spearman) after half an epoch instead of 0.65 (one seed, same split; results/minilm-stsb).
    """
    for path in dict.fromkeys(name.rpartition(".")[0] for name in base.fresh):
        layer = model.get_submodule(path)
        if isinstance(layer, nn.Linear) and layer.out_features == 1 and layer.bias is not None:
            nn.init.constant_(layer.bias, value)


def _fresh(folder: Path, model: PreTrainedModel, info: Mapping[str, Any]) -> tuple[str, ...]:
    """The parameters to draw anew, in the model's order; refuses a folder whose own layers or embeddings do not fit."""
    missing, misshapen = set(info["missing_keys"]), {name for name, *_ in info["mismatched_keys"]}
    stacks = [f".{row.path}." for row in family_in(model).stacks]
    problems = {
        "lack": {name for name in missing if _is_of_the_body(name, model)},
        "have another shape for": {name for name in misshapen if _is_of_the_body(name, model)},
        "are too many with": {n for n in info["unexpected_keys"] if any(path in f".{n}" for path in stacks)},
    }
    for what, names in problems.items():
        if names:
            raise ModelError(
                f"config.json and weights in {folder} do not belong together: the weights {what} {min(names)} "
                f"and {len(names) - 1} more; get the folder again"
            )
    layers_of(model)
    return tuple(name for name, _ in model.named_parameters() if name in missing | misshapen)


@torch.no_grad()
def _require_causal(folder: Path, model: PreTrainedModel) -> None:
    """Refuse a model whose tokens see those behind them: it would know what it is asked to foretell."""
    ids = torch.tensor([[1, 2, 3], [1, 2, 4]])
    first, second = model(input_ids=ids).logits[:, :2]
    if not torch.allclose(first, second, atol=1e-4):
        raise _no_decoder(model.config, folder)


def _reads_both_ways(config: PreTrainedConfig) -> bool:
    """Whether a configuration alone tells an encoder: one for masked words that it does not say to be a decoder.

    `_require_causal` finds the others.
    """
    masked = type(config) in AutoModelForMaskedLM._model_mapping
    return masked and not config.is_encoder_decoder and not getattr(config, "is_decoder", False)


def _no_decoder(config: PreTrainedConfig, folder: Path) -> ModelError:
    return ModelError(
        f"the {config.model_type} in {folder} reads both ways and is no decoder, so its perplexity would say nothing; "
        "choose a decoder, such as gpt2"
    )


def _is_of_the_body(name: str, model: PreTrainedModel) -> bool:
    """Whether a parameter has to come with the folder; a pooler is often not there, and belongs to the head then."""
    return name.startswith(f"{model.base_model_prefix}.") and ".pooler." not in name


def _require_folder(folder: Path) -> None:
    if not (folder / "config.json").is_file():
        raise ModelError(f"{folder} is no model folder: it has no config.json; give a folder made by save_pretrained")


def require_weights(folder: Path) -> None:
    """Raise ModelError for a folder without safetensors."""
    if not any(folder.glob("*.safetensors")):
        raise ModelError(f"{folder} has no weights as safetensors, the only format opened here; convert them first")


def not_opened(folder: Path, error: Exception) -> ModelError:
    """What to raise for a model whose files transformers cannot read."""
    what = first_line(error).rstrip(".")
    return ModelError(f"the model in {folder} cannot be opened: {what}; get the folder again, or choose another model")


def first_line(error: Exception) -> str:
    """What an error says first."""
    return next(iter(str(error).strip().splitlines()), type(error).__name__)


@contextmanager
def quiet() -> Iterator[None]:
    """No load report and no progress bars: what is missing is checked here, and the console is the program's own."""
    logging: Any = transformers_logging
    level, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()
