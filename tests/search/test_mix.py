"""A search of patterns with two read-outs: by every method and order, refused where it cannot be, and exported."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from layersearch.analysis.effects import Part, effects_of
from layersearch.errors import LayersearchError, WordsError
from layersearch.pattern import Pattern
from layersearch.search.orders import removals, trials_in
from layersearch.search.preparing import prepare
from layersearch.search.question import What
from layersearch.search.starts import scaled
from layersearch.search.surrogate import coded, fitted
from layersearch.search_space import SearchSpace
from layersearch.space_files import load
from layersearch.training.recipe import Recipe
from tests.conftest import call
from tests.models.tiny import TINY

SPACE = SearchSpace(choices=("keep", "drop"), readout=("last", "mix"))
SHORT = ("--epochs", "1", "--lr", "1e-2", "--batch-size", "8", "--max-length", "24", "--precision", "fp32")


@pytest.mark.parametrize("method", ["fine-tune", "halving", "distill", "tune-drop-tune", "one-shot"])
def test_every_method_searches_mixes(method: str, tiny_model: Path, tiny_data: Path, tmp_path: Path) -> None:
    what = ("--model", tiny_model, "--task", "sst2", "--data", tiny_data, "--space", "mix", "--method", method, *SHORT)
    place = ("--storage", tmp_path / "s.db")
    how = (*place, "--files", tmp_path / "files", "--workers", 0, "--device", "cpu", "--study", "it")
    words = (*what, *how, "--mix", "embeddings no-gamma", "--holdout", "0.3")
    trials = {"one-shot": 12, "halving": 12}.get(method, 6)
    said = call("run", *words, "--confirm", 0, "--trials", trials, "--keep-checkpoints", "all")
    assert said.code == 0, said.err
    rows = json.loads(call("front", "it", *place, "--all", "--json").out)
    mixed = [row for row in rows if row["pattern"].endswith(" mix")]
    assert mixed
    number = mixed[0]["trial"]
    shown = call("show", "it", *place, "--trial", number)
    assert "embeddings: 0." in shown.out
    assert "with code" in shown.out
    assert json.loads(call("show", "it", *place, "--trial", number, "--json").out)["mix"].startswith("embeddings: ")
    other = call("run", *what, *how, "--holdout", "0.3", "--mix", "embeddings", "--trials", 9)
    assert other.code == 1
    assert "--mix is 'no-gamma embeddings' there and 'embeddings' here" in other.err


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_mix_is_exported_by_the_command_and_proven_in_a_fresh_process(
    tiny_model: Path, tiny_data: Path, tmp_path: Path
) -> None:
    (tmp_path / "whole.toml").write_text('choices = ["keep"]\nreadout = ["last", "mix"]\n')
    place = ("--storage", tmp_path / "s.db")
    what = ("--model", tiny_model, "--task", "sst2", "--data", tiny_data, "--space", tmp_path / "whole.toml", *SHORT)
    how = (*place, "--files", tmp_path / "files", "--workers", 0, "--device", "cpu", "--study", "it")
    said = call("run", *what, *how, "--method", "distill", "--mix", "norm", "--confirm", 0, "--keep-checkpoints", "all")
    assert said.code == 0, said.err
    done = call("export", "it", *place, "--trial", 1, "--to", tmp_path / "out")
    assert done.code == 0, done.err
    assert (
        "| read-out | a scalar mix of the layers (norm) in place of the last one"
        in (tmp_path / "out/README.md").read_text()
    )
    assert call("verify", tmp_path / "out").code == 0


@pytest.fixture
def asked(tiny_model: Path, tiny_data: Path) -> What:
    return What(str(tiny_model), "sst2", tiny_data, space="mix", recipe=Recipe(max_length=24), method="fine-tune")


def test_counts_are_those_of_the_mix_that_is_asked_for(asked: What) -> None:
    for words, once in (("", 1), ("no-gamma", 0), ("embeddings", 2)):
        prepared = prepare(replace(asked, recipe=asked.recipe.with_(mix=words)))
        whole, mixed = (Pattern.parse(text) for text in ("0-3", "0-3 mix"))
        for name in ("parameters", "non-embedding"):
            assert prepared.costs.of(name, mixed) - prepared.costs.of(name, whole) == 4 + once
        assert prepared.costs.of("macs", mixed) == prepared.costs.of("macs", whole)


def test_what_cannot_be_mixed_is_refused_before_anything_is_trained(asked: What, tmp_path: Path) -> None:
    with pytest.raises(LayersearchError) as caught:
        prepare(replace(asked, space="layers", recipe=asked.recipe.with_(mix="norm")))
    assert str(caught.value) == (
        "--mix 'norm' says how layers are mixed, and the search space 'layers' mixes none: search `mix`, give a space "
        'of your own `readout = ["last", "mix"]`, or leave --mix out'
    )
    with pytest.raises(
        LayersearchError, match=r"^--mix-lr 0.01 says how layers are mixed, and .* or leave --mix-lr out$"
    ):
        prepare(replace(asked, space="layers", recipe=asked.recipe.with_(mix_lr=0.01)))
    TINY["roberta"].model().save_pretrained(tmp_path / "it")
    shutil.copy(Path(asked.model) / "tokenizer.json", tmp_path / "it")
    roberta = replace(asked, model=str(tmp_path / "it"))
    assert prepare(roberta).space.mixes
    with pytest.raises(WordsError, match=r"--mix 'after-pooler': the head of this roberta model \(RobertaFor"):
        prepare(replace(roberta, recipe=asked.recipe.with_(mix="after-pooler")))


def test_a_plan_lists_both_read_outs(tiny_model: Path, tiny_data: Path) -> None:
    words = ("--model", tiny_model, "--task", "sst2", "--data", tiny_data, "--space", "mix", "--max-length", 24)
    said = call("plan", *words, "--limit", 0)
    assert said.code == 0, said.err
    assert any(line.split()[:3] == ["████Σ", "0-3", "mix"] for line in said.out.splitlines())
    assert "Σ the head reads a mix of the layers; 30 of 30 patterns listed" in said.out
    refused = call("plan", *words, "--mix", "gama")
    assert (refused.code, refused.out) == (2, "")
    assert "--mix 'gama': unknown word 'gama' (did you mean 'no-gamma'?); allowed: no-softmax, no-gamma" in refused.err


def test_greedy_tries_each_removal_with_both_read_outs() -> None:
    step = removals(Pattern.full(3), SPACE, 3)
    assert [str(p) for p in step] == ["1-2", "1-2 mix", "0 2", "0 2 mix", "0-1", "0-1 mix"]
    assert {str(p) for p in removals(Pattern.parse("0 2 mix"), SPACE, 3)} == {"0", "0 mix", "2", "2 mix"}
    assert trials_in("greedy", SPACE, 3) == 1 + 6 + 4
    table = SPACE.within([Pattern.full(3), Pattern.parse("0-1"), Pattern.parse("0 2 mix")], 3)
    assert {str(p) for p in removals(Pattern.full(3), table, 3)} == {"0-1"}


def test_the_surrogate_tells_read_outs_apart_by_as_much_as_a_half() -> None:
    patterns = [Pattern.parse(text) for text in ("0-3", "0-3 mix", "0-2 3a", "0-1")]
    known = coded(patterns, 4)
    assert known.mixes.tolist() == [0, 1, 0, 0]
    process = fitted(known, np.array([0.1, 0.3, 0.2, 0.4]))
    mean, deviation = process.predict(known)
    assert mean == pytest.approx([0.1, 0.3, 0.2, 0.4], abs=0.03)
    unlike = fitted(known.take([0]), np.array([0.1])).predict(known)[1]
    assert (unlike == 0).all() or unlike[1] > unlike[0]
    assert (known + known).mixes.tolist() == [0, 1, 0, 0] * 2
    assert len(deviation) == 4


def test_what_a_mix_does_is_not_taken_for_an_effect_of_layers() -> None:
    """Mixing costs 0.2 here, and patterns that drop layer 3 mix more often."""
    rng = np.random.default_rng(0)
    patterns = list(SPACE.patterns(6))
    kept = [p for p in patterns if p.mixes == (3 not in {b.layer for b in p.blocks}) or rng.random() < 0.3]
    losses = [sum(0.05 for layer in range(6) if layer not in {b.layer for b in p.blocks}) for p in kept]
    scores = [1 - loss - 0.2 * p.mixes + rng.normal(scale=0.005) for loss, p in zip(losses, kept, strict=True)]
    effects = effects_of(kept, scores, 6)
    costs, _ = effects.of([Part(layer) for layer in range(6)])
    assert costs == pytest.approx([-0.05] * 6, abs=0.02)
    told, _ = effects.predict([Pattern.parse("0-5"), Pattern.parse("0-5 mix")])
    assert told[0] - told[1] == pytest.approx(0.2, abs=0.02)
    alike = effects_of(
        [p for p in kept if not p.mixes], [s for s, p in zip(scores, kept, strict=True) if not p.mixes], 6
    )
    assert alike.mixing is None


def test_a_front_of_mixes_reads_at_another_depth() -> None:
    assert str(scaled(Pattern.parse("0-3 mix"), 6, 12)) == "0-7 mix"
    assert str(scaled(Pattern.parse("0-7 mix"), 12, 6)) == "0-3 mix"
    assert scaled(Pattern.parse("0 mix"), 4, 4).mixes


def test_the_shipped_space_is_the_one_of_layers_with_both_read_outs() -> None:
    space, layers = load("mix"), load("layers")
    assert [p for p in space.patterns(6) if not p.mixes] == list(layers.patterns(6))
    assert [p.blocks for p in space.patterns(6) if p.mixes] == [p.blocks for p in layers.patterns(6)]
    assert space.start == layers.start
