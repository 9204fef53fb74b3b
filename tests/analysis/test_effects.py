"""Effects of parts on a score: the regression beside scikit-learn's, known truths recovered, intervals that hold."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
from scipy.stats import t
from sklearn.linear_model import Ridge as Reference  # type: ignore[import-untyped]

from layersearch.analysis.effects import Part, effects_of, parts_of
from layersearch.analysis.ridge import PENALTIES, Floats, mixture, ridge
from layersearch.pattern import Block, Pattern

LAYERS = 8


def made(number: int, columns: int) -> tuple[Floats, Floats]:
    rng = np.random.default_rng(0)
    table = rng.normal(size=(number, columns)) + 1
    return table, table @ rng.normal(size=columns) + rng.normal(size=number)


@pytest.mark.parametrize(("number", "columns"), [(30, 5), (10, 25)])
def test_the_regression_is_that_of_scikit_learn_at_every_penalty(number: int, columns: int) -> None:
    table, values = made(number, columns)
    ours = ridge(table, values)
    coefficients = ours.told(np.eye(columns))[0]
    left_out = ours.left_out()
    for place in (0, len(PENALTIES) // 2, len(PENALTIES) - 1):
        model = Reference(alpha=PENALTIES[place]).fit(table, values)
        assert coefficients[:, place] == pytest.approx(model.coef_, rel=1e-5, abs=1e-7)
        others = np.arange(number) != 3
        told = Reference(alpha=PENALTIES[place]).fit(table[others], values[others]).predict(table[3:4])
        assert left_out[3, place] == pytest.approx(float(told[0]), rel=1e-5)


def test_variance_and_evidence_are_those_of_the_normal_distribution() -> None:
    table, values = made(12, 3)
    ours, place = ridge(table, values), 9
    centred = table - table.mean(axis=0)
    spread = np.linalg.inv(centred.T @ centred + PENALTIES[place] * np.eye(3)) * ours.noise[place]
    assert ours.told(np.eye(3))[1][:, place] == pytest.approx(np.diag(spread))
    cover = np.eye(12) + centred @ centred.T / PENALTIES[place]
    off = values - values.mean()
    assert ours.noise[place] == pytest.approx(off @ np.linalg.solve(cover, off) / 11)
    expected = -0.5 * (np.linalg.slogdet(cover)[1] + 11 * np.log(ours.noise[place]))
    assert ours.evidence[place] == pytest.approx(expected)


def test_a_mixture_weighs_by_evidence_and_holds_what_it_does_not_know() -> None:
    table, values = made(40, 3)
    noise = np.random.default_rng(1).normal(size=(40, 3))
    both = mixture([noise, table], values)
    assert both.weights.sum() == pytest.approx(1)
    assert both.weights[1].sum() > 0.99
    rows = np.eye(3)
    assert both.told([rows, rows])[0] == pytest.approx(mixture([table], values).told([rows])[0], rel=0.02)
    assert (both.told([rows, rows])[1] > np.sqrt(both.ridges[1].told(rows)[1].min(axis=1))).all()


def drawn(number: int, seed: int) -> Floats:
    """What patterns of all sizes drop, [number, LAYERS], each once."""
    rng = np.random.default_rng(seed)
    dropped = rng.random((3 * number, LAYERS)) < 0.7 * rng.random((3 * number, 1))
    found = np.unique(dropped[~dropped.all(axis=1)], axis=0).astype(float)
    return np.asarray(rng.permutation(found)[:number])


def spelled(dropped: Floats) -> list[Pattern]:
    return [Pattern.of_layers(np.flatnonzero(row == 0).tolist()) for row in dropped]


def test_effects_and_pairs_are_recovered_from_scores_without_noise() -> None:
    dropped = drawn(80, 0)
    costs = np.linspace(0.01, 0.08, LAYERS)
    scores = 0.9 - dropped @ costs - 0.05 * dropped[:, 2] * dropped[:, 5]
    effects = effects_of(spelled(dropped), scores.tolist(), LAYERS)
    of_pair = -0.05 * np.array([0, 0, dropped[:, 5].mean(), 0, 0, dropped[:, 2].mean(), 0, 0])
    assert effects.of(effects.parts)[0] == pytest.approx(of_pair - costs, abs=2e-3)
    pairs = list(combinations(effects.parts, 2))
    told = dict(zip(pairs, effects.of_pairs(pairs)[0], strict=True))
    assert told.pop((Part(2), Part(5))) == pytest.approx(-0.05, abs=5e-3)
    assert max(map(abs, told.values())) < 5e-3
    assert effects.predict([Pattern.full(LAYERS)])[0] == pytest.approx(0.9, abs=2e-3)


@pytest.mark.parametrize("kind", ["layers", "pairs"])
def test_intervals_hold_the_true_average_effect(kind: str) -> None:
    """Over 40 studies of 40 patterns; 0.88 is some three standard errors below what results/importance measures."""
    held: list[bool] = []
    for seed in range(40):
        rng, dropped = np.random.default_rng(seed), drawn(40, seed)
        costs = rng.normal(0.02, 0.015, LAYERS)
        pairs = np.triu(rng.normal(0, 0.008, (LAYERS, LAYERS)), 1) * (kind == "pairs")
        scores = 0.9 - dropped @ costs - ((dropped @ pairs) * dropped).sum(axis=1) + rng.normal(0, 0.02, len(dropped))
        effects = effects_of(spelled(dropped), scores.tolist(), LAYERS)
        means, deviations = effects.of(effects.parts)
        true = -costs - (pairs + pairs.T) @ dropped.mean(axis=0)
        held += list(np.abs(means - true) < t.ppf(0.975, len(dropped) - 1) * deviations)
    assert 0.88 < np.mean(held) < 0.995


def test_what_the_scores_tell_little_of_is_taken_for_one_like_the_others() -> None:
    dropped = drawn(60, 0)
    dropped[:, 3] = 0
    dropped[7, 3] = 1
    scores = 0.9 - 0.05 * dropped.sum(axis=1) + np.random.default_rng(0).normal(0, 0.01, 60)
    mean, deviation = effects_of(spelled(dropped), scores.tolist(), LAYERS).of([Part(3), Part(4)])
    assert mean == pytest.approx(-0.05, abs=0.02)
    assert deviation[0] > 1.5 * deviation[1]


def test_parts_are_what_the_patterns_vary() -> None:
    whole = [Pattern.parse(text) for text in ("0-3", "0-2", "0 2-3", "0-2 2-3")]
    assert [str(part) for part in parts_of(whole, 4)] == ["1", "3", "2 again"]
    halves = [Pattern.parse(text) for text in ("0-3", "0-2 3a", "0 2-3", "0-1 2f 3")]
    assert [str(part) for part in parts_of(halves, 4)] == ["1a", "1f", "2a", "3f"]
    copied = [*halves, Pattern.parse("0-3 3")]
    assert [str(part) for part in parts_of(copied, 4)] == ["1a", "1f", "2a", "3f", "3 again"]


def test_halves_and_copies_have_costs_of_their_own_and_whole_layers_those_of_both() -> None:
    rng = np.random.default_rng(0)
    patterns: dict[Pattern, float] = {}
    for _ in range(150):
        times = rng.choice([0, 1, 1, 2], size=(4, 2))
        blocks = [Block(n, "attention") for n in range(4) for _ in range(times[n, 0])]
        blocks += [Block(n, "ffn") for n in range(4) for _ in range(times[n, 1])]
        if blocks:
            dropped, again = times == 0, np.maximum(times - 1, 0)
            score = 0.9 - (dropped * [[0.01, 0.04]]).sum() - 0.02 * again.sum()
            patterns[Pattern(tuple(blocks))] = float(score)
    effects = effects_of(list(patterns), list(patterns.values()), 4)
    assert len(effects.parts) == 16
    told = effects.of([Part(1, "attention"), Part(1, "ffn"), Part(1), Part(1, "ffn", again=True)])[0]
    assert told == pytest.approx([-0.01, -0.04, -0.05, -0.02], abs=2e-3)


def test_two_stacks_have_slopes_of_their_own() -> None:
    """The decoder's layer of which the patterns tell little is taken for one of the decoder's."""
    dropped = drawn(60, 0)
    dropped[:, 7] = 0
    dropped[5, 7] = 1
    scores = 0.9 - dropped @ np.repeat([0.01, 0.09], 4) + np.random.default_rng(0).normal(0, 0.01, 60)
    told = {
        stacks: effects_of(spelled(dropped), scores.tolist(), LAYERS, stacks).of([Part(7)])[0][0]
        for stacks in ((), (4, 4))
    }
    assert abs(told[4, 4] + 0.09) < abs(told[()] + 0.09)
