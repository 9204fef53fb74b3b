"""What an analysis shows, on made-up results: where the best probe stands, and that pictures share their scales."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from layersearch.analysis.analyze import Analysis, Map
from layersearch.analysis.probes import Probed
from layersearch.analysis.similarity import Similarity
from layersearch.analysis.wanted import Wanted
from layersearch.errors import LayersearchError
from layersearch.report import analysis_figures
from layersearch.report.analysis import as_plain, layers_passed, print_analysis
from layersearch.report.analysis_page import page_of, write_page

PLACES = ("embeddings", "0", "1")
NONE = "none reads more than the constant answer (0.6842)"


def probed(scores: tuple[float, ...], best: int | None) -> Probed:
    pairs = tuple((score - 0.05, score + 0.05) for score in scores)
    return Probed("mrpc", "accuracy", scores, pairs, (1.0,) * len(scores), 0.6842, (80, 20, 50), best)


def analysis(*probes: Probed, **more: Any) -> Analysis:
    names = ("first", "second")[: max(1, len(probes))]
    return Analysis(names, (PLACES,) * len(names), Wanted(), 50, probes=(probes,) if probes else (), **more)


READS = probed((0.60, 0.69, 0.80), 2)
READS_NOTHING = probed((0.60, 0.6842, 0.70), None)


def drawn(found: Analysis, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The figure of that name, as matplotlib has it."""
    figures: dict[str, Any] = {}
    monkeypatch.setattr(analysis_figures, "save", lambda figure, file: figures.update({file.name: figure}))
    analysis_figures.draw_analysis(found, tmp_path)
    return figures[name]


def below(page: str, title: str) -> list[list[str]]:
    """What stands under each chart of a page that has such a title on one of its axes."""
    charts = [svg for svg in re.findall(r"<svg.*?</svg>", page, re.DOTALL) if f">{title}</text>" in svg]
    return [re.findall(r'class="tick"[^>]*text-anchor="middle">([^<]*)<', svg) for svg in charts]


def under(axis: Any) -> tuple[list[str], list[float], str]:
    """What stands under the axes of a figure, where, and their title."""
    ticks = axis.get_xticks()
    return [one.get_text() for one in axis.get_xticklabels()], list(map(float, ticks)), axis.get_xlabel()


def stars(figure: Any) -> list[tuple[float, float]]:
    lines = [line for axis in figure.axes for line in axis.lines if line.get_marker() == "*"]
    return [(float(line.get_xdata()[0]), float(line.get_ydata()[0])) for line in lines]


def test_the_best_probe_has_the_star_everywhere(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = analysis(READS)
    print_analysis(found)
    said = capsys.readouterr().out
    assert re.findall(r"(\d\.\d{4})\*", said) == ["0.8000"]
    assert "none reads more" not in said
    assert as_plain(found)["probes"][0][0]["best"] == 2
    figure = drawn(found, "probes.png", tmp_path, monkeypatch)
    assert stars(figure) == [(2.0, 0.80)]
    assert figure.axes[0].get_title() == "probes of mrpc"
    page = page_of(found)
    assert page.count(">★</text>") == 1
    assert "0.8000*" in page
    assert "none reads more" not in page


def test_where_no_probe_reads_more_than_a_constant_answer_that_is_said_and_nobody_has_a_star(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = analysis(READS_NOTHING)
    print_analysis(found)
    said = capsys.readouterr().out
    assert not re.search(r"\d\*", said)
    assert NONE in said.splitlines()
    assert as_plain(found)["probes"][0][0]["best"] is None
    figure = drawn(found, "probes.png", tmp_path, monkeypatch)
    assert stars(figure) == []
    assert figure.axes[0].get_title() == f"probes of mrpc\n{NONE}"
    page = page_of(found)
    assert ">★</text>" not in page
    assert not re.search(r"\d\*", page)
    assert f"; {NONE}</figcaption>" in page


def test_of_two_models_the_one_is_named_that_reads_nothing(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = analysis(READS, READS_NOTHING)
    print_analysis(found)
    assert f"second: {NONE}" in capsys.readouterr().out.splitlines()
    figure = drawn(found, "probes.png", tmp_path, monkeypatch)
    assert len(stars(figure)) == 1
    assert figure.axes[0].get_title() == f"probes of mrpc\nsecond: {NONE}"
    assert f"; second: {NONE}</figcaption>" in page_of(found)


def test_the_legend_of_the_probes_lies_over_no_curve(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    figure = drawn(analysis(READS, READS_NOTHING), "probes.png", tmp_path, monkeypatch)
    figure.draw_without_rendering()
    (legend,) = figure.legends
    assert [words.get_text() for words in legend.get_texts()] == ["first", "second", "constant answer"]
    assert not any(axis.get_legend() or axis.bbox.overlaps(legend.get_window_extent()) for axis in figure.axes)


DEEP = probed((0.60, 0.69, 0.75, 0.80, 0.78), 3)
DEEP_PLACES = ("embeddings", "0", "1", "2", "3")


def test_of_models_of_two_depths_each_stands_at_the_layers_it_passed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = replace(analysis(READS, DEEP), places=(("embeddings", "1", "3"), DEEP_PLACES))
    (axis,) = drawn(found, "probes.png", tmp_path, monkeypatch).axes
    assert under(axis) == (["0", "1", "2", "3", "4"], [0, 1, 2, 3, 4], "layers passed")
    curves = [list(line.get_xdata()) for line in axis.lines if line.get_label() in found.names]
    assert curves == [[0, 1, 2], [0, 1, 2, 3, 4]]
    assert stars(axis.figure) == [(2.0, 0.80), (3.0, 0.80)]
    assert below(page_of(found), "layers passed") == [["0", "1", "2", "3", "4"]]


@pytest.mark.parametrize("number", [1, 2])
def test_models_of_the_same_layers_stand_under_their_names(
    number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = replace(analysis(*[READS] * number), places=(("embeddings", "1", "4"),) * number)
    (axis,) = drawn(found, "probes.png", tmp_path, monkeypatch).axes
    title = "after layer" if number == 1 else "after layer of the first model"
    assert under(axis) == (["emb", "1", "4"], [0, 1, 2], title)
    assert below(page_of(found), "layers passed") == [["0", "1", "2"]]


def test_other_layers_of_the_same_number_do_not_stand_under_the_names_of_the_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = replace(analysis(READS, READS), places=(("embeddings", "1", "4"), PLACES))
    assert under(drawn(found, "probes.png", tmp_path, monkeypatch).axes[0])[0] == ["0", "1", "2"]


@pytest.mark.parametrize(("layers", "step"), [(6, 1), (24, 1), (25, 2), (96, 4)])
def test_of_very_many_layers_an_axis_leaves_numbers_out(layers: int, step: int) -> None:
    found = replace(analysis(READS), places=(tuple(map(str, range(layers + 1))),))
    assert layers_passed(found) == range(0, layers + 1, step)


def test_what_layers_change_stands_under_their_own_names() -> None:
    found = replace(beside(), places=(("embeddings", "1", "4"), PLACES), cka=())
    assert below(page_of(found), "layer") == [["1", "4"], ["0", "1"]]


@pytest.mark.parametrize("names", [("first",), ("first", "second")])
def test_a_map_of_cka_says_each_model_once(
    names: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = replace(beside(), names=names, similarity=())
    figure = drawn(found, "cka.png", tmp_path, monkeypatch)
    axis = figure.axes[0]
    said = (figure.get_suptitle(), axis.get_ylabel(), axis.get_xlabel())
    assert said == (("first", "", "") if len(names) == 1 else ("", "first", "second"))


def similar(scale: float) -> Similarity:
    """Two layers whose changes and turns are so many times one another's."""
    cosines = (1 - 0.2 * scale, 1 - 0.1 * scale)
    halves = tuple(scale * value for value in (0.10, 0.05, 0.08, 0.03))
    turns = tuple(tuple(scale * 0.1 * max(0, after - before) for after in range(5)) for before in range(5))
    return replace(
        SIMILAR, first_token=cosines, all_tokens=cosines, all_halves=halves, first_halves=halves, apart=turns
    )


SIMILAR = Similarity((0.9, 0.9), (0.9, 0.9), (0.1,) * 4, (0.1,) * 4, ((0.0,) * 5,) * 5)


def test_a_page_is_written_whole_or_refused(tmp_path: Path) -> None:
    file = tmp_path / "a" / "b.html"
    write_page(beside(), file)
    assert file.read_text() == page_of(beside())
    assert file.stat().st_mode & 0o777 == 0o644
    (tmp_path / "file").touch()
    with pytest.raises(LayersearchError, match=r"^the page cannot be written to .*: File exists; name another place$"):
        write_page(beside(), tmp_path / "file" / "b.html")


def beside() -> Analysis:
    """Two models, the second of which turns half as far, and maps whose largest values differ."""
    layers = Map("layers", PLACES, PLACES, np.full((3, 3), 0.5))
    attention = Map("attention", PLACES[1:], PLACES[1:], np.full((2, 2), 0.25))
    names = ("first", "second")
    both = (similar(1.0), similar(0.5))
    return Analysis(names, (PLACES, PLACES), Wanted(), 50, cka=(layers, attention), similarity=both)


@pytest.mark.parametrize("name", ["cka.png", "blocks.png"])
def test_maps_beside_each_other_share_one_scale_and_one_bar(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    figure = drawn(beside(), name, tmp_path, monkeypatch)
    one, other = (axis.images[0].get_clim() for axis in figure.axes if axis.images)
    assert one == other == (0.0, pytest.approx(1.0 if name == "cka.png" else 0.4))
    assert len(figure.axes) == 3  # the third is the bar


def test_no_picture_is_kept_once_it_is_drawn(tmp_path: Path) -> None:
    from matplotlib import pyplot

    before = pyplot.get_fignums()
    assert len(analysis_figures.draw_analysis(replace(beside(), probes=((READS, READS),)), tmp_path)) == 4
    assert pyplot.get_fignums() == before


def test_changes_of_two_models_share_one_scale(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one, other = drawn(beside(), "changes.png", tmp_path, monkeypatch).axes
    assert one.get_ylim() == other.get_ylim()


@pytest.mark.parametrize("models", [1, 2])
def test_the_legend_of_the_changes_lies_over_no_bar(
    models: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = replace(beside(), similarity=beside().similarity[:models], names=("first", "second")[:models], cka=())
    figure = drawn(found, "changes.png", tmp_path, monkeypatch)
    figure.draw_without_rendering()
    (legend,) = figure.legends
    place = legend.get_window_extent()
    said = {words.get_text() for words in legend.get_texts()}
    assert said == {"attention", "FFN", "whole layer", "whole layer, first token"}
    assert not any(axis.get_legend() or axis.bbox.overlaps(place) for axis in figure.axes)
    assert figure.bbox.x0 <= place.x0 < place.x1 <= figure.bbox.x1


def test_the_page_shades_alike_what_is_alike() -> None:
    page = page_of(beside())
    maps = [svg for svg in re.findall(r"<svg.*?</svg>", page, re.DOTALL) if "chart map" in svg]
    shades = [sorted(set(re.findall(r'fill-opacity="([\d.]+)"', svg))) for svg in maps]
    assert shades == [["0.50"], ["0.25"], ["0.50", "1.00"], ["0.25", "0.50"]]
    charts = [svg for svg in re.findall(r"<svg.*?</svg>", page, re.DOTALL) if "1 - cosine" in svg]
    ticks = [re.findall(r'class="tick"[^>]*>([^<]*)<', svg) for svg in charts]
    assert len(ticks) == 2
    assert ticks[0] == ticks[1]
