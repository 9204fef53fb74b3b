"""Find which layers of a pre-trained transformer a task can do without.

Knows: its version, and `load`, which opens an exported folder. Does not know anything else: importing it loads no heavy
library; the parts are imported by name (`from layersearch.search.run import run`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path

    from transformers import PreTrainedModel

__version__ = "0.1.0"


def load(folder: str | Path) -> tuple[PreTrainedModel, Any]:
    """The model and the tokenizer (of images the image processor) in a folder that layersearch exported.

    Runs no code from the folder. Raises ExportError for a folder that is no such one, or not as it was exported; see
    `layersearch.models.opened.load`.
    """
    from layersearch.models.opened import load as opened

    return opened(folder)
