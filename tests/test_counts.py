"""Numbers of things: 1 trial, 2 trials, everywhere.

Knows: the helper, and f-strings of the package that count without it. Does not know: what any message says.
"""

from __future__ import annotations

import ast
import re
from itertools import pairwise
from pathlib import Path

import pytest

from layersearch.counts import count

PACKAGE = Path(__file__).parents[1] / "layersearch"
THINGS = "articles|candidates|checkpoints|columns|cores|examples|files|fronts|labels|layers|models|patterns|"
THINGS += "proposals|questions|rows|seeds|sentences|studies|texts|tokens|trainings|trials|weights|words"
SUCH = "built|broken|complete|different|finished|fresh|shared|training|validation"
PLURAL = re.compile(rf" (?:(?:{SUCH}) )?(?:{THINGS})\b")
NO_NUMBER = ("model_type", "name", "path")
MANY = {"len(places) rows", "num_layers layers"}  # two or more, and a part of a hash


@pytest.mark.parametrize(
    ("number", "said"), [(0, "0 fresh seeds"), (1, "1 fresh seed"), (2, "2 fresh seeds"), (12345, "12,345 fresh seeds")]
)
def test_one_is_one_and_thousands_have_commas(number: int, said: str) -> None:
    assert count(number, "fresh seed") == said


def bare(source: str) -> list[str]:
    """The numbers in f-strings that stand before a plural without the helper; constants, in capitals, may."""
    found = []
    for node in ast.walk(ast.parse(source)):
        parts = node.values if isinstance(node, ast.JoinedStr) else []
        for value, text in pairwise(parts):
            if isinstance(value, ast.FormattedValue) and isinstance(text, ast.Constant):
                said, thing = ast.unparse(value.value), PLURAL.match(str(text.value))
                decimal = value.format_spec is not None and "f" in ast.unparse(value.format_spec)
                counted = decimal or said.isupper() or said.startswith("count(") or said.endswith(NO_NUMBER)
                if thing and not counted:
                    found.append(f"{said}{thing[0]}")
    return [one for one in found if one not in MANY]


def test_no_message_counts_by_itself() -> None:
    assert bare("f\"{n} trials, {count(n, 'layer')}, {LEAST} rows and {x:.0f} models\"") == ["n trials"]
    found = {path.name: one for path in sorted(PACKAGE.rglob("*.py")) if (one := bare(path.read_text()))}
    assert found == {}
