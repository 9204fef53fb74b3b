"""Checkpoints: every pattern comes back, damage is named, and a crash or a full disk leaves nothing half done."""

import errno
import json
import os
import shutil
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
from safetensors import SafetensorError
from transformers import PreTrainedModel

from layersearch.durable import sha256_of
from layersearch.errors import LayersearchError, ModelError
from layersearch.models import checkpoint
from layersearch.models.surgery import build
from layersearch.pattern import Pattern

from .conftest import LAYERS

Batch = dict[str, torch.Tensor]

MB = 1_000_000


class Usage(NamedTuple):
    total: int
    used: int
    free: int


def saved(model: PreTrainedModel, folder: Path, text: str = "0 1a 3", **extras: Any) -> PreTrainedModel:
    candidate = build(model, Pattern.parse(text))
    checkpoint.save(candidate, Pattern.parse(text), folder, source_layers=LAYERS, extras=extras)
    return candidate


@pytest.fixture
def bert(make_tiny: Callable[[str], PreTrainedModel]) -> PreTrainedModel:
    return make_tiny("bert")


@pytest.mark.parametrize("text", ["0-3", "0-1 3", "3 0", "0 1a 2f 3", "0-1 1 2a", "0-1 1t 2a 3 3t 3t"])
@torch.no_grad()
def test_any_pattern_comes_back(tiny: PreTrainedModel, batch: Batch, tmp_path: Path, text: str) -> None:
    candidate = saved(tiny, tmp_path / "it", text, score=0.9, metrics={"f1": 0.8})
    again, manifest = checkpoint.load(tmp_path / "it")
    assert torch.equal(again(**batch).logits, candidate(**batch).logits)
    assert str(manifest.pattern) == text
    assert manifest.source_layers == LAYERS
    assert manifest.parameters == sum(p.numel() for p in again.parameters())
    assert manifest.extras == {"score": 0.9, "metrics": {"f1": 0.8}}
    assert again.config.num_hidden_layers == manifest.pattern.depth
    assert str(again.config) == str(candidate.config)
    assert checkpoint.is_complete(tmp_path / "it")
    assert sorted(file.name for file in (tmp_path / "it").iterdir()) == ["manifest.json", "model.safetensors"]


def test_what_comes_back_trains(bert: PreTrainedModel, batch: Batch, tmp_path: Path) -> None:
    saved(bert, tmp_path / "it")
    digest = sha256_of(tmp_path / "it" / "model.safetensors")
    again, _ = checkpoint.load(tmp_path / "it")
    again.train()(**batch, labels=torch.tensor([0, 1, 2])).loss.backward()
    torch.optim.SGD(again.parameters(), lr=0.1).step()
    assert sha256_of(tmp_path / "it" / "model.safetensors") == digest


def test_a_second_save_replaces_the_first(bert: PreTrainedModel, tmp_path: Path) -> None:
    saved(bert, tmp_path / "it", "0-3")
    saved(bert, tmp_path / "it", "0 3", seed=2)
    assert checkpoint.load(tmp_path / "it")[1].extras == {"seed": 2}
    assert os.listdir(tmp_path) == ["it"]


@pytest.mark.parametrize("umask", [0o022, 0o027, 0o077])
def test_every_file_is_as_open_as_the_umask_lets_it(bert: PreTrainedModel, tmp_path: Path, umask: int) -> None:
    before = os.umask(umask)
    try:
        saved(bert, tmp_path / "it")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "it").stat().st_mode) == 0o777 & ~umask
    for file in (tmp_path / "it").iterdir():
        assert stat.S_IMODE(file.stat().st_mode) == 0o666 & ~umask, file


def test_the_manifest_names_no_folder_of_this_machine(bert: PreTrainedModel, tmp_path: Path) -> None:
    bert.config._name_or_path = str(tmp_path / "secret")
    saved(bert, tmp_path / "it")
    assert "secret" not in (tmp_path / "it" / "manifest.json").read_text()


def flip_a_bit(folder: Path) -> None:
    data = bytearray((folder / "model.safetensors").read_bytes())
    data[-5] ^= 1
    (folder / "model.safetensors").write_bytes(data)


def cut(folder: Path) -> None:
    os.truncate(folder / "model.safetensors", (folder / "model.safetensors").stat().st_size // 2)


def manifest_with(**values: Any) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        file = folder / "manifest.json"
        file.write_text(json.dumps(json.loads(file.read_text()) | values))

    return change


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (
            flip_a_bit,
            r"model\.safetensors is damaged: its sha256 is \w{12}, the manifest says \w{12}; train the pattern",
        ),
        (cut, r"model\.safetensors is damaged: its sha256 is \w{12}, the manifest says"),
        (lambda f: (f / "model.safetensors").unlink(), r"model\.safetensors is damaged: its sha256 is no file"),
        (
            lambda f: (f / "manifest.json").unlink(),
            r"is no whole checkpoint: it has no manifest\.json; train the pattern",
        ),
        (lambda f: (f / "manifest.json").write_text('{"form'), r"manifest\.json is damaged \("),
        (lambda f: (f / "manifest.json").write_text("[]"), r"manifest\.json is damaged \("),
        (lambda f: (f / "manifest.json").write_bytes(b"\xff"), r"manifest\.json is damaged \("),
        (manifest_with(format=99), "has another format than 1; use the version that wrote it"),
        (manifest_with(pattern="0-x"), r"manifest\.json is damaged \(cannot read '0-x'"),
        (manifest_with(other=1), r"manifest\.json is damaged \("),
        (
            manifest_with(pattern="0-2"),
            r"weights and manifest in .* do not belong together: .*Missing key.*; train the pattern again$",
        ),
        (
            manifest_with(pattern="0-1"),
            "weights and manifest in .* do not belong together: .*; train the pattern again$",
        ),
    ],
)
def test_damage_is_named(bert: PreTrainedModel, tmp_path: Path, damage: Callable[[Path], None], message: str) -> None:
    saved(bert, tmp_path / "it")
    damage(tmp_path / "it")
    with pytest.raises(ModelError, match=message) as caught:
        checkpoint.load(tmp_path / "it")
    assert "\n" not in str(caught.value)


def test_another_head_is_named(bert: PreTrainedModel, tmp_path: Path) -> None:
    saved(bert, tmp_path / "it")
    manifest_with(kind="token-classification")(tmp_path / "it")
    with pytest.raises(ModelError, match=r"do not belong together: .*Unexpected key.*; train the pattern again$"):
        checkpoint.load(tmp_path / "it")


def test_complete_means_both_files_whole(bert: PreTrainedModel, tmp_path: Path) -> None:
    assert not checkpoint.is_complete(tmp_path / "it")
    saved(bert, tmp_path / "it")
    shutil.copytree(tmp_path / "it", tmp_path / "other")
    cut(tmp_path / "it")
    (tmp_path / "other" / "manifest.json").unlink()
    assert not checkpoint.is_complete(tmp_path / "it")
    assert not checkpoint.is_complete(tmp_path / "other")
    assert not checkpoint.is_complete(tmp_path / "it" / "model.safetensors")


def test_a_failed_save_leaves_the_old_one_and_nothing_else(
    bert: PreTrainedModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    saved(bert, tmp_path / "it", "0-3", seed=1)
    with pytest.raises(TypeError, match="not JSON serializable"):
        saved(bert, tmp_path / "it", "0-3", seed=object())
    assert checkpoint.load(tmp_path / "it")[1].extras == {"seed": 1}
    full = [OSError(errno.ENOSPC, "No space left on device"), SafetensorError("I/O error: No space (os error 28)")]
    for error in full:
        monkeypatch.setattr(checkpoint, "save_file", lambda *_, error=error: (_ for _ in ()).throw(error))
        with pytest.raises(
            LayersearchError, match=r"no room on the disk for .*it: 8 MB needed, \d+ MB free; free some"
        ):
            saved(bert, tmp_path / "it", "0-3", seed=2)
    assert checkpoint.load(tmp_path / "it")[1].extras == {"seed": 1}
    assert os.listdir(tmp_path) == ["it"]


def test_a_full_disk_is_noticed_before_writing(
    bert: PreTrainedModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: Usage(100 * MB, 95 * MB, 5 * MB))
    with pytest.raises(LayersearchError) as caught:
        saved(bert, tmp_path / "it")
    assert str(caught.value) == (
        f"no room on the disk for {tmp_path / 'it'}: 8 MB needed, 5 MB free; free some space or choose another folder"
    )
    assert not any(tmp_path.iterdir())


SAVE_FOR_EVER = """
import itertools, sys
from pathlib import Path
import torch
from transformers import AutoConfig, AutoModelForSequenceClassification
from layersearch.models import checkpoint
from layersearch.pattern import Pattern
config = AutoConfig.for_model("bert", vocab_size=60, hidden_size=16, num_hidden_layers=2, num_attention_heads=2)
model = AutoModelForSequenceClassification.from_config(config)
for number in itertools.count():
    name = Path(sys.argv[1]) / str(number % 3)
    checkpoint.save(model, Pattern.full(2), name, source_layers=2, extras={"number": number})
"""


def test_kill_9_leaves_whole_checkpoints_only(tmp_path: Path) -> None:
    """Stopping a process shows what killing it at that moment leaves on the disk, and lets it go on to the next one."""
    process = subprocess.Popen([sys.executable, "-c", SAVE_FOR_EVER, str(tmp_path)], stderr=subprocess.DEVNULL)
    try:
        until = time.monotonic() + 60
        while not (tmp_path / "0").exists() and time.monotonic() < until:
            time.sleep(0.001)
        for moment in range(30):
            time.sleep(0.001 * moment)
            process.send_signal(signal.SIGSTOP if moment < 29 else signal.SIGKILL)
            os.waitid(os.P_PID, process.pid, os.WSTOPPED | os.WEXITED | os.WNOWAIT)
            for folder in tmp_path.glob("[0-9]"):
                assert checkpoint.is_complete(folder)
                checkpoint.load(folder)
            process.send_signal(signal.SIGCONT)
    finally:
        process.kill()
        process.wait()
    assert len(list(tmp_path.glob("[0-9]"))) >= 2
