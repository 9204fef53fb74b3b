"""The plan: the patterns of a space with counts that surgery would give, and the cost of a run."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from layersearch.models.base import load_base
from layersearch.models.surgery import build
from layersearch.pattern import PartCounts, Pattern
from layersearch.search.objectives import Costs, Limit
from layersearch.search.plan import Cost, cost, lines
from layersearch.search.preparing import prepare
from layersearch.search.question import Method, Prepared, What
from layersearch.training.recipe import OneShotRecipe, Recipe


@pytest.fixture(scope="module")
def prepared(tiny_model: Path, tiny_data: Path) -> Prepared:
    return prepare(What(str(tiny_model), "sst2", data=tiny_data, space="halves", recipe=Recipe(epochs=2)))


@pytest.fixture(scope="module")
def whole(tiny_model: Path, tiny_data: Path) -> Prepared:
    return prepare(What(str(tiny_model), "sst2", data=tiny_data, space="layers", method="fine-tune"))


def test_every_pattern_of_the_space_is_listed_once_start_points_first(whole: Prepared) -> None:
    listed = list(lines(whole))
    start = whole.space.start_points(4)
    assert [line.pattern for line in listed[: len(start)]] == list(start)
    assert [line.is_start for line in listed] == [True] * len(start) + [False] * (len(listed) - len(start))
    assert {line.pattern for line in listed} == set(whole.space.patterns(4))
    assert len(listed) == whole.space.size(4) == 15


def test_the_limit_cuts_the_list(prepared: Prepared) -> None:
    assert len(list(lines(prepared, 3))) == 3
    assert str(next(lines(prepared, 1)).pattern) == "0-3"


def test_counts_are_those_of_the_built_candidates(prepared: Prepared, tiny_model: Path) -> None:
    base = load_base(tiny_model, num_labels=2, kind="classification").model
    for line in list(lines(prepared))[::40]:
        built = sum(p.numel() for p in build(base, line.pattern).parameters())
        assert line.parameters == built
        assert line.share == built / sum(p.numel() for p in base.parameters())


def test_a_pattern_with_halves_is_exported_with_code(prepared: Prepared) -> None:
    for line in lines(prepared, 60):
        assert line.export == ("native" if line.pattern.is_whole else "with code")


def test_a_line_is_plain_values(prepared: Prepared) -> None:
    first = next(lines(prepared)).as_record()
    assert first["pattern"] == "0-3"
    assert first["share"] == 1.0
    assert {type(value) for value in first.values()} <= {str, int, float, bool}


def test_the_unchanged_model_alone_costs_one_fine_tuning(whole: Prepared) -> None:
    total = cost(whole, 1, 0)
    assert (total.trials, total.fine_tunings, total.confirmation) == (1, 1.0, 0.0)


def test_halving_trains_the_unchanged_model_in_full_and_of_the_others_a_part(whole: Prepared) -> None:
    halving = replace(whole, what=replace(whole.what, method="halving"))
    assert cost(halving, 1000, 0).fine_tunings == pytest.approx(1 + 7 * (1 / 9 + 2 / 27 + 2 / 27), abs=1e-3)
    assert cost(halving, 1, 0).fine_tunings == 1.0


def test_a_whole_space_costs_the_layers_it_trains(whole: Prepared) -> None:
    """All 15 subsets of 4 layers train 32 layers: 8 fine-tunings of the unchanged model."""
    total = cost(whole, 1000, 0)
    assert total.trials == 15
    assert total.fine_tunings == pytest.approx(sum(p.depth for p in whole.space.patterns(4)) / 4) == pytest.approx(8)


def test_a_teacher_whose_hidden_states_lead_and_zeros_cost_more(whole: Prepared) -> None:
    """A forward pass of the unchanged model beside each fine-tuning is a third of one."""

    def asked(method: Method, **words: object) -> Cost:
        return cost(replace(whole, what=replace(whole.what, method=method, recipe=Recipe().with_(**words))), 7, 2)

    plain, led = asked("distill"), asked("distill", teach="hidden")
    assert led.fine_tunings == pytest.approx(plain.fine_tunings + 6 / 3)
    assert led.confirmation > plain.confirmation
    assert asked("one-shot", teach="hidden").fine_tunings > asked("one-shot").fine_tunings
    assert led.training_bytes == 20 / 16 * plain.training_bytes
    assert asked("fine-tune", sparsity=0.5).training_bytes == 21 / 16 * plain.training_bytes


def test_what_is_over_a_limit_costs_nothing(whole: Prepared) -> None:
    """Of 15 subsets of 4 layers 10 have two at most; the unchanged model is trained beside them."""
    assert whole.costs is not None
    two = Pattern.of_layers([0, 1]).parameters(whole.counts)
    limited = replace(
        whole, costs=replace(whole.costs, limits=(Limit("parameters", float(two), is_share=False, text="two"),))
    )
    total = cost(limited, 1000, 0)
    assert total.trials == 11
    assert total.fine_tunings == pytest.approx(1 + (6 * 2 + 4 * 1) / 4)


def test_a_large_space_is_weighed_by_a_fair_sample(whole: Prepared) -> None:
    """Half of the layers are kept on average; the first patterns of the list keep nearly all."""
    counts = PartCounts(fixed=10, attention=(1,) * 14, ffn=(2,) * 14)
    large = replace(whole, costs=Costs({"parameters": counts}))
    assert large.space.size(14) > 10_000
    start = len(large.space.start_points(14))
    rest = cost(large, 1000 + start, 0).fine_tunings - cost(large, start, 0).fine_tunings
    assert rest / 1000 == pytest.approx(0.5, abs=0.03)


def test_cost_grows_with_trials_and_with_seeds(whole: Prepared) -> None:
    few, many, unconfirmed = cost(whole, 4, 3), cost(whole, 12, 3), cost(whole, 12, 0)
    assert few.fine_tunings < many.fine_tunings == unconfirmed.fine_tunings
    assert 0 == unconfirmed.confirmation < few.confirmation <= many.confirmation
    assert many.confirmation <= 3 * (1 + whole.num_layers)


def test_examples_and_bytes_follow_from_the_data_and_the_model(prepared: Prepared) -> None:
    total = cost(prepared, 10, 0)
    assert total.examples == 2 * len(prepared.splits.train)
    assert total.checkpoint_bytes == 4 * prepared.counts.total
    assert total.training_bytes == 16 * prepared.counts.total
    assert Pattern.full(4).parameters(prepared.counts) == prepared.counts.total


def test_a_one_shot_search_costs_a_network_and_a_part_of_a_fine_tuning_a_candidate(whole: Prepared) -> None:
    one_shot = replace(whole, what=replace(whole.what, method="one-shot"))
    few, many = cost(one_shot, 3, 0), cost(one_shot, 5, 0)
    assert many.fine_tunings - few.fine_tunings == pytest.approx(2 * OneShotRecipe.tuning)
    assert 3 < few.fine_tunings < 4
    assert cost(one_shot, None, 2).confirmation == pytest.approx(2 * (2.5 + 4 * OneShotRecipe.tuning))
