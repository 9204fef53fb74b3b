"""The words of a search as a Python caller types them: those of the command line, with their types.

Knows: names and types, for whoever checks them. Does not know: defaults, help, what they decide (`options.py`); a test
holds the two together.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TypedDict

from layersearch.search.question import Keep, Method


class Words(TypedDict, total=False):
    """Every option of `layersearch run` and `layersearch plan`; what is left out has the default it has there."""

    model: str | Path
    task: str
    data: str | Path | None
    space: str | Path
    recipe: str
    lr: float | None
    batch_size: int | None
    epochs: float | None
    warmup: float | None
    weight_decay: float | None
    max_length: int | None
    precision: str | None
    seed: int
    sampler: str
    holdout: float
    revision: str | None
    method: Method
    freeze: str | None
    drop_every: float | None
    mix: str | None
    mix_lr: float | None
    sparsity: float | None
    sparsity_method: str | None
    sparsity_scope: str | None
    sparsity_steps: str | None
    sparsity_lr: float | None
    sparsity_penalty: float | None
    teach: str | None
    start_weights: str | None
    measure_on: str | Path | None
    objectives: str
    max_params: str | None
    max_macs: str | None
    max_latency: str | None
    min_score: str | None
    replay: str | Path | None
    score: str
    where: Sequence[str] | None
    minimize: bool
    text: str | None
    text_pair: str | None
    label: Sequence[str] | None
    metric: str | None
    validation: str | Path | None
    examples: int | None
    trials: int | None
    confirm: int | None
    replicates: int
    keep_checkpoints: Keep
    disk: str | None
    study: str | None
    storage: str | Path
    files: str | Path
    workers: int | None
    device: str
    ray_address: str
    stall_seconds: float
    time: str | None
    until_plateau: bool
    start_from: Sequence[str] | None
