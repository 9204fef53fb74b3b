"""Fronts behind fronts, and parts that span them."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from layersearch.search.fronts import fronts, ranked, spread

POINTS = st.lists(st.tuples(st.integers(-3, 3), st.integers(1, 6)), max_size=25)


def beats(one: tuple[int, int], other: tuple[int, int]) -> bool:
    return one[0] >= other[0] and one[1] <= other[1] and one != other


@given(POINTS)
def test_each_front_is_what_the_rest_cannot_beat_largest_first(points: list[tuple[int, int]]) -> None:
    left = list(range(len(points)))
    for front in fronts(points):
        here = {points[i] for i in left if not any(beats(points[j], points[i]) for j in left)}
        assert {points[i] for i in front} == here
        assert len(front) == len(here)
        sizes = [points[i][1] for i in front]
        assert sizes == sorted(sizes, reverse=True)
        left = [i for i in left if i not in front]
    assert left == []


def test_of_equal_points_the_first_is_on_the_front_and_the_next_behind_it() -> None:
    assert fronts([(1, 1), (1, 1), (2, 2)]) == [[2, 0], [1]]
    assert fronts([]) == []


def test_a_part_of_a_front_spans_all_its_sizes() -> None:
    sizes = list(range(24))
    assert spread(sizes)[:5] == [0, 23, 11, 5, 17]
    assert sorted(spread(sizes)) == sizes
    assert (spread([7]), spread([7, 8])) == ([7], [7, 8])


def test_a_small_weak_point_comes_before_a_middling_one_of_the_same_front() -> None:
    points = [(0.9, 100), (0.85, 80), (0.8, 60), (0.1, 10), (0.7, 90)]
    assert ranked(points) == [0, 3, 1, 2, 4]


@given(st.lists(st.tuples(st.integers(-3, 3), st.integers(1, 4), st.integers(1, 4)), max_size=25))
def test_fronts_of_three_objectives_are_those_of_every_pair_compared(points: list[tuple[int, int, int]]) -> None:
    def beaten(place: int, left: set[int]) -> bool:
        mine = points[place]
        as_good = [n for n in left if points[n][0] >= mine[0] and points[n][1] <= mine[1] and points[n][2] <= mine[2]]
        return any(points[n] != mine or n < place for n in as_good)

    left = set(range(len(points)))
    for front in fronts(points):
        assert set(front) == {place for place in left if not beaten(place, left)}
        assert [points[place][1] for place in front] == sorted((points[place][1] for place in front), reverse=True)
        left -= set(front)
    assert not left
