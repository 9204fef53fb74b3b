"""What the clock said of built candidates, as a study keeps it, and whether fewer parameters bought time.

Knows: the facts `timed` and `timed_on` of a study. Does not know: clocks, models, SQL.

`timed` holds by pattern, and there by runtime and batch size ("1", "32", "onnx-1", "onnx-32"), nanoseconds: the median
and the 95 % quantile; then the 95 % interval of the time as a share of the unchanged model's, turn by turn, which the
unchanged model itself and studies of earlier versions do not have. `timed_on` says on what.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

Runtime = Literal["PyTorch", "ONNX Runtime"]
Setting = tuple[Runtime, int]

PREFIXES: Mapping[Runtime, str] = {"PyTorch": "", "ONNX Runtime": "onnx-"}
SIZES = (1, 32)  # of a batch


@dataclass(frozen=True)
class Latency:
    """Milliseconds a batch, and the 95 % interval of the share of the unchanged model's time, where it is known."""

    median: float
    p95: float
    share: tuple[float, float] | None = None


def key_of(setting: Setting) -> str:
    """What a study calls a runtime and a batch size."""
    return f"{PREFIXES[setting[0]]}{setting[1]}"


def settings(runtimes: tuple[Runtime, ...] = tuple(PREFIXES)) -> Iterator[Setting]:
    """Every batch size on each of `runtimes`."""
    for runtime in runtimes:
        for size in SIZES:
            yield runtime, size


def times_of(facts: Mapping[str, Any], pattern: str) -> dict[Setting, Latency]:
    """What is known of a pattern, in the order of `settings`."""
    kept = facts.get("timed", {}).get(pattern, {})
    found = {}
    for setting in settings():
        if key_of(setting) in kept:
            median, p95, *share = kept[key_of(setting)]
            found[setting] = Latency(median / 1e6, p95 / 1e6, (share[0], share[1]) if share else None)
    return found


def bought_none(here: Latency, unchanged: Latency | None) -> bool:
    """Whether a time is not below the unchanged model's beyond the noise of the measurement."""
    if here.share is not None:
        return here.share[1] >= 1
    return unchanged is not None and here.median >= unchanged.median


def in_words(setting: Setting) -> str:
    """A setting as a reader sees it."""
    return f"{setting[0]}, batch size {setting[1]}"


def shown(time: Latency) -> str:
    """A time in one line."""
    share = "" if time.share is None else f", {time.share[0]:.1%} to {time.share[1]:.1%} of the unchanged model's"
    return f"{shown_ms(time.median)} ms (p95 {shown_ms(time.p95)}){share}"


def shown_ms(milliseconds: float) -> str:
    """Three digits, or all before the point."""
    return f"{milliseconds:.3g}" if milliseconds < 999.5 else f"{milliseconds:,.0f}"
