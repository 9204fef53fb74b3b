"""Opening a base model strictly and quietly, drawing its head anew, and sharing it without a copy."""

import json
import os
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoConfig, AutoModel, PreTrainedModel

from layersearch.errors import ModelError
from layersearch.models.base import BaseModel, SharedWeights, from_arrays, load_base, load_config, reset_head
from layersearch.models.costs import count_all
from layersearch.models.surgery import build
from layersearch.pattern import Pattern

from .conftest import LAYERS, SOME, from_config, randomised, tiny_config

Batch = dict[str, torch.Tensor]


def open_tiny(folder: Path, num_labels: int = 2) -> BaseModel:
    return load_base(folder, num_labels=num_labels, kind="classification")


@pytest.fixture(params=SOME)
def headless(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A folder with the weights of a tiny model without a head, of each family."""
    randomised(from_config(AutoModel, tiny_config(request.param))).save_pretrained(tmp_path / "base")
    return tmp_path / "base"


@pytest.fixture
def bert(tmp_path: Path) -> Path:
    randomised(from_config(AutoModel, tiny_config("bert"))).save_pretrained(tmp_path / "base")
    return tmp_path / "base"


def rewrite_config(folder: Path, **values: Any) -> None:
    file = folder / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | values))


def rewrite_weights(folder: Path, change: Callable[[dict[str, torch.Tensor]], None]) -> None:
    tensors = {name: tensor.clone() for name, tensor in load_file(folder / "model.safetensors").items()}
    change(tensors)
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})


def test_it_opens_with_a_fresh_head_quietly(headless: Path, capfd: pytest.CaptureFixture[str]) -> None:
    torch.manual_seed(5)
    state = torch.get_rng_state()
    base = open_tiny(headless)
    assert capfd.readouterr() == ("", "")
    assert torch.equal(torch.get_rng_state(), state)
    assert base.num_layers == LAYERS
    assert not base.model.training
    assert base.model.config._attn_implementation == "sdpa"
    assert {parameter.dtype for parameter in base.model.parameters()} == {torch.float32}
    saved = {name for name in load_file(headless / "model.safetensors") if not name.startswith("pooler")}
    body = {name.removeprefix(f"{base.model.base_model_prefix}.") for name in base.model.state_dict()}
    assert saved <= body
    assert base.fresh
    assert all("classifier" in name or "pooler" in name for name in base.fresh)


def test_minilm_lacks_only_its_classifier(minilm: Path) -> None:
    base = open_tiny(minilm)
    assert base.fresh == ("classifier.weight", "classifier.bias")
    assert (base.num_layers, sum(p.numel() for p in base.model.parameters())) == (6, 22_713_986)


def test_labels_and_kind_set_the_head(bert: Path, batch: Batch) -> None:
    regression = load_base(bert, num_labels=1, kind="regression").model
    assert regression(**batch).logits.shape == (3, 1)
    assert regression.config.problem_type == "regression"
    assert open_tiny(bert, num_labels=5).model(**batch).logits.shape == (3, 5)
    assert load_config(bert, num_labels=5, kind="classification").num_labels == 5


def test_a_head_of_another_size_is_drawn_anew_and_one_of_this_size_is_kept(
    tiny: PreTrainedModel, tmp_path: Path
) -> None:
    tiny.save_pretrained(tmp_path / "base")
    assert open_tiny(tmp_path / "base", num_labels=3).fresh == ()
    fresh = open_tiny(tmp_path / "base", num_labels=2).fresh
    assert fresh
    assert all("classifier" in name for name in fresh)


def test_a_head_is_the_same_for_a_seed_and_nothing_else_changes(headless: Path) -> None:
    base = open_tiny(headless)
    candidate = build(base.model, Pattern.parse("0 1a 3"))
    heads = []
    for moment, seed in enumerate((1, 2, 1)):
        torch.manual_seed(moment)  # what the process drew before must not matter
        before = {name: tensor.clone() for name, tensor in candidate.state_dict().items()}
        reset_head(candidate, base, seed)
        after = candidate.state_dict()
        assert all(torch.equal(before[name], after[name]) for name in after if name not in base.fresh)
        heads.append(torch.cat([after[name].flatten().clone() for name in base.fresh]))
    assert torch.equal(heads[0], heads[2])
    assert not torch.equal(heads[0], heads[1])
    other = build(base.model, Pattern.full(LAYERS))
    reset_head(other, base, 1)
    assert torch.equal(torch.cat([other.state_dict()[name].flatten() for name in base.fresh]), heads[0])


def test_only_the_fresh_parameters_of_a_module_are_drawn(bert: Path) -> None:
    base = open_tiny(bert)
    candidate = build(base.model, Pattern.full(LAYERS))
    with torch.no_grad():
        candidate.get_parameter("classifier.bias").fill_(7.0)
    reset_head(candidate, BaseModel(base.model, ("classifier.weight",)), 1)
    assert candidate.get_parameter("classifier.bias").tolist() == [7.0, 7.0]


@torch.no_grad()
def test_arrays_give_the_same_model_without_a_copy(headless: Path, batch: Batch) -> None:
    base = open_tiny(headless)
    shared = base.arrays()
    for array in shared.arrays.values():
        array.flags.writeable = False
    again = from_arrays(shared)
    assert again.fresh == base.fresh
    assert torch.equal(again.model(**batch).logits, base.model(**batch).logits)
    tensors = again.model.state_dict()
    assert set(tensors) == set(shared.arrays)
    assert all(np.shares_memory(tensors[name].numpy(), array) for name, array in shared.arrays.items())
    buffers = dict(base.model.named_buffers())
    assert all(torch.equal(buffer, buffers[name]) for name, buffer in again.model.named_buffers())


def test_candidates_of_read_only_memory_train(headless: Path, batch: Batch) -> None:
    shared = open_tiny(headless).arrays()
    pickled: list[pickle.PickleBuffer] = []
    head = pickle.dumps(shared, protocol=5, buffer_callback=pickled.append)
    assert len(head) < 20_000
    received: SharedWeights = pickle.loads(head, buffers=[bytes(buffer.raw()) for buffer in pickled])
    assert not any(array.flags.writeable for array in received.arrays.values())
    base = from_arrays(received)
    candidate = build(base.model, Pattern.parse("0 1a 2f 3 3")).train()
    reset_head(candidate, base, 0)
    optimizer = torch.optim.AdamW(candidate.parameters(), lr=0.1)
    candidate(**batch, labels=torch.tensor([0, 1, 1])).loss.backward()
    optimizer.step()
    assert all(np.array_equal(received.arrays[name], array) for name, array in shared.arrays.items())


def drop(prefix: str) -> Callable[[dict[str, torch.Tensor]], None]:
    def change(tensors: dict[str, torch.Tensor]) -> None:
        for name in [name for name in tensors if name.startswith(prefix)]:
            del tensors[name]

    return change


def narrow(name: str) -> Callable[[dict[str, torch.Tensor]], None]:
    def change(tensors: dict[str, torch.Tensor]) -> None:
        tensors[name] = tensors[name][:-1].clone()

    return change


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            drop("encoder.layer.3."),
            r"the weights lack bert\.encoder\.layer\.3\.attention\.\S+ and 15 more; get the folder",
        ),
        (drop("embeddings.word"), r"the weights lack bert\.embeddings\.word_embeddings\.weight and 0 more"),
        (
            narrow("encoder.layer.1.output.dense.bias"),
            r"the weights have another shape for bert\.encoder\.layer\.1\.output\.dense\.bias",
        ),
        (
            narrow("embeddings.word_embeddings.weight"),
            r"the weights have another shape for bert\.embeddings\.word_embeddings\.weight",
        ),
    ],
)
def test_weights_that_do_not_fit_are_refused(
    bert: Path, change: Callable[[dict[str, torch.Tensor]], None], message: str
) -> None:
    rewrite_weights(bert, change)
    with pytest.raises(ModelError, match=rf"^config\.json and weights in \S+ do not belong together: {message}"):
        open_tiny(bert)


@pytest.mark.parametrize(("layers", "what"), [(3, "are too many with"), (5, "lack")])
def test_a_depth_that_is_not_the_weights_is_refused(bert: Path, layers: int, what: str) -> None:
    rewrite_config(bert, num_hidden_layers=layers)
    with pytest.raises(
        ModelError, match=rf"do not belong together: the weights {what} \S*encoder\.layer\.{min(layers, 4)}"
    ):
        open_tiny(bert)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"num_hidden_layers": "six"}, "cannot be opened: .*[^.]; get the folder again, or choose another model$"),
        ({"num_hidden_layers": 0}, "do not belong together: the weights are too many with"),
        (
            {"hidden_size": 15},
            r"do not belong together: the weights have another shape for bert\.embeddings\.LayerNorm\.bias",
        ),
        ({"model_type": "nonsense"}, "cannot be opened: .*nonsense"),
        ({"model_type": "mbart"}, "cannot be opened: |the model family 'mbart' has no row in the families table, and "),
        ({"model_type": "new", "auto_map": {"AutoConfig": "new.Config"}}, "cannot be opened: .*custom code"),
    ],
)
def test_a_broken_config_is_one_clear_line(bert: Path, values: dict[str, Any], message: str) -> None:
    rewrite_config(bert, **values)
    with pytest.raises(ModelError, match=message) as caught:
        open_tiny(bert)
    assert "\n" not in str(caught.value)


def test_a_folder_without_the_files_is_one_clear_line(bert: Path) -> None:
    weights = bert / "model.safetensors"
    os.truncate(weights, weights.stat().st_size - 100)
    with pytest.raises(
        ModelError, match=r"cannot be opened: .*incomplete metadata.*; get the folder again, or choose another model$"
    ):
        open_tiny(bert)
    weights.rename(bert / "pytorch_model.bin")
    with pytest.raises(
        ModelError, match="has no weights as safetensors, the only format opened here; convert them first"
    ):
        open_tiny(bert)
    (bert / "config.json").write_text("{")
    with pytest.raises(ModelError, match=r"has no weights|cannot be opened: .*not a valid JSON"):
        load_config(bert, num_labels=2, kind="classification")
    (bert / "config.json").unlink()
    with pytest.raises(
        ModelError, match=r"is no model folder: it has no config\.json; give a folder made by save_pret"
    ):
        open_tiny(bert)


def test_code_in_the_folder_is_never_run(bert: Path) -> None:
    (bert / "evil.py").write_text(f"open({str(bert / 'ran')!r}, 'w')\nfrom transformers import BertConfig as Config\n")
    rewrite_config(bert, model_type="evil", auto_map={"AutoConfig": "evil.Config"})
    with pytest.raises(ModelError):
        open_tiny(bert)
    assert not (bert / "ran").exists()
    assert AutoConfig.for_model("bert").model_type == "bert"


@pytest.mark.parametrize(
    ("model_type", "said"),
    [("funnel", "the model family 'funnel' has no row"), ("fnet", "this fnet model names no num_attention_heads")],
)
def test_a_configuration_that_lacks_usual_names_is_one_line(model_type: str, said: str, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"model_type": model_type}))
    with pytest.raises(ModelError, match=said):
        count_all(load_config(tmp_path, num_labels=2, kind="classification"), 16)
