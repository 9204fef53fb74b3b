"""What a family means for a search: halves refused before training, a shared layer said and weighed, plain exports."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from layersearch.errors import LayersearchError, WordsError
from layersearch.models import checkpoint
from layersearch.models.card import write_card
from layersearch.models.surgery import build
from layersearch.pattern import Pattern
from layersearch.search import spelling
from layersearch.search.plan import cost, lines
from layersearch.search.preparing import prepare
from layersearch.search.question import How, Prepared, What, remarks
from tests.models.test_export import CARD
from tests.models.tiny import TINY

Ask = Callable[[str, str], Prepared]


@pytest.fixture
def ask(tiny_model: Path, tiny_data: Path, tmp_path: Path) -> Ask:
    """A question about a tiny model of an entry, over a search space."""

    def about(name: str, space: str) -> Prepared:
        folder = tmp_path / name
        TINY[name].model().save_pretrained(folder)
        shutil.copy(tiny_model / "tokenizer.json", folder)
        what = What(str(folder), "sst2", data=tiny_data, space=space, method="fine-tune")
        return prepare(replace(what, recipe=replace(what.recipe, max_length=32)))

    return about


def test_measured_halves_are_refused_where_layers_have_none(ask: Ask, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spelling, "stored_of", lambda *_: {"ffn-only-influence": ["0a 1-3"]})
    with pytest.raises(WordsError, match="the search space 'measured' has half layers; the layers of albert models"):
        spelling.spelled(ask("albert", "measured"), How("x", device="cpu"), lambda _: None, stored=False)


@pytest.mark.parametrize("space", ["halves", "strategies", "everything"])
def test_a_space_with_halves_is_refused_where_layers_have_none(ask: Ask, space: str) -> None:
    with pytest.raises(WordsError) as caught:
        ask("albert", space)
    assert str(caught.value) == (
        f"the search space '{space}' has half layers; the layers of albert models are one layer, applied again and "
        "again, so only whole ones can be dropped or repeated: give whole layers, or search the space `layers`, which "
        "has no others"
    )


def test_a_layer_that_all_share_is_said_and_weighed_by_how_often_it_runs(ask: Ask) -> None:
    question = ask("albert", "layers")
    assert remarks(question) == [
        "albert has one layer that it applies 4 times: a pattern says how often, parameters do not change, and "
        "patterns of one depth are the same model"
    ]
    assert {line.share for line in lines(question)} == {1.0}
    total = cost(question, 1000, 0)
    assert total.fine_tunings == pytest.approx(sum(p.depth for p in question.space.patterns(4)) / 4)


def test_what_tells_layers_apart_is_refused_where_they_are_one(ask: Ask) -> None:
    with pytest.raises(
        LayersearchError, match="space 'duplication-tied' has tied copies, and all layers of albert share"
    ):
        ask("albert", "duplication-tied")
    what = ask("albert", "layers").what
    prepare(replace(what, recipe=replace(what.recipe, freeze="embeddings")))
    with pytest.raises(LayersearchError, match="--freeze '2' names a layer, and all layers of albert share one set of"):
        prepare(replace(what, recipe=replace(what.recipe, freeze="2")))


def test_other_families_need_no_remark(ask: Ask) -> None:
    assert remarks(ask("xlnet", "halves")) == []


def test_the_plan_knows_the_form_of_every_pattern(ask: Ask) -> None:
    found = {str(line.pattern): line.export for line in lines(ask("modernbert", "layers"))}
    assert (found["0-3"], found["0 3"], found["1-3"]) == ("native", "native", "with code")


def test_the_card_says_how_often_a_shared_layer_runs(tmp_path: Path) -> None:
    pattern = Pattern.parse("0-2")
    checkpoint.save(build(TINY["albert"].model(), pattern), pattern, tmp_path / "kept", source_layers=4, extras={})
    card = write_card(CARD, checkpoint.read(tmp_path / "kept"))
    assert "its one layer applied 3 times, 4 in the unchanged model, and fine-tuned. The code" in card
