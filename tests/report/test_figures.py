"""The figure of the front: it is drawn, its names do not lie over each other, and it says when it cannot be written."""

from __future__ import annotations

import struct
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from layersearch.errors import LayersearchError
from layersearch.pattern import Pattern
from layersearch.report import figures
from layersearch.report.figures import draw_all, draw_both, draw_front
from layersearch.report.html import report_of
from layersearch.search.divergence import constant_in
from layersearch.search.purpose import Purpose
from layersearch.search.record import Record, read_study
from layersearch.search.trials import Confirmed
from layersearch.tasks import load_task
from tests.conftest import TinyRun
from tests.report.conftest import LAYERS, make_record


def size_of(png: Path) -> tuple[int, int]:
    """Width and height from a PNG's header."""
    head = png.read_bytes()[:24]
    assert head[:8] == b"\x89PNG\r\n\x1a\n"
    width, height = struct.unpack(">II", head[16:])
    return width, height


@pytest.mark.parametrize("kept", [40, 3, 1, 0])
def test_a_figure_is_drawn_for_many_few_and_no_trials(record: Record, tmp_path: Path, kept: int) -> None:
    draw_front(replace(record, rows=record.rows[:kept]), tmp_path / "front.png")
    assert size_of(tmp_path / "front.png") == (1200, 750)


def test_two_fronts_of_other_objectives_lie_over_parameters(
    by_macs: Record, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    drawn: list[Any] = []
    monkeypatch.setattr(figures, "save", lambda figure, _: drawn.append(figure))
    draw_both([("a", by_macs), ("b", by_macs)], tmp_path / "both.png")
    front = drawn[0].axes[0].lines[0]
    assert list(front.get_xdata()) == [60.0, 90.0, 100.0]
    assert front.get_linestyle() == "None"  # no stairs
    (legend,) = drawn[0].legends
    drawn[0].draw_without_rendering()
    assert [words.get_text() for words in legend.get_texts()] == ["a", "b"]
    assert not drawn[0].axes[0].bbox.overlaps(legend.get_window_extent())


def test_names_lie_inside_the_figure_and_not_over_each_other(
    halves: Record, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept: list[Any] = []
    real = figures._hide_overlapping

    def watched(names: list[Any]) -> None:
        real(names)
        kept.extend(names)

    monkeypatch.setattr(figures, "_hide_overlapping", watched)
    draw_front(halves, tmp_path / "front.png")
    shown = [name.get_window_extent() for name in kept if name.get_visible()]
    assert len(halves.front) == len(kept) >= len(shown) >= 3
    assert not any(a.overlaps(b) for i, a in enumerate(shown) for b in shown[:i])
    assert min(box.x0 for box in shown) > kept[0].axes.get_window_extent().x0


def test_a_figure_that_cannot_be_written_is_an_error(record: Record, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for place in (tmp_path / "file" / "front.png", tmp_path / "file" / "deep" / "front.png", tmp_path / "folder.png"):
        (tmp_path / "folder.png").mkdir(exist_ok=True)
        with pytest.raises(
            LayersearchError, match=rf"^the figure cannot be written to {place}: \w.*; name another place$"
        ):
            draw_front(record, place)


@pytest.mark.parametrize("name", ["front.xyz", "front", "front.jpg"])
def test_another_kind_of_file_is_refused_with_what_is_allowed(record: Record, tmp_path: Path, name: str) -> None:
    with pytest.raises(LayersearchError) as caught:
        draw_front(record, tmp_path / name)
    assert str(caught.value) == f"no figure can be drawn as '{tmp_path / name}': end its name in .png, .pdf or .svg"
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("name", "start"), [("front.pdf", b"%PDF"), ("front.SVG", b"<?xml"), ("a/b/front.png", b"\x89PNG")]
)
def test_every_allowed_kind_is_drawn_and_folders_are_made(
    record: Record, tmp_path: Path, name: str, start: bytes
) -> None:
    draw_front(record, tmp_path / name)
    assert (tmp_path / name).read_bytes().startswith(start)


@pytest.fixture
def legend(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The legend's lines of the figure that a test draws."""
    from matplotlib.figure import Figure

    lines: list[str] = []
    real = Figure.savefig

    def watched(figure: Any, *args: Any, **kwargs: Any) -> None:
        lines.extend(text.get_text() for text in figure.axes[0].get_legend().get_texts())
        real(figure, *args, **kwargs)

    monkeypatch.setattr(Figure, "savefig", watched)
    return lines


def test_the_unchanged_model_has_a_name_and_a_point_of_its_own_where_it_is_beaten(
    record: Record, tmp_path: Path, legend: list[str]
) -> None:
    baseline = record.baseline
    assert baseline is not None
    assert baseline not in record.front
    draw_front(record, tmp_path / "front.png")
    assert legend[0] == "unchanged model (0-11), 95 % interval"
    others = len(record.rows) - len(record.front) - 1
    assert f"other trials ({others})" in legend


def test_the_legend_has_no_line_for_what_is_not_there(record: Record, tmp_path: Path, legend: list[str]) -> None:
    alone = replace(record, rows=tuple(record.front), confirmed={})
    draw_front(alone, tmp_path / "front.png")
    assert legend == ["front on the search split, 95 % intervals"]


def test_a_study_over_classes_knows_what_the_best_constant_answer_scores(tiny_run: TinyRun, tiny_data: Path) -> None:
    labels = load_task("sst2", tiny_data).splits(0.3, 0).search.labels
    rows = read_study(str(tiny_run.storage), "tiny", print).rows
    assert constant_in(rows) == pytest.approx(np.bincount(labels).max() / len(labels), abs=1e-6)


@pytest.mark.parametrize("constant", [0.3, 0.0, None])
def test_the_best_constant_answer_has_a_line_where_it_scores_anything(
    record: Record, tmp_path: Path, legend: list[str], constant: float | None
) -> None:
    known = replace(record, rows=tuple(replace(row, constant=constant) for row in record.rows))
    draw_front(known, tmp_path / "front.png")
    assert (legend[0] == "best constant answer") == bool(constant)
    page = report_of(known)
    assert page.count("of-constant") == (2 if constant else 0)  # in the legend and in the chart
    assert ("<dt>best constant answer</dt>" in page) == (constant is not None)
    assert constant is None or f"<dd>{constant:.4f}</dd>" in page, "no line, and 0 is said"


@pytest.mark.parametrize(("seeds", "said"), [(1, "one fresh seed"), (3, "mean ± sd over 3 fresh seeds")])
def test_the_legend_says_what_a_confirmed_point_is(
    record: Record, tmp_path: Path, legend: list[str], seeds: int, said: str
) -> None:
    spread = None if seeds == 1 else 0.01
    found = {r.pattern: Confirmed(r.pattern, tuple(range(seeds)), (0.5,) * seeds, 0.5, spread) for r in record.front}
    draw_front(replace(record, confirmed=found), tmp_path / "front.png")
    assert legend[-1] == f"confirmed on the validation set, {said}"


@pytest.mark.parametrize(("space", "bars"), [("layers", LAYERS), ("halves", 2 * LAYERS)])
def test_a_layer_has_one_bar_unless_one_of_its_halves_stood_alone(
    space: str, bars: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn: dict[str, Any] = {}
    monkeypatch.setattr(figures, "save", lambda figure, file: drawn.update({file.name: figure}))
    known = make_record(space, 40)
    draw_all(known, tmp_path)
    (axes,) = drawn["layers.png"].axes
    assert len(axes.patches) == bars
    assert (axes.get_legend() is None) == (space == "layers")
    kept = sum(any(block.layer == 0 for block in Pattern.parse(row.pattern).blocks) for row in known.front)
    if space == "layers":
        assert axes.patches[0].get_height() == pytest.approx(100 * kept / len(known.front))


def test_all_pictures_are_drawn_where_there_is_something_to_see(record: Record, tmp_path: Path) -> None:
    named = replace(record, name="$\\frac")  # mathematics to matplotlib, and broken at that
    worked = replace(named, rows=tuple(replace(row, work=0.5) for row in record.rows))
    assert [file.name for file in draw_all(worked, tmp_path)] == ["front.png", "layers.png", "kept.png", "course.png"]
    assert [size_of(tmp_path / f"{name}.png") for name in ("layers", "kept", "course")] == [
        (1200, 480),
        (1200, 540),
        (1200, 540),
    ]
    assert [file.name for file in draw_all(replace(record, rows=()), tmp_path / "empty")] == ["front.png"]


def test_three_objectives_are_drawn_side_by_side(record: Record, tmp_path: Path) -> None:
    rows = tuple(replace(row, costs=(row.parameters or 0, 10**9 + 7 * (row.parameters or 0))) for row in record.rows)
    three = replace(record, rows=rows, purpose=Purpose({"objectives": "parameters,macs"}, "accuracy", "maximize"))
    draw_front(record, tmp_path / "one.png")
    draw_front(three, tmp_path / "two.png")
    assert size_of(tmp_path / "one.png") == (1200, 750)
    assert size_of(tmp_path / "two.png") == (2400, 750)
