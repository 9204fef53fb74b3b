"""Candidates that mix their layers, trained: from scratch, over a fine-tuned model, on the way, in a super-network."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from layersearch.errors import LayersearchError
from layersearch.mixing import Mixing
from layersearch.models import checkpoint
from layersearch.models.costs import count_parts
from layersearch.models.mix import ScalarMix
from layersearch.models.readout import LAST, SharedMix, mix_of
from layersearch.pattern import Pattern
from layersearch.training.evaluator import Evaluator
from layersearch.training.gradual import _seen_from
from layersearch.training.job import Job, Outcome
from layersearch.training.told import told_in

HOW = "no-gamma embeddings"


@pytest.fixture
def work(evaluator: Evaluator) -> Evaluator:
    return replace(evaluator, recipe=evaluator.recipe.with_(mix=HOW, epochs=1.0))


def shares(folder: Path) -> list[float]:
    mix = mix_of(checkpoint.load(folder)[0])
    assert isinstance(mix, ScalarMix)
    found: list[float] = mix.shares().tolist()
    return found


def test_a_mix_is_trained_counted_told_and_kept(work: Evaluator, tmp_path: Path) -> None:
    pattern = Pattern.parse("0 2a 3 mix")
    outcome = work(Job(0, str(pattern), 0, checkpoint=str(tmp_path / "kept")))
    assert outcome.reason is None, outcome.trace
    assert outcome.parameters == pattern.parameters(count_parts(work.base.model, mixing=Mixing.parse(HOW)))
    found = shares(tmp_path / "kept")
    assert found != pytest.approx([1 / 4] * 4, abs=1e-4), "it began even and has learnt"
    names = ("embeddings", "0", "2a", "3")
    assert outcome.mix == ", ".join(f"{name}: {share:.4f}" for name, share in zip(names, found, strict=True))
    assert Outcome.from_json(outcome.as_json()) == outcome
    again = work(Job(1, str(pattern), 0))
    assert again.score == outcome.score
    assert work(Job(2, "0 2a 3", 0)).mix is None


def test_scalars_have_the_rate_of_all_else_or_their_own(work: Evaluator, tmp_path: Path) -> None:
    told = {}
    for rate in (None, 1e-9, 0.5):
        own = replace(work, recipe=work.recipe.with_(mix_lr=rate))
        outcome = own(Job(0, "0 2 mix", 0, checkpoint=str(tmp_path / str(rate))))
        assert outcome.reason is None, outcome.trace
        told[rate] = max(abs(share - 1 / 3) for share in shares(tmp_path / str(rate)))  # two layers and the embeddings
    assert told[1e-9] < 1e-6 < told[None] < told[0.5]
    with pytest.raises(LayersearchError, match=r"--mix-lr 2 is not possible; allowed: above 0 and at most 1"):
        work.recipe.with_(mix_lr=2)


def test_over_a_fine_tuned_model_a_mix_begins_on_the_last_layer(work: Evaluator, tmp_path: Path) -> None:
    whole = tmp_path / "whole"
    assert work(Job(0, "0-3", 0, checkpoint=str(whole))).reason is None
    job = Job(1, "0 2-3 mix", 0, checkpoint=str(tmp_path / "kept"), start=str(whole), budget=1e-6)  # one step
    assert work(job).reason is None
    assert shares(tmp_path / "kept") == pytest.approx([(1 - LAST) / 3] * 3 + [LAST], abs=0.01)


def test_a_mix_goes_along_where_layers_go_one_after_another(work: Evaluator, tmp_path: Path) -> None:
    gradual = replace(work, recipe=work.recipe.with_(drop_every=0.5))
    outcome = gradual(Job(0, "0 2 mix", 0, checkpoint=str(tmp_path / "kept")))
    assert outcome.reason is None, outcome.trace
    assert len(shares(tmp_path / "kept")) == 3


def test_a_mix_that_halted_goes_on_as_if_it_had_not(work: Evaluator, tmp_path: Path) -> None:
    job = Job(0, "0 3 mix", 0, rungs=(0.5, 1.0), state=str(tmp_path / "state"))
    next(work.course(job))
    *_, halted = work.course(job)
    assert (halted.score, halted.mix) == ((whole := work(Job(0, "0 3 mix", 0))).score, whole.mix)


def test_a_super_network_shares_a_mix(work: Evaluator, tmp_path: Path) -> None:
    whole, folder = tmp_path / "whole", tmp_path / "super"
    assert work(Job(0, "0-3", 0, checkpoint=str(whole))).reason is None
    patterns = ("0-3", "0-3 mix", "0 3", "0 3 mix", "2a mix")
    outcome = work(Job(-1, "0-3", 0, checkpoint=str(folder), start=str(whole), patterns=patterns))
    assert outcome.reason is None, outcome.trace
    assert set(outcome.shared) == set(patterns)
    network, manifest = checkpoint.load(folder)
    assert str(manifest.pattern) == "0-3"
    mix = mix_of(network)
    assert isinstance(mix, SharedMix)
    assert mix.scalars.abs().max() > 0, "it was trained"
    told_in(folder).unlink()  # and is asked again, of its last layer
    job = Job(1, "0 3 mix", 0, checkpoint=str(tmp_path / "kept"), start=str(folder), budget=1e-6)
    assert work(job).reason is None
    expected = mix.of(Pattern.parse("0 3 mix").blocks, 0).shares().tolist()
    assert shares(tmp_path / "kept") == pytest.approx(expected, abs=0.01)
    plain = Job(2, "0 3", 0, checkpoint=str(tmp_path / "plain"), start=str(folder), budget=1e-6)
    assert work(plain).mix is None
    model, _ = checkpoint.load(tmp_path / "plain")
    assert mix_of(model) is None
    assert not hasattr(model.config, "mixed_layers")


def test_a_network_of_patterns_that_read_their_last_layer_holds_no_mix(work: Evaluator, tmp_path: Path) -> None:
    job = Job(-1, "0-3", 0, checkpoint=str(tmp_path / "super"), start=str(tmp_path / "gone"), patterns=("0 3", "0-1"))
    assert work(job).reason is None
    assert mix_of(checkpoint.load(tmp_path / "super")[0]) is None


def test_tied_copies_keep_their_own_places_in_a_mix_where_layers_go(work: Evaluator) -> None:
    """What is seen from the model before has one layer a block, copies too: each takes its own scalar along."""
    before, after = Pattern.parse("0-1 1t 2-3 mix"), Pattern.parse("0-1 1t 3 mix")
    seen = _seen_from(before, after)
    assert [(block.layer, block.tied) for block in seen.blocks] == [(0, False), (1, False), (2, False), (4, False)]
    gradual = replace(work, recipe=work.recipe.with_(drop_every=0.25, epochs=0.25))
    assert gradual(Job(0, str(after), 0)).reason is None
