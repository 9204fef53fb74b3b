"""An empty figure of several axes beside each other.

Knows: matplotlib. Does not know: what is drawn.
"""

from __future__ import annotations

from typing import Any


def panels(across: int, width: float = 4.2, height: float = 3.8) -> tuple[Any, Any]:
    """A figure with so many axes beside each other, each of so many inches."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width * across, height), dpi=150, layout="constrained")
    axes = figure.subplots(1, across, squeeze=False)[0]
    for one in axes:
        one.grid(alpha=0.25)
    return figure, axes
