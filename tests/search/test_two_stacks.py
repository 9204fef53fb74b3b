"""A question about a model with an encoder and a decoder: its space, its plan, its lengths."""

from __future__ import annotations

import shutil
from pathlib import Path

from layersearch.search.plan import lines
from layersearch.search.preparing import prepare
from layersearch.search.question import What
from tests.models.tiny_decoders import DECODERS


def test_only_patterns_that_keep_a_layer_of_each_stack_are_asked(
    tiny_model: Path, tiny_data: Path, tmp_path: Path
) -> None:
    """T5 has no limit of positions either, so the usual length is fine."""
    DECODERS["t5"].model().save_pretrained(tmp_path / "t5")
    shutil.copy(tiny_model / "tokenizer.json", tmp_path / "t5")
    question = prepare(What(str(tmp_path / "t5"), "sst2", data=tiny_data, space="layers", method="fine-tune"))
    assert question.counts.depths == (2, 2)
    assert question.space.size(4) == 9
    found = [line.pattern for line in lines(question)]
    assert len(found) == 9
    assert all(pattern.fits((2, 2)) for pattern in found)
    strategies = prepare(What(str(tmp_path / "t5"), "sst2", data=tiny_data, space="sajjad", method="fine-tune")).space
    assert "0-1" not in map(str, strategies.patterns(4))
