"""An empty figure of several axes, in rows.

Knows: matplotlib. Does not know: what is drawn.
"""

from __future__ import annotations

from typing import Any


def panels(number: int, width: float = 4.2, height: float = 3.8, *, across: int = 4) -> tuple[Any, list[Any]]:
    """A figure with so many axes, each of so many inches, at most so many beside each other."""
    from matplotlib.figure import Figure

    columns, rows = min(number, across), -(-number // across)
    figure = Figure(figsize=(width * columns, height * rows), dpi=150, layout="constrained")
    axes = list(figure.subplots(rows, columns, squeeze=False).flat)
    for one in axes[:number]:
        one.grid(alpha=0.25)
    for one in axes[number:]:
        one.remove()
    return figure, axes[:number]
