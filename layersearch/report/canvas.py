"""An empty figure, a legend below one, and a figure on the disk.

Knows: matplotlib, the formats that a figure can have. Does not know: studies, what is drawn.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from layersearch.errors import LayersearchError, WordsError

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

FORMATS = (".png", ".pdf", ".svg")


def require_format(file: Path) -> None:
    """Raise WordsError if `file` has none of FORMATS."""
    if file.suffix.lower() not in FORMATS:
        allowed = f"{', '.join(FORMATS[:-1])} or {FORMATS[-1]}"
        raise WordsError(f"no figure can be drawn as {str(file)!r}: end its name in {allowed}")


def new_axes(width: float = 8, height: float = 5) -> tuple[Figure, Axes]:
    """An empty figure of so many inches; none of pyplot's, which would choose the backend of a notebook."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), dpi=150, layout="constrained")
    axes = figure.subplots()
    axes.grid(alpha=0.25)
    return figure, axes


def legend_below(figure: Figure, axis: Axes, columns: int = 3) -> None:
    """One legend for all axes, which is that of `axis`, where it lies over nothing that is drawn."""
    legend = figure.legend(*axis.get_legend_handles_labels(), loc="outside lower center", ncols=columns, fontsize=8)
    for words in legend.get_texts():
        words.set_parse_math(False)


def save(figure: Figure, file: Path) -> None:
    """Write `figure` to `file`, making the folders above it. Raises LayersearchError where that cannot be done."""
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(file)
    except OSError as error:
        raise LayersearchError(
            f"the figure cannot be written to {file}: {error.strerror or error}; name another place"
        ) from error
