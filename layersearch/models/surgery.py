"""Surgery: a pattern and a base model become a candidate with its own weights.

Knows: how to copy what a pattern keeps, put a stand-in where a half is dropped, and keep the configuration and layer
numbers right, all by the row of the families table. Does not know: training, tasks, files, or any family by name.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from typing import Any, cast

import torch
import transformers
from huggingface_hub.errors import StrictDataclassError
from torch import nn
from transformers import AutoConfig, PreTrainedConfig, PreTrainedModel
from transformers.initialization import no_init_weights

from layersearch.counts import count
from layersearch.errors import ModelError
from layersearch.kinds import KINDS, KindName
from layersearch.mixing import USUAL, Mixing
from layersearch.models.families import FAMILIES, Family, Half, Stack, check_layers
from layersearch.models.parts import Dropped, give_lead, keep_parts, lead_of
from layersearch.models.places import Stacks, configs_of, looks_of, owner_of, renumber, settings_of
from layersearch.models.readout import Start, give_readout, reopen_readout, share_mix
from layersearch.models.tying import tie_copies
from layersearch.pattern import Block, Pattern


def build(base: PreTrainedModel, pattern: Pattern, mixing: Mixing = USUAL, start: Start = "even") -> PreTrainedModel:
    """The candidate of `pattern`: a new model of the base model's class, with its own weights, on the same device.

    Only what is kept is copied; no tensor of the base model is written to or shared, so it may live on read-only
    memory. Tied copies share their weights. The candidate's configuration holds its number of blocks. A dropped half is
    the identity on its input: its layer norm goes with it, whether it stands before or after. A layer that is applied
    again and again is applied as often as the pattern has blocks. Layers are mixed as `mixing` says, where the pattern
    does, and their scalars `start` so. Raises PatternError, ModelError.
    """
    stacks, source = stacks_of(base), layers_of(base)
    parts = split(pattern, base, stacks)
    configs = _new_configs(base, stacks, parts)
    empty = {id(layers): nn.ModuleList().train(layers.training) for layers, _ in stacks}
    candidate = copy.deepcopy(base, configs | empty)
    for (layers, row), blocks in zip(stacks, parts, strict=True):
        if row.shared is not None:
            continue
        own = empty[id(layers)]
        own.extend(_copy_block(source[block.layer], block, row, configs) for block in blocks)
        for index, layer in enumerate(own):
            renumber(layer, "layer_idx", index)  # attention modules know their place, for the cache
        renumber(owner_of(candidate, row), row.depth_key, len(own))
        give_lead(own, lead_in(row), copy.deepcopy(lead_of(layers, lead_in(row))))
    tie_copies([layer for layers in empty.values() for layer in layers], pattern)
    first = sum(len(layers) for layers, _ in stacks[:-1])
    give_readout(candidate, stacks[-1][1], first, parts[-1], pattern, mixing, start)
    if base.config.model_type not in FAMILIES:
        _require_plain(candidate, pattern)
    return candidate


def hold_mix(model: PreTrainedModel, patterns: Iterable[Pattern], mixing: Mixing) -> None:
    """Let an unchanged `model`, to become a super-network of `patterns`, hold a mix for those that mix; in place.

    Raises ModelError for a model whose layers cannot be mixed.
    """
    if any(pattern.mixes for pattern in patterns):
        layers, row = stacks_of(model)[-1]
        share_mix(model, row, len(layers), mixing)


def split(pattern: Pattern, model: PreTrainedModel, stacks: Stacks) -> tuple[tuple[Block, ...], ...]:
    """The blocks of each stack. Raises PatternError for those that the model cannot have."""
    check_layers(pattern, model.config.model_type)
    return pattern.split([len(layers) for layers, _ in stacks])


def stacks_of(model: PreTrainedModel) -> Stacks:
    """The model's lists of layers: those of its family's that a model of its class has.

    A layer that is applied again and again is listed as often. Raises ModelError where the table does not describe
    them, or where it has no row and the model not exactly one list that must be it.
    """
    family = family_in(model)
    for key in family.refused:
        if getattr(model.config, key):
            raise ModelError(
                f"config.json says {key} = true, so a {family.model_type} layer is another one in another place; "
                "choose a model without it"
            )
    paths = {name for name, _ in model.base_model.named_modules()}
    found = []
    for row in rows_in(model, family) or family.stacks[:1]:
        layers = model.base_model.get_submodule(row.path) if row.path in paths else None
        key = row.shared or row.depth_key
        depth = getattr(model.config, key)
        if not isinstance(layers, nn.ModuleList) or len(layers) != depth or depth == 0:
            raise ModelError(
                f"{type(model).__name__} does not keep {key} = {count(depth, 'layer')} in `{row.path}`, as the row "
                f"{family.model_type!r} of the families table says; check the model's config.json"
            )
        for layer in layers if row.attention else ():
            _check_halves(layer, row, family.model_type)
        found.append((_applied(model, layers, row), row))
    return tuple(found)


def rows_in(model: PreTrainedModel, family: Family) -> tuple[Stack, ...]:
    """The rows of the family's stacks that `model` has."""
    paths = {name for name, _ in model.base_model.named_modules()}
    return tuple(row for row in family.stacks if row.path in paths)


def _applied(model: PreTrainedModel, layers: nn.ModuleList, row: Stack) -> nn.ModuleList:
    """The layers as they run: a shared one many times."""
    if row.shared is None:
        return layers
    if len(layers) > 1:
        raise ModelError(
            f"config.json says {row.shared} = {len(layers)}; only {model.config.model_type} models whose layers are "
            "all one can be taken apart: choose one with 1"
        )
    return nn.ModuleList([layers[0]] * getattr(model.config, row.depth_key))


def family_in(model: PreTrainedModel) -> Family:
    """The row of the model's family, or one that is found: the only list of as many modules as the model has layers.

    Raises ModelError where there is neither.
    """
    model_type = model.config.model_type
    if model_type in FAMILIES:
        return FAMILIES[model_type]
    depth = getattr(model.config, "num_hidden_layers", None)
    paths = [
        path
        for path, module in model.base_model.named_modules()
        if isinstance(module, nn.ModuleList) and len(module) == depth
    ]
    if len(paths) == 1:
        return Family(model_type, paths[0], model.config.attribute_map.get("num_hidden_layers", "num_hidden_layers"))
    raise ModelError(
        f"the model family {model_type!r} has no row in the families table, and {len(paths)} lists of its modules have "
        f"num_hidden_layers = {depth} entries where one must{': ' * bool(paths)}{', '.join(paths)}; choose a model of "
        f"the families {', '.join(FAMILIES)}, or add a row to layersearch/models/families.py"
    )


def layers_of(model: PreTrainedModel) -> tuple[nn.Module, ...]:
    """The model's layers as a pattern numbers them, those of an encoder before those of a decoder."""
    return tuple(layer for layers, _ in stacks_of(model) for layer in layers)


def rows_of(model: PreTrainedModel) -> tuple[Stack, ...]:
    """The row of the stack that each of `layers_of` is in."""
    return tuple(row for layers, row in stacks_of(model) for _ in layers)


def half_of(parameter: str, row: Stack) -> str | None:
    """Which half, `attention` or `ffn`, a parameter named relative to its layer belongs to; None for neither.

    In a layer without halves everything belongs to `ffn`.
    """
    if not row.attention:
        return "ffn"
    if row.lead is not None and parameter.startswith(f"{row.lead.part}.{row.lead.name}."):
        return None
    for half, parts in (("attention", row.attention), ("ffn", row.ffn)):
        if any(parameter.startswith(f"{path}.") for path, _ in parts):
            return half
    return None


def drop_halves(candidate: PreTrainedModel, pattern: Pattern) -> None:
    """Make a model with one whole layer a block what `build` makes of `pattern`, in place, its weights apart.

    Where the pattern drops a half, stand-ins go; what only the first or only later layers have goes where it was. Where
    layers are mixed, its configuration says how.
    """
    blocks, stacks = iter(pattern.blocks), stacks_of(candidate)
    for layers, row in stacks:
        own = list(islice(blocks, len(layers)))
        keep_parts(layers, as_stack(row), [block.halves for block in own], [block.layer for block in own])
    reopen_readout(candidate, stacks[-1][1], pattern)


def as_stack(row: Stack) -> dict[str, Any]:
    """What `keep_parts` has to know of a row of the families table, as plain values."""
    found = {"path": row.path, "attention": dict(row.attention), "ffn": dict(row.ffn)}
    more = {"lead": lead_in(row), "first_lacks": row.first_lacks}
    return found | {key: value for key, value in more.items() if value is not None}


def lead_in(row: Stack) -> tuple[str, str, str] | None:
    """Where the layers of a stack hold what one holds for all."""
    return None if row.lead is None else (row.lead.part, row.lead.name, row.lead.flag)


def auto_class(kind: KindName) -> Any:
    """The `AutoModel...` class that has the head of `kind`."""
    return getattr(transformers, KINDS[kind].head)


def skeleton(model_class: Any, config: PreTrainedConfig) -> PreTrainedModel:
    """A model in evaluation mode whose parameters take no memory (meta device) and whose buffers are right.

    `model_class` has `from_config`: an `AutoModel...` class. Only parameters go to the meta device, because buffers
    that are not saved, such as position numbers, have no other source than the constructor. Attention is SDPA where the
    family has it; fp32. Raises ModelError where transformers has no such class for the family.
    """
    if type(config) not in model_class._model_mapping:
        raise ModelError(
            f"transformers has no {model_class.__name__} for the model family {config.model_type!r}; choose another"
        )
    with _parameters_on_meta(), no_init_weights():
        model = model_class.from_config(copy.deepcopy(config), dtype=torch.float32)
    model.tie_weights()
    return cast(PreTrainedModel, model.eval())


@contextmanager
def _parameters_on_meta() -> Iterator[None]:
    def to_meta(_module: nn.Module, _name: str, parameter: nn.Parameter | None) -> nn.Parameter | None:
        if parameter is None or parameter.is_meta:
            return parameter
        return nn.Parameter(parameter.to("meta"), requires_grad=parameter.requires_grad)

    # torch documents that the hook may return a replacement and annotates that it returns None.
    handle = nn.modules.module.register_module_parameter_registration_hook(to_meta)  # type: ignore[arg-type]
    try:
        yield
    finally:
        handle.remove()


def dropped_parts(block: Block, row: Stack) -> Half:
    """The sub-modules of a layer that go with the half that `block` drops, each with its stand-in."""
    if block.halves == "both":
        return ()
    return row.ffn if block.halves == "attention" else row.attention


def _new_configs(base: PreTrainedModel, stacks: Stacks, parts: Sequence[Sequence[Block]]) -> dict[int, Any]:
    """Copies of the configurations for the candidate, by the id of the old ones, as copy.deepcopy wants them."""
    new = {key: copy.deepcopy(config) for key, config in configs_of(base).items()}
    for key, name, value in settings_of(base, stacks, parts):
        setattr(new[key], name, value)
    return new


def _copy_block(layer: nn.Module, block: Block, row: Stack, memo: dict[int, Any]) -> nn.Module:
    """A deep copy of the kept parts: what is in `memo` (by id, as copy.deepcopy does it) is replaced, not copied."""
    parts = ((layer.get_submodule(path), answer) for path, answer in dropped_parts(block, row))
    return copy.deepcopy(layer, memo | {id(part): Dropped(answer, part) for part, answer in parts})


def _require_plain(candidate: PreTrainedModel, pattern: Pattern) -> None:
    """Refuse a candidate that is not what transformers builds from its configuration; of a family without a row."""
    try:
        with _parameters_on_meta():
            plain = layers_of(type(candidate)(AutoConfig.for_model(**candidate.config.to_dict())))
    except (IndexError, KeyError, ValueError, StrictDataclassError) as error:
        raise _no_place(candidate, pattern, "a list in its config.json") from error
    for layer, expected in zip(layers_of(candidate), plain, strict=True):
        here, there = (dict(one.named_modules()) for one in (layer, expected))
        for path in here | there:
            if looks_of(here.get(path)) != looks_of(there.get(path)):
                raise _no_place(candidate, pattern, f"`{path}` of a layer")


def _no_place(model: PreTrainedModel, pattern: Pattern, what: str) -> ModelError:
    return ModelError(
        f"the model family {model.config.model_type!r} has no row in the families table, and its layers differ by "
        f"place ({what}), so pattern `{pattern}` cannot be built: choose another pattern, or a model of the families "
        f"{', '.join(FAMILIES)}"
    )


def _check_halves(layer: nn.Module, row: Stack, model_type: str) -> None:
    for name, _ in layer.named_parameters():
        lead = row.lead is not None and name.startswith(f"{row.lead.part}.{row.lead.name}.")
        if half_of(name, row) is None and not lead:
            raise ModelError(
                f"layers of this {model_type} model hold `{name}`, which is in neither half of the families table; "
                "decoders with cross-attention are not supported: choose an encoder"
            )
