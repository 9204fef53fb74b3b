"""Objectives and limits: what words mean, what patterns cost, and what is said where nothing can keep a limit."""

from __future__ import annotations

import pytest

from layersearch.errors import LayersearchError
from layersearch.pattern import PartCounts, Pattern
from layersearch.search.objectives import COSTS, SCORE, Costs, parse_limit, parse_objectives, reachable, stored
from layersearch.search_space import SearchSpace

LAYERS = 4
PARTS = {
    "parameters": PartCounts(1000, (40,) * LAYERS, (60,) * LAYERS),
    "macs": PartCounts(10, (300,) * LAYERS, (100,) * LAYERS),
}
WHOLE = SearchSpace(choices=("keep", "drop"))


def costs(*limits: tuple[str, str], objectives: tuple[str, ...] = ("parameters", "macs")) -> Costs:
    return Costs(PARTS, objectives, tuple(parse_limit(of, text) for of, text in limits))


def test_objectives_are_the_metric_and_one_or_two_costs() -> None:
    assert parse_objectives("metric,parameters") == ("metric", "parameters")
    assert parse_objectives(" metric, macs,latency ") == ("metric", "macs", "latency")


@pytest.mark.parametrize(
    "text", ["", "metric", "parameters,metric", "metric,macs,macs", "metric,parameters,macs,latency"]
)
def test_other_numbers_of_objectives_are_refused(text: str) -> None:
    with pytest.raises(LayersearchError, match=r"allowed: metric first and one or two others, each once, such as"):
        parse_objectives(text)


def test_an_unknown_objective_is_answered_with_the_nearest() -> None:
    with pytest.raises(LayersearchError, match=r"unknown objective 'latncy' \(did you mean 'latency'\?\)"):
        parse_objectives("metric,latncy")


@pytest.mark.parametrize(
    ("of", "text", "unchanged", "bound"),
    [
        ("parameters", "60%", 200, 120),
        ("parameters", "66M", 1, 66e6),
        ("parameters", "1500", 1, 1500),
        ("macs", "2.5G", 1, 2.5e9),
        ("latency", "8ms", 1, 8e6),
        ("latency", "70%", 1e6, 0.7e6),
        (SCORE, "0.8", 0.9, 0.8),
        (SCORE, "98%", 0.5, 0.49),
    ],
)
def test_a_limit_is_a_number_or_a_share(of: str, text: str, unchanged: float, bound: float) -> None:
    limit = parse_limit(of, text)
    assert limit.bound(unchanged) == pytest.approx(bound)
    assert limit.option.endswith(text)


@pytest.mark.parametrize(
    ("of", "text", "said"),
    [
        ("parameters", "sixty", "--max-params sixty is not possible; allowed: a number or a share, such as 60%, 66M"),
        ("parameters", "8ms", "--max-params 8ms is not possible"),
        ("latency", "8", "--max-latency 8 is not possible; allowed: a number or a share, such as 60% or 8ms"),
        ("macs", "-3", "--max-macs -3 is not possible"),
        (SCORE, "0", "--min-score 0 is not possible; allowed: more than 0, such as 0.8 or 98%"),
    ],
)
def test_a_limit_that_is_none_is_refused(of: str, text: str, said: str) -> None:
    with pytest.raises(LayersearchError) as raised:
        parse_limit(of, text)
    assert said in str(raised.value)


@pytest.mark.parametrize(
    ("of", "texts", "kept"),
    [
        ("parameters", ("66M", "66000000", "0.066b"), "--max-params 66000000"),
        ("parameters", ("60%", "60.0 %"), "--max-params 60%"),
        ("latency", ("8ms", "8000us", "0.008s"), "--max-latency 8000us"),
        (SCORE, ("0.8", "0.80"), "--min-score 0.8"),
    ],
)
def test_a_limit_is_stored_alike_however_it_is_typed(of: str, texts: tuple[str, ...], kept: str) -> None:
    for text in texts:
        assert stored(("metric", "parameters"), (parse_limit(of, text),)) == {"limits": kept}


def test_a_cost_is_the_sum_of_parts() -> None:
    found = costs()
    assert found.values(Pattern.parse("0 1a 2f 3 3")) == (1000 + 300 + 100, 10 + 1200 + 400)
    assert found.shares(Pattern.full(LAYERS)) == (1.0, 1.0)


def test_a_tied_copy_has_no_parameters_and_runs() -> None:
    found, tied = costs(), Pattern.parse("0-3 3t")
    assert found.of("parameters", tied) == found.unchanged("parameters")
    assert found.of("macs", tied) == found.unchanged("macs") + 400
    assert found.unchanged("macs") == 1610


def test_what_is_over_a_limit_is_told_with_both_values() -> None:
    limited = costs(("parameters", "1200"), ("macs", "60%"))
    assert limited.allows(Pattern.parse("0-1"))
    assert limited.why_not(Pattern.parse("0-1")) is None
    assert limited.why_not(Pattern.parse("0-2")) == "over a limit: 1,300 parameters, at most 1,200 (--max-params 1200)"
    assert limited.constraints(Pattern.parse("0-2"))["parameters"] == pytest.approx(100 / 1400)
    assert "at most 0.000966 (--max-macs 60%)" in str(limited.why_not(Pattern.parse("0a 1a 2a 3a")))


@pytest.mark.parametrize("space", [WHOLE, SearchSpace(choices=("keep", "drop", "attention"))])
def test_a_limit_that_nothing_keeps_is_told_with_the_nearest_value(space: SearchSpace) -> None:
    limited = costs(("parameters", "70%"))
    smallest = "`0` with 1,100" if space is WHOLE else "`3a` with 1,040"
    with pytest.raises(LayersearchError) as raised:
        limited.require_reachable(reachable(space, LAYERS, limited))
    assert f"no pattern of the space keeps --max-params 70%: the nearest is {smallest} parameters" in str(raised.value)
    assert "of the unchanged model's 1,400; allow that much" in str(raised.value)


def test_limits_that_are_only_met_apart_are_told_with_the_pattern_that_is_over_them_least() -> None:
    """Three attention halves keep the first limit and are 13 % over the second; two are 1.4 % over at most."""
    space = SearchSpace(choices=("keep", "attention", "ffn"))
    limited = costs(("parameters", "1180"), ("macs", "800"))
    with pytest.raises(LayersearchError) as raised:
        limited.require_reachable(reachable(space, LAYERS, limited))
    assert str(raised.value) == (
        "no pattern of the space keeps --max-params 1180 and --max-macs 800 together: the nearest is `0a 1a 2f 3f` "
        "with 1,200 parameters, 85.7% of the unchanged model's 1,400, and 0.00081 MACs (M), 50.3% of the unchanged "
        "model's 0.00161; allow that much"
    )
    enough = costs(("parameters", "1200"), ("macs", "810"))
    enough.require_reachable(reachable(space, LAYERS, enough))


def test_the_least_of_a_large_space_is_found_without_listing_it() -> None:
    parts = {"parameters": PartCounts(0, tuple(range(10, 50)), (100,) * 40)}
    limited = Costs(parts, limits=(parse_limit("parameters", "1%"),))
    space = SearchSpace(choices=("keep", "drop", "attention"), min_layers=2)
    found = reachable(space, 40, limited)
    assert len(found) < 500
    assert min(limited.of("parameters", pattern) for pattern in found) < 2 * 50


def test_every_cost_has_a_form_for_people() -> None:
    assert COSTS["parameters"].shown(1234567) == "1,234,567"
    assert COSTS["latency"].shown(8_123_456) == "8.123"
    assert all(cost.title for cost in COSTS.values())
