"""Small charts: round numbers on axes, marks inside the frame, words that stay words."""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from layersearch.report.svg import Axis, Chart, group, label, text, ticks


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        (0, 1, ["0.0", "0.2", "0.4", "0.6", "0.8", "1.0"]),
        (0.912, 0.948, ["0.92", "0.93", "0.94"]),
        (0, 3000, ["0", "500"]),
    ],
)
def test_axes_have_round_numbers(low: float, high: float, expected: list[str]) -> None:
    found = ticks(low, high)
    assert [label(value, found[1] - found[0]) for value in found][: len(expected)] == expected


@given(st.floats(-1e9, 1e9), st.floats(1e-6, 1e9))
def test_there_are_a_few_ticks_and_all_inside(low: float, width: float) -> None:
    found = ticks(low, low + width)
    assert 1 <= len(found) <= 13
    slack = 1e-6 * width + 1e-9 * abs(low)
    assert all(low - slack <= value <= low + width + slack for value in found)


def test_one_value_or_none_makes_an_axis_too() -> None:
    for values in ([], [0.5], [0.0, 0.0]):
        axis = Axis.over(values, "x")
        assert axis.high > axis.low
        assert all(0 < axis.share(value) < 1 for value in values)


def test_names_stand_in_place_of_round_numbers_each_at_its_value() -> None:
    chart = Chart(Axis.over([0, 2], "layer", names={0: "1", 1: "2", 2: "<4>"}), Axis.over([0, 1], "y"))
    drawn = ElementTree.fromstring(chart.page([], "named"))
    below = [
        one for one in drawn.iter("text") if one.attrib["class"] == "tick" and one.attrib["text-anchor"] == "middle"
    ]
    assert [one.text for one in below] == ["1", "2", "<4>"]
    assert [float(one.attrib["x"]) for one in below] == [chart.at(value, 0)[0] for value in range(3)]


def test_marks_lie_inside_the_frame_and_words_are_escaped() -> None:
    chart = Chart(Axis.over([0, 10], "<x>"), Axis.over([0, 1], "y & z"))
    marks = [chart.dot(10, 1, 5, "member", {"trial": 3}), chart.stairs([(0, 0.1), (5, 0.5)], "stairs", 10)]
    marks += [chart.whisker(3, 0.2, 0.4, "w"), chart.band(-9, 9, "band"), chart.level(0.5, "level")]
    marks += [chart.diamond(1, 1, 5, "d"), chart.triangle(1, 1, 5, "t"), text(1, 2, "end", "</svg>", "tick")]
    page = chart.page([group(marks, "all")], 'about "this"')
    drawn = ElementTree.fromstring(page)
    assert drawn.attrib["aria-label"] == 'about "this"'
    words = [element.text for element in drawn.iter("text")]
    assert {"<x>", "y & z", "</svg>"} <= set(words)
    dot = next(drawn.iter("circle"))
    assert dot.attrib["data-trial"] == "3"
    assert 0 < float(dot.attrib["cx"]) < chart.width
    assert 0 < float(dot.attrib["cy"]) < chart.height
    band = next(drawn.iter("rect"))
    assert float(band.attrib["y"]) >= 0
    assert float(band.attrib["height"]) <= chart.height
    stairs = [tuple(map(float, point.split(","))) for point in next(drawn.iter("polyline")).attrib["points"].split()]
    assert stairs == [chart.at(*point) for point in ((0, 0.1), (5, 0.1), (5, 0.5), (10, 0.5))]


def test_an_axis_is_at_least_as_wide_as_asked() -> None:
    """A front with and without a mix differs by a handful of parameters."""
    narrow = Axis.over([100.0, 100.00003], "parameters", least=2.0)
    assert narrow.high - narrow.low == pytest.approx(2.2)
    assert narrow.low < 100 < narrow.high
