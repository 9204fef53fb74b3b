"""Small charts as SVG text: axes with round numbers or names, marks, stairs, bands.

Knows: numbers, texts and how to write them safely into a page. Does not know: studies, colours (classes name them; the
page's style gives them), what is drawn.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from itertools import pairwise

WIDTH, HEIGHT = 980.0, 470.0
LEFT, RIGHT, TOP, BOTTOM = 64.0, 16.0, 14.0, 46.0
ROOM = 0.05  # of an axis, beyond the outermost values


def ticks(low: float, high: float, about: int = 6) -> list[float]:
    """Round numbers from `low` to `high`, about so many: steps of 1, 2 or 5 times a power of ten."""
    if not high > low:
        return [low]
    raw = (high - low) / about
    power = 10.0 ** math.floor(math.log10(raw))
    step = power * next(factor for factor in (1, 2, 5, 10) if factor * power >= raw * 0.999)
    return [number * step for number in range(math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9) + 1)]


def label(value: float, step: float) -> str:
    """A number of an axis, with as many decimals as its neighbours need to be told from it."""
    decimals = max(0, -math.floor(math.log10(step) + 1e-9)) if step > 0 else 2
    return f"{value:,.{decimals}f}"


@dataclass(frozen=True)
class Axis:
    """The values `low` to `high` along one side of a chart, with its title; `names` stand in place of round numbers."""

    low: float
    high: float
    title: str
    names: Mapping[float, str] = field(default_factory=dict)

    @classmethod
    def over(
        cls,
        values: Sequence[float],
        title: str,
        *,
        from_zero: bool = False,
        least: float = 0.0,
        names: Mapping[float, str] | None = None,
    ) -> Axis:
        """An axis that holds all `values` with some room beyond them, `least` wide, or that starts at 0."""
        low, high = (min(values), max(values)) if values else (0.0, 1.0)
        low, high = low - max(0.0, least - (high - low)) / 2, high + max(0.0, least - (high - low)) / 2
        room = ROOM * (high - low) or 0.05 * abs(high) or 0.5
        return cls(0.0 if from_zero else low - room, high + room, title, names or {})

    def share(self, value: float) -> float:
        """Where a value lies, 0 at the low end and 1 at the high end."""
        return (value - self.low) / (self.high - self.low)

    def said(self, about: int) -> Mapping[float, str]:
        """What is written at which values: the names, or about so many round numbers."""
        if self.names:
            return self.names
        values = ticks(self.low, self.high, about)
        step = values[1] - values[0] if len(values) > 1 else 0.0
        return {value: label(value, step) for value in values}


@dataclass(frozen=True)
class Chart:
    """A frame of two axes; its methods give what is drawn inside it, in the page's pixels."""

    x: Axis
    y: Axis
    width: float = WIDTH
    height: float = HEIGHT

    def at(self, x: float, y: float) -> tuple[float, float]:
        """The pixel of a point."""
        across = LEFT + self.x.share(x) * (self.width - LEFT - RIGHT)
        return round(across, 1), round(self.height - BOTTOM - self.y.share(y) * (self.height - TOP - BOTTOM), 1)

    def page(self, marks: Sequence[str], about: str) -> str:
        """The whole chart: axes, then `marks` in their order; `about` is its text for those who cannot see it."""
        size = f'viewBox="0 0 {self.width:g} {self.height:g}"'
        inside = "".join([*self._axes(), *marks])
        return f'<svg class="chart" {size} role="img" aria-label="{escape(about)}">{inside}</svg>\n'

    def _axes(self) -> list[str]:
        low, high = self.at(self.x.low, self.y.low), self.at(self.x.high, self.y.high)
        found = []
        for axis, is_x in ((self.x, True), (self.y, False)):
            for value, words in axis.said(8 if is_x else 6).items():
                x, y = self.at(value, self.y.low) if is_x else self.at(self.x.low, value)
                ends = (x, low[1], x, high[1]) if is_x else (low[0], y, high[0], y)
                found.append(_line(ends, "grid"))
                place = (x, y + 18, "middle") if is_x else (x - 8, y + 4, "end")
                found.append(text(*place, words, "tick"))
        middle = (low[1] + high[1]) / 2
        found.append(text((low[0] + high[0]) / 2, self.height - 8, "middle", self.x.title, "title"))
        found.append(
            f'<text class="title" text-anchor="middle" transform="translate(15 {middle:g}) rotate(-90)">'
            f"{escape(self.y.title)}</text>"
        )
        return found

    def line(self, points: Sequence[tuple[float, float]], kind: str) -> str:
        """A line through points."""
        path = " ".join(f"{x:g},{y:g}" for x, y in (self.at(*point) for point in points))
        return f'<polyline class="{kind}" points="{path}"/>'

    def stairs(self, points: Sequence[tuple[float, float]], kind: str, end: float | None = None) -> str:
        """Each point's value until the next point's x, the last one's until `end`."""
        corners = [corner for point, after in _pairs(points) for corner in (point, (after[0], point[1]))]
        last = [points[-1], (end, points[-1][1])] if points and end is not None else list(points[-1:])
        return self.line([*corners, *last], kind)

    def level(self, value: float, kind: str) -> str:
        """A line from side to side."""
        return self.line([(self.x.low, value), (self.x.high, value)], kind)

    def band(self, low: float, high: float, kind: str) -> str:
        """A band from side to side, as far as the chart shows it."""
        left, bottom = self.at(self.x.low, max(low, self.y.low))
        right, top = self.at(self.x.high, min(high, self.y.high))
        size = f'width="{right - left:g}" height="{max(0.0, bottom - top):g}"'
        return f'<rect class="{kind}" x="{left:g}" y="{top:g}" {size}/>'

    def whisker(self, x: float, low: float, high: float, kind: str) -> str:
        """An upright line with a foot at each end."""
        (across, bottom), (_, top) = self.at(x, low), self.at(x, high)
        feet = "".join(f"M{across - 3:g},{y:g}h6" for y in (bottom, top))
        return f'<path class="{kind}" d="M{across:g},{bottom:g}V{top:g}{feet}"/>'

    def dot(self, x: float, y: float, radius: float, kind: str, data: Mapping[str, int] | None = None) -> str:
        """A circle; `data` is what the page's script finds it by."""
        across, down = self.at(x, y)
        return f'<circle class="{kind}" cx="{across:g}" cy="{down:g}" r="{radius:g}"{_data(data)}/>'

    def diamond(self, x: float, y: float, radius: float, kind: str, data: Mapping[str, int] | None = None) -> str:
        """A square on its corner."""
        across, down = self.at(x, y)
        path = f"M{across:g},{down - radius:g}l{radius:g},{radius:g}l-{radius:g},{radius:g}l-{radius:g},-{radius:g}z"
        return f'<path class="{kind}" d="{path}" data-x="{across:g}" data-y="{down:g}"{_data(data)}/>'

    def triangle(self, x: float, y: float, radius: float, kind: str, data: Mapping[str, int] | None = None) -> str:
        """A triangle that stands on its base, with the point at its middle."""
        across, down = self.at(x, y)
        path = f"M{across:g},{down - radius:g}l{radius:g},{1.7 * radius:g}h-{2 * radius:g}z"
        return f'<path class="{kind}" d="{path}" data-x="{across:g}" data-y="{down:g}"{_data(data)}/>'


def text(x: float, y: float, anchor: str, words: str, kind: str) -> str:
    """Words at a place; `anchor` is start, middle or end."""
    return f'<text class="{kind}" x="{x:g}" y="{y:g}" text-anchor="{anchor}">{escape(words)}</text>'


def group(marks: Sequence[str], kind: str) -> str:
    """Marks that are shown or hidden together."""
    return f'<g class="{kind}">{"".join(marks)}</g>'


def _line(ends: tuple[float, float, float, float], kind: str) -> str:
    x1, y1, x2, y2 = ends
    return f'<line class="{kind}" x1="{x1:g}" y1="{y1:g}" x2="{x2:g}" y2="{y2:g}"/>'


def _data(data: Mapping[str, int] | None) -> str:
    return "".join(f' data-{name}="{value}"' for name, value in (data or {}).items())


def _pairs(points: Sequence[tuple[float, float]]) -> list[tuple[tuple[float, float], tuple[float, float]]]:
    return list(pairwise(points))
