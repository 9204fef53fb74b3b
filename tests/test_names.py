"""The line about an unknown name: what was given, what comes nearest, what is allowed; a name as a file's.

Knows: spellings. Does not know: which names the program has.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from layersearch.names import file_name_of, model_name, unknown

ALLOWED = ("stsb", "run-glue-defaults", "NSGAIISampler")


@pytest.mark.parametrize(
    ("given", "near"),
    [
        ("stbs", "stsb"),
        ("STS-B", "stsb"),
        ("RUN_GLUE_DEFAULT", "run-glue-defaults"),
        ("nsgaisampler", "NSGAIISampler"),
        ("NSGA", "NSGAIISampler"),
        ("run", "run-glue-defaults"),
    ],
)
def test_the_nearest_name_is_offered_whatever_its_case_and_hyphens(given: str, near: str) -> None:
    line = unknown("thing", given, ALLOWED)
    assert line == f"unknown thing {given!r} (did you mean {near!r}?); allowed: {', '.join(ALLOWED)}"


@pytest.mark.parametrize("given", ["", "xyz", "tokens"])
def test_where_none_comes_near_none_is_offered(given: str) -> None:
    assert unknown("thing", given, ALLOWED) == f"unknown thing {given!r}; allowed: {', '.join(ALLOWED)}"


def test_a_name_becomes_a_file_of_its_own_folder() -> None:
    assert file_name_of("org/model v1.2_x-ü") == "org-model-v1.2_x-ü"


@pytest.mark.parametrize(
    ("model", "name"),
    [
        ("google-bert/bert", "bert"),
        ("package:a_b/model", "a_b"),
        ("runs/a/model/", "a"),
        ("model", "model"),
        ("./model", "model"),
        ("../b//model", "b"),
        (".", Path.cwd().name),
    ],
)
def test_a_model_is_called_by_its_last_part_that_says_something(model: str, name: str) -> None:
    assert model_name(model) == name
