"""The figure of the front: it is drawn, its names do not lie over each other, and it says when it cannot be written."""

from __future__ import annotations

import struct
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from layersearch.errors import LayersearchError
from layersearch.report import figures
from layersearch.report.figures import draw_front
from layersearch.search.record import Record


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
    with pytest.raises(LayersearchError, match=r"cannot be written to .*No such file"):
        draw_front(record, tmp_path / "absent" / "front.png")
    with pytest.raises(LayersearchError, match=r"cannot be written to .*name a \.png file"):
        draw_front(record, tmp_path / "front.xyz")
