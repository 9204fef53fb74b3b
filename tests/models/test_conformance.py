"""What every family has to keep, row by row of the table: a new row is tested by an entry in `tiny.py`.

Identity, kept weights, exact counts, halves, own weights of duplicates, both ways to the disk and back, super-networks.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from transformers import AutoModel, AutoModelForSequenceClassification, PreTrainedModel

from layersearch.errors import ModelError, PatternError, WordsError
from layersearch.models import checkpoint, places
from layersearch.models.base import from_arrays, load_base, quiet
from layersearch.models.costs import count_parts
from layersearch.models.export import check_exportable
from layersearch.models.families import FAMILIES, form_of
from layersearch.models.places import configs_of
from layersearch.models.supernet import SuperNetwork
from layersearch.models.surgery import build, half_of, layers_of, rows_of, stacks_of
from layersearch.pattern import Pattern
from layersearch.tasks.task import Encoded
from layersearch.training.batches import collate
from layersearch.training.influence import hidden_states
from layersearch.training.steps import pad_of

from .conftest import LAYERS
from .tiny import TINY as ENCODERS
from .tiny import Batch, Call, Tiny
from .tiny_decoders import DECODERS

TINY = {**ENCODERS, **DECODERS}

every_family = pytest.mark.parametrize("name", TINY)
families_with_halves = pytest.mark.parametrize("name", [name for name, tiny in TINY.items() if tiny.halves])
CLASSIFIERS = [name for name, tiny in TINY.items() if tiny.heads[0] is AutoModelForSequenceClassification]
classifiers = pytest.mark.parametrize("name", CLASSIFIERS)
readers = pytest.mark.parametrize("name", [n for n in CLASSIFIERS if "decoder_input_ids" not in TINY[n].inputs()])
every_head = pytest.mark.parametrize(
    ("name", "head"), [(name, head) for name, tiny in TINY.items() for head in tiny.heads]
)


def patterns_of(tiny: Tiny) -> list[Pattern]:
    return [Pattern.parse(text) for text in (*tiny.whole, *tiny.halved * tiny.halves)]


@dataclass
class Seen:
    """One forward pass as the layers saw it: what came in first, every call in order, what went out last."""

    first: torch.Tensor | None = None
    calls: list[Call] = field(default_factory=list)
    last: torch.Tensor | None = None


@contextmanager
def watching(model: PreTrainedModel) -> Iterator[Seen]:
    """Fills in what the layers of `model` see."""
    seen = Seen()

    def before(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        seen.first = args[0] if seen.first is None else seen.first
        seen.calls.append(Call(args[1:], kwargs))

    def after(_: nn.Module, __: object, answer: Any) -> None:
        seen.last = answer[0] if isinstance(answer, tuple) else answer

    hooks = []
    for layer in dict.fromkeys(layers_of(model)):
        hooks += [layer.register_forward_pre_hook(before, with_kwargs=True), layer.register_forward_hook(after)]
    try:
        yield seen
    finally:
        for hook in hooks:
            hook.remove()


def ran(model: PreTrainedModel, inputs: Batch) -> Seen:
    with watching(model) as seen:
        model(**inputs)
    return seen


def answer(model: PreTrainedModel, inputs: Batch) -> torch.Tensor:
    """Logits, or the last hidden states of a model without a head."""
    out = model(**inputs)
    found: torch.Tensor = out.logits if "logits" in out else out.last_hidden_state
    return found


def by_hand(tiny: Tiny, base: PreTrainedModel, pattern: Pattern, inputs: Batch) -> torch.Tensor:
    """Run the base model's own layers in the order of the pattern, skipping the halves that it drops."""
    assert tiny.attention is not None
    assert tiny.ffn is not None
    layers, seen = layers_of(base), ran(base, inputs)
    assert seen.first is not None
    hidden = seen.first
    for block in pattern.blocks:
        call = seen.calls[block.layer]
        hidden = tiny.attention(layers[block.layer], hidden, call) if block.halves != "ffn" else hidden
        hidden = tiny.ffn(layers[block.layer], hidden, call) if block.halves != "attention" else hidden
    return hidden


def memory_of(module: nn.Module) -> set[int]:
    return {tensor.untyped_storage().data_ptr() for tensor in module.parameters()}


def test_every_row_of_the_table_is_tested() -> None:
    assert {tiny.model_type for tiny in TINY.values()} >= set(FAMILIES)


@every_head
@torch.no_grad()
def test_the_unchanged_pattern_changes_nothing(name: str, head: Any) -> None:
    base, inputs = TINY[name].model(head), TINY[name].inputs()
    candidate = build(base, Pattern.full(LAYERS))
    assert type(candidate) is type(base)
    assert torch.equal(answer(candidate, inputs), answer(base, inputs))
    assert (str(candidate), str(candidate.config)) == (str(base), str(base.config))


def outside(model: PreTrainedModel) -> dict[str, torch.Tensor]:
    """What the model holds beside its layers."""
    paths = [f".{row.path}." for row in rows_of(model)]
    state: dict[str, torch.Tensor] = model.state_dict()
    return {key: tensor for key, tensor in state.items() if not any(path in f".{key}" for path in paths)}


@every_family
def test_kept_weights_are_equal_and_counted(name: str) -> None:
    base = TINY[name].model()
    before, counts = copy.deepcopy(base.state_dict()), count_parts(base)
    if TINY[name].heads[0] is AutoModelForSequenceClassification:
        assert count_parts(base.config) == counts
    assert counts.total == sum(parameter.numel() for parameter in base.parameters())
    for pattern in patterns_of(TINY[name]):
        candidate = build(base, pattern)
        assert outside(candidate).keys() == outside(base).keys()
        assert all(torch.equal(tensor, before[key]) for key, tensor in outside(candidate).items())
        for layer, row, block in zip(layers_of(candidate), rows_of(candidate), pattern.blocks, strict=True):
            source = layers_of(base)[block.layer].state_dict()
            for key, tensor in layer.state_dict().items():
                assert half_of(key, row) is None or torch.equal(tensor, source[key]), key
        assert sum(parameter.numel() for parameter in candidate.parameters()) == pattern.parameters(counts)
        assert not memory_of(candidate) & memory_of(base)
        parts = [memory_of(layer) for layer in layers_of(candidate)]
        own = 1 if TINY[name].shared else pattern.depth
        assert sum(map(len, parts)) * own == len(set().union(*parts)) * pattern.depth, "copies have their own weights"
    assert all(torch.equal(tensor, before[key]) for key, tensor in base.state_dict().items())


@every_family
def test_depth_and_layer_numbers_are_right(name: str) -> None:
    base = TINY[name].model()
    for pattern in patterns_of(TINY[name]):
        candidate = build(base, pattern)
        parts = pattern.split([len(layers) for layers, _ in stacks_of(base)])
        for (layers, row), blocks in zip(stacks_of(candidate), parts, strict=True):
            assert getattr(candidate.config, row.depth_key) == len(blocks)
            for index, layer in enumerate(layers):
                assert {m.layer_idx for m in layer.modules() if hasattr(m, "layer_idx")} <= {index}
        assert sum(getattr(base.config, row.depth_key) for _, row in stacks_of(base)) == LAYERS
        assert len(configs_of(candidate)) == len(configs_of(base))
        assert not configs_of(candidate).keys() & configs_of(base).keys()


@every_family
@torch.no_grad()
def test_a_candidate_is_what_its_layers_do_by_hand(name: str) -> None:
    tiny = TINY[name]
    if tiny.attention is None:
        pytest.skip("its halves are not written by hand")
    base, inputs = tiny.model(), tiny.inputs()
    for pattern in patterns_of(tiny):
        found = ran(build(base, pattern), inputs).last
        torch.testing.assert_close(found, by_hand(tiny, base, pattern, inputs), rtol=1e-5, atol=1e-6)


@families_with_halves
@pytest.mark.parametrize(("number", "text"), [(1, "0 1a 1 1f 2-3"), (3, "0-2 3a 3 3f")])
@torch.no_grad()
def test_a_dropped_half_is_the_identity(name: str, number: int, text: str) -> None:
    """The layer is its attention half and then its FFN half, bit by bit, and each half holds its own parameters."""
    tiny = TINY[name]
    base, inputs = tiny.model(), tiny.inputs()
    row, whole = rows_of(base)[number], layers_of(base)[number]
    attention, ffn = layers_of(build(base, Pattern.parse(text)))[number : number + 3 : 2]
    seen = ran(base, inputs)
    assert seen.first is not None

    def run(layer: nn.Module, hidden: torch.Tensor) -> torch.Tensor:
        out = layer(hidden, *seen.calls[number].args, **seen.calls[number].kwargs)
        return out[0] if isinstance(out, tuple) else out  # type: ignore[no-any-return]

    assert torch.equal(run(ffn, run(attention, seen.first)), run(whole, seen.first))
    assert {half_of(key, row) for key, _ in attention.named_parameters()} == {"attention"}
    assert {half_of(key, row) for key, _ in ffn.named_parameters()} == {"ffn"}
    sizes = [{key: value.shape for key, value in layer.named_parameters()} for layer in (attention, ffn, whole)]
    assert sizes[0] | sizes[1] == sizes[2]


@every_family
def test_every_kept_parameter_learns(name: str) -> None:
    tiny = TINY[name]
    candidate = build(tiny.model(), Pattern.parse("0 1a 2f 3 3" if tiny.halves else "0-3 3"))
    answer(candidate.train(), tiny.inputs()).square().sum().backward()  # type: ignore[no-untyped-call]
    still = {key for key, parameter in candidate.named_parameters() if parameter.grad is None}
    assert still <= {"transformer.mask_emb"}  # XLNet's, for pre-training


@every_head
@torch.no_grad()
def test_plain_transformers_reloads_whole_layers(name: str, head: Any, tmp_path: Path) -> None:
    base, inputs = TINY[name].model(head), TINY[name].inputs()
    for text in ("0 3", "0-1 1 2-3"):
        candidate = build(base, Pattern.parse(text))
        assert form_of(Pattern.parse(text), base.config.model_type) == "native"
        candidate.save_pretrained(tmp_path / text)
        again, info = head.from_pretrained(tmp_path / text, output_loading_info=True)
        assert not any(info.values()), info
        assert torch.equal(answer(again, inputs), answer(candidate, inputs))


@every_head
@torch.no_grad()
def test_a_checkpoint_comes_back(name: str, head: Any, tmp_path: Path) -> None:
    tiny = TINY[name]
    base, inputs = tiny.model(head), tiny.inputs()
    for pattern in map(Pattern.parse, (tiny.whole[-1], "0 1a 2f 2f 3")[: 1 + tiny.halves]):
        candidate = build(base, pattern)
        checkpoint.save(candidate, pattern, tmp_path / str(pattern), source_layers=LAYERS, extras={})
        again, manifest = checkpoint.load(tmp_path / str(pattern), head)
        assert torch.equal(answer(again, inputs), answer(candidate, inputs))
        assert str(again.config) == str(candidate.config)
        assert manifest.parameters == pattern.parameters(count_parts(base))


@every_family
@torch.no_grad()
def test_a_super_network_agrees_with_built_candidates(name: str) -> None:
    tiny = TINY[name]
    base, inputs = tiny.model(), tiny.inputs()
    net, patterns = SuperNetwork(base), patterns_of(tiny)
    found = {pattern: output.logits for pattern, output in net.outputs(patterns, inputs)}
    assert list(found) != []
    assert set(found) == set(patterns)
    for pattern in patterns:
        expected = build(base, pattern)(**inputs).logits
        with net.running(pattern) as model:
            torch.testing.assert_close(model(**inputs).logits, expected)
        torch.testing.assert_close(found[pattern], expected)
    assert torch.equal(base(**inputs).logits, build(base, Pattern.full(LAYERS))(**inputs).logits)


@classifiers
def test_a_folder_opens_as_a_base_model_and_is_shared_without_a_copy(name: str, tmp_path: Path) -> None:
    tiny = TINY[name]
    headless = tiny.model(AutoModel)
    headless.save_pretrained(tmp_path)
    base = load_base(tmp_path, num_labels=2, kind="classification")
    assert base.num_layers == LAYERS
    body = {f"{base.model.base_model_prefix}.{key}" for key in headless.state_dict()}
    assert base.fresh
    assert not body & {key for key in base.fresh if ".pooler." not in key}
    again = from_arrays(base.arrays())
    with torch.no_grad():
        assert torch.equal(again.model(**tiny.inputs()).logits, base.model(**tiny.inputs()).logits)


@readers
@torch.no_grad()
def test_padding_changes_no_answer(name: str) -> None:
    model = TINY[name].model()
    lengths = np.array([7, 3, 5])
    encoded = Encoded(
        input_ids=np.random.default_rng(0).integers(3, 60, lengths.sum()).astype(np.int32),
        token_type_ids=None,
        offsets=np.concatenate([[0], lengths.cumsum()]),
        labels=np.zeros(3, dtype=np.int64),
    )
    together = model(**collate(encoded, np.arange(3), model.device, *pad_of(model))).logits
    for place in range(3):
        alone = model(**collate(encoded, np.array([place]), model.device, *pad_of(model))).logits
        torch.testing.assert_close(together[place], alone[0], rtol=1e-4, atol=1e-5)


@every_family
@torch.no_grad()
def test_states_between_the_halves_are_those_by_hand(name: str) -> None:
    tiny = TINY[name]
    base, inputs = tiny.model(), tiny.inputs()
    with hidden_states(base) as found:
        model_answer = answer(base, inputs)
    assert [len(states) for states in found] == [2 * len(layers) + 1 for layers, _ in stacks_of(base)]
    if tiny.attention is None or tiny.ffn is None or len(found) > 1:
        return
    seen, hidden = ran(base, inputs), found[0][0]
    for number, (layer, call) in enumerate(zip(layers_of(base), seen.calls, strict=True)):
        between = tiny.attention(layer, hidden, call)
        hidden = tiny.ffn(layer, between, call)
        halves = (between, hidden) if tiny.halves else (hidden, hidden)
        for state, expected in zip(found[0][2 * number + 1 :], halves, strict=False):
            torch.testing.assert_close(state.reshape(expected.shape), expected, rtol=1e-5, atol=1e-6)
    assert torch.equal(answer(base, inputs), model_answer)


@families_with_halves
@torch.no_grad()
def test_halves_keep_in_bfloat16(name: str) -> None:
    tiny = TINY[name]
    if tiny.attention is None:
        pytest.skip("its halves are not written by hand")
    base, inputs, pattern = tiny.model(), tiny.inputs(), Pattern.parse(tiny.halved[0])
    with torch.autocast("cpu", torch.bfloat16):
        found = ran(build(base, pattern), inputs).last
        torch.testing.assert_close(found, by_hand(tiny, base, pattern, inputs), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("albert", "the layers of albert models are one layer, applied again and again, so only whole ones can be "),
        ("ernie, which has no row", "the layers of ernie models have no row in the families table, so only whole ones"),
    ],
)
def test_halves_are_refused_where_there_are_none(name: str, why: str) -> None:
    base = TINY[name].model()
    with pytest.raises(PatternError) as caught:
        build(base, Pattern.parse("0 1a"))
    assert str(caught.value).startswith(f"pattern `0 1a` has half layers; {why}")
    with pytest.raises(PatternError, match="has half layers"), SuperNetwork(base).running(Pattern.parse("0 1a")):
        pass


def test_an_albert_of_several_groups_is_refused() -> None:
    model = replace(TINY["albert"], keys={"embedding_size": 8, "num_hidden_groups": 2}).model()
    with pytest.raises(ModelError, match="says num_hidden_groups = 2; only albert models whose layers are all one can"):
        layers_of(model)


def test_layers_that_differ_by_place_are_refused_without_a_row() -> None:
    """Every other layer of this model is a mixture of experts, whichever it was."""
    keys = {"decoder_sparse_step": 2, "num_experts": 2, "moe_intermediate_size": 8, "num_key_value_heads": 2}
    base = Tiny("qwen2_moe", keys | {"shared_expert_intermediate_size": 8}, halves=False).model()
    assert build(base, Pattern.parse("0-1")).config.num_hidden_layers == 2
    with pytest.raises(ModelError) as caught:
        build(base, Pattern.parse("0 2-3"))
    assert str(caught.value).startswith(
        "the model family 'qwen2_moe' has no row in the families table, and its layers differ by place (`mlp` of a "
        "layer), so pattern `0 2-3` cannot be built: choose another pattern, or a model of the families bert, "
    )


def test_a_list_with_an_entry_a_layer_that_nobody_knows_is_refused_without_a_row(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    base = Tiny("smollm3", {"num_key_value_heads": 2, "no_rope_layer_interval": 2}, halves=False).model()
    assert base.config.no_rope_layers == [1, 0, 1, 0]
    assert build(base, Pattern.parse("0 0 1 3")).config.no_rope_layers == [1, 1, 0, 0]
    monkeypatch.setattr(places, "PER_LAYER", ())
    with pytest.raises(ModelError, match=r"layers differ by place .*, so pattern `0 0 1 3` cannot be built: choose"):
        build(base, Pattern.parse("0 0 1 3"))
    with pytest.raises(ModelError, match=r"layers differ by place \(a list in its config.json\), so pattern `0-3 3`"):
        build(base, Pattern.parse("0-3 3"))


@pytest.mark.parametrize("text", ["1-3", "3 0", "0 0 2"])
def test_a_modernbert_that_does_not_begin_with_its_layer_0_is_not_native(text: str, tmp_path: Path) -> None:
    candidate = build(TINY["modernbert"].model(), Pattern.parse(text))
    candidate.save_pretrained(tmp_path)
    with quiet():
        _, info = AutoModelForSequenceClassification.from_pretrained(tmp_path, output_loading_info=True)
    assert info["missing_keys"] or info["unexpected_keys"]
    with pytest.raises(WordsError) as caught:
        check_exportable(Pattern.parse(text), "modernbert", "native")
    assert str(caught.value).startswith(
        f"the pattern `{text}` does not begin with layer 0, or has it again, and plain transformers code has no such "
    )
    assert check_exportable(Pattern.parse(text), "modernbert") == "with code"


def test_lists_of_the_configuration_follow_the_layers() -> None:
    base = TINY["modernbert"].model()
    assert base.config.layer_types == ["full_attention", "sliding_attention"] * 2
    candidate = build(base, Pattern.parse("0 3 3 2"))
    kinds = ["full_attention", "sliding_attention", "sliding_attention", "full_attention"]
    assert candidate.config.layer_types == kinds == [layer.attention_type for layer in layers_of(candidate)]
    assert base.config.layer_types == ["full_attention", "sliding_attention"] * 2
