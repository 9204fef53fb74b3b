"""Words of a wrong type are refused in one line, by every call alike."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal, get_type_hints

import numpy as np
import pytest

import layersearch
from layersearch import api
from layersearch.errors import WordsError
from layersearch.typed import _kinds, _named, checked, fits, listed
from layersearch.words import Words

CALLS: Any = layersearch  # by a caller whose types nobody checks


@pytest.mark.parametrize(
    ("value", "kind", "right"),
    [
        (3, int, True),
        (np.int64(3), int, True),
        (np.float32(0.5), float, True),
        (3, float, True),
        (True, int, False),
        (3.0, int, False),
        ("3", int, False),
        (1, bool, False),
        (None, int | None, True),
        (Path("x"), str | Path, True),
        (["a", "b"], Sequence[str] | None, True),
        ((1, 2), Sequence[int], True),
        ("ab", Sequence[str], False),
        (["a", 1], Sequence[str], False),
        ("b", Literal["a", "b"], True),
        ("c", Literal["a", "b"], False),
    ],
)
def test_a_value_fits_its_type_or_not(value: object, kind: Any, right: bool) -> None:
    assert fits(value, kind) is right


@pytest.mark.parametrize(
    ("ask", "said"),
    [
        (lambda: CALLS.confirm(seeds="two"), "seeds='two' is not possible; allowed: a whole number"),
        (lambda: CALLS.show(trial=None), "trial=None is not possible; allowed: a whole number"),
        (lambda: CALLS.show(3, trial=0), "study=3 is not possible; allowed: a text or None"),
        (lambda: CALLS.best(max_params=0.6), "max_params=0.6 is not possible; allowed: a text or None"),
        (lambda: CALLS.front(all="yes"), "all='yes' is not possible; allowed: True or False"),
        (lambda: CALLS.plan(limit="all"), "limit='all' is not possible; allowed: a whole number"),
        (
            lambda: CALLS.importance(3),
            "names=3 is not possible; allowed: a list, each of it a text or None",
        ),
        (
            lambda: CALLS.export(trial=0, to="x", form="onxx"),
            "unknown form 'onxx' (did you mean 'onnx'?); allowed: native, code, onnx",
        ),
        (lambda: CALLS.time(storage=None), "storage=None is not possible; allowed: a text or a Path"),
        (lambda: CALLS.search(model=3, task="demo"), "model=3 is not possible; allowed: a text or a Path"),
        (lambda: CALLS.plan(min_score=0.8), "min_score=0.8 is not possible; allowed: a text or None"),
        (lambda: CALLS.search(where=[1]), "where=[1] is not possible; allowed: a list, each of it a text or None"),
        (lambda: CALLS.search(trials="many"), "--trials many is not possible; allowed: a valid integer"),
    ],
)
def test_a_wrong_type_is_one_line(ask: Callable[[], object], said: str) -> None:
    with pytest.raises(WordsError) as caught:
        ask()
    assert str(caught.value) == said


def test_every_call_is_checked() -> None:
    """But `search`, whose words go through those of the command line."""
    calls = {name: getattr(api, name) for name in api.__all__}
    assert {name for name, call in calls.items() if not hasattr(call, "__wrapped__")} == {"search"}
    for call in calls.values():  # every type has a name
        assert all(map(_named, _kinds(inspect.unwrap(call)).values()))


def test_a_call_that_is_checked_is_the_call() -> None:
    @checked
    def twice(number: int, *, name: str = "x") -> str:
        """Doubles."""
        return name * number

    assert twice(2) == "xx"
    assert twice.__doc__ == "Doubles."
    with pytest.raises(WordsError, match=r"^name=1 is not possible; allowed: a text$"):
        twice(2, name=1)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="missing a required argument: 'number'"):
        twice()  # type: ignore[call-arg]


def test_one_text_is_a_list_of_one() -> None:
    @checked
    def names(which: Sequence[str | None], *, sizes: Sequence[int] = ()) -> list[str | None]:
        assert not sizes
        return list(which)

    assert names("mine") == ["mine"]
    with pytest.raises(WordsError, match="sizes='3' is not possible"):
        names("mine", sizes="3")  # type: ignore[arg-type]


def test_one_text_is_a_list_of_one_for_a_search_too() -> None:
    given = {"task": "own", "label": "stars", "where": ["a=b"], "start_from": None, "modle": "m"}
    assert listed(given, get_type_hints(Words)) == given | {"label": ["stars"]}
    with pytest.raises(WordsError, match=r"^task own needs --data FILE"):
        CALLS.plan(model="m", task="own", text="review", label="stars")
