"""Figures for people's eyes and papers, as PNG.

Knows: matplotlib and the record of a study. Does not know: SQL, terminals, models.
"""

from __future__ import annotations

from pathlib import Path

from layersearch.errors import LayersearchError
from layersearch.search.record import Record
from layersearch.search.trials import Row


def draw_front(record: Record, file: Path) -> None:
    """Every complete trial and the front: score over the share of parameters, intervals, baseline, confirmation.

    Raises LayersearchError if `file` cannot be written.
    """
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(8, 5), layout="constrained")
    whole = record.parameters
    front = record.front
    others = [r for r in record.rows if r.done and r.number not in {f.number for f in front}]
    axes.scatter(*_points(others, whole), s=18, color="0.65", label=f"other trials ({len(others)})", zorder=2)
    axes.errorbar(
        *_points(front, whole),
        yerr=_whiskers(front),
        fmt="o-",
        color="#1f5fa8",
        capsize=3,
        linewidth=1.2,
        label="front, with 95 % intervals",
        zorder=3,
    )
    _annotate(axes, front, whole)
    confirmed = [(r, record.confirmed[r.pattern]) for r in front if r.pattern in record.confirmed]
    if confirmed:
        axes.errorbar(
            [(r.parameters or 0) / whole * 100 for r, _ in confirmed],
            [c.mean for _, c in confirmed],
            yerr=[c.spread or 0.0 for _, c in confirmed],
            fmt="D",
            color="#c2571a",
            markersize=5,
            capsize=3,
            label="confirmed on the validation set, mean ± sd over seeds",
            zorder=4,
        )
    if record.baseline is not None and record.baseline.score is not None:
        axes.axhline(record.baseline.score, color="0.4", linestyle="--", linewidth=1, label="unchanged model")
    axes.set_xlabel("parameters, % of the unchanged model")
    axes.set_ylabel(f"{record.purpose.metric} (search split)")
    axes.set_title(record.name)
    axes.grid(alpha=0.25)
    axes.legend(loc="best", fontsize=8)
    try:
        figure.savefig(file, dpi=150)
    except (OSError, ValueError) as error:
        raise LayersearchError(f"the figure cannot be written to {file}: {error}") from error
    finally:
        pyplot.close(figure)


def _points(rows: list[Row], whole: int) -> tuple[list[float], list[float]]:
    return [(r.parameters or 0) / whole * 100 for r in rows], [r.score or 0.0 for r in rows]


def _whiskers(rows: list[Row]) -> list[list[float]]:
    """Distances from the score down and up to its interval."""
    lows = [max(0.0, (r.score or 0.0) - r.interval[0]) if r.interval else 0.0 for r in rows]
    highs = [max(0.0, r.interval[1] - (r.score or 0.0)) if r.interval else 0.0 for r in rows]
    return [lows, highs]


def _annotate(axes: object, rows: list[Row], whole: int) -> None:
    for row in rows:
        axes.annotate(  # type: ignore[attr-defined]
            row.pattern,
            ((row.parameters or 0) / whole * 100, row.score or 0.0),
            textcoords="offset points",
            xytext=(6, -10),
            fontsize=7,
        )
