"""Export as ONNX: a checkpoint of any pattern becomes a folder for ONNX Runtime that is proven right, or nothing.

Knows: what belongs into such a folder, and on which inputs it has to repeat PyTorch's answers. Does not know: the
study, training, the exporter itself, how a fresh process examines a folder.
"""

from __future__ import annotations

from collections.abc import Container, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from transformers import PreTrainedModel

from layersearch.kinds import KINDS, KindName
from layersearch.models import checkpoint
from layersearch.models.base import quiet
from layersearch.models.card import ModelCard
from layersearch.models.case import GRAPH, Case, Proof, Validation
from layersearch.models.export import name_labels, proven_folder, reader_of, require_free
from layersearch.models.matrices import not_zero, zeros_in
from layersearch.models.onnx import require_onnx, with_token_types, write_onnx
from layersearch.models.proof import answers, batch_from, encode, ids_of, made_inputs
from layersearch.models.readout import learnt
from layersearch.models.surgery import family_in

Texts = Sequence[tuple[str, ...]]

TOLERANCE = 1e-4
"""Largest absolute difference of a logit, in units of the largest logit where that is above 1: other kernels than
PyTorch's round otherwise."""


def export_onnx(
    source: Path,
    to: Path,
    tokenizer_folder: Path,
    texts: Texts,
    card: ModelCard,
    max_length: int = 128,
    question: Mapping[str, Any] | None = None,
    validation: Validation | None = None,
) -> Proof:
    """Write the checkpoint in the folder `source` as `to/model.onnx` with configuration and tokenizer, proven.

    Any pattern goes; batch and length stay open. `texts` are real examples, each of one text or a pair; `validation` is
    what the score is compared on, `question` what the weights can be made again by. `to` gets its name only after a
    fresh process has repeated the answers with ONNX Runtime, at other batches and lengths than the traced ones too; on
    any error nothing is left behind. Raises ExportError (the extra is not installed, the exporter cannot do this
    family, a folder that is not empty, a failed proof with its numbers), ModelError (a damaged checkpoint),
    LayersearchError (no room on the disk).
    """
    require_onnx()
    require_free(to)
    model, manifest = checkpoint.load(source)
    learned = learnt(model, manifest.pattern)
    card = replace(card, form="onnx", mix=learned, zeros=zeros_in(model), non_zero=not_zero(model))
    name_labels(model, card.labels)
    reader = reader_of(tokenizer_folder, model, manifest.kind)

    def write(part: Path) -> Case:
        with quiet():
            model.config.save_pretrained(part)
            reader.save_pretrained(part)
        traced = encode(reader, _two(texts), max_length)
        case = _case(model, reader, texts, max_length, manifest.kind, traced)
        write_onnx(model, traced, part / GRAPH, manifest.kind)
        return replace(case, zeros=card.zeros) if "sparsity" in card.recipe else case

    return proven_folder(to, 2 * manifest.size, write, model, reader, manifest, card, question, validation)


def _two(texts: Texts) -> list[list[str]]:
    """The two texts to trace with; an exporter takes a batch of one for one that is always one."""
    return [list(text) for text in (*texts, *texts)[:2]]


def _case(
    model: PreTrainedModel, reader: Any, texts: Texts, max_length: int, kind: KindName, takes: Container[str]
) -> Case:
    """What PyTorch answers: to all texts in one batch, to the shortest and the longest alone, to some cut short.

    `takes` are the names of the graph's inputs.
    """
    ordered = sorted(texts, key=lambda text: sum(map(len, text)))
    alone = [(ordered[:1], max_length), (ordered[-1:], max_length), (ordered[-3:], max(4, max_length // 4))]
    every, *others = (_batch(model, reader, some, length) for some, length in [(texts, max_length), *alone])
    made = made_inputs(model, kind)
    there = answers(model, with_token_types(batch_from(made), takes))
    largest = max(1.0, there.abs().max().item(), *(abs(value) for value in _flat(every["logits"])))
    return Case(
        **every,
        parameters=sum(parameter.numel() for parameter in model.parameters()),
        tolerance=TOLERANCE * largest,
        head=KINDS[kind].head,
        reader=KINDS[kind].reader,
        made=made | {"logits": there.tolist()},
        kind=kind,
        left=family_in(model).pads_left,
        graph=True,
        others=tuple(others),
    )


def _batch(model: PreTrainedModel, reader: Any, texts: Texts, max_length: int) -> dict[str, Any]:
    batch = encode(reader, [list(text) for text in texts], max_length)
    logits = answers(model, batch).tolist()
    return {"texts": tuple(texts), "max_length": max_length, "input_ids": ids_of(batch), "logits": logits}


def _flat(values: Any) -> list[float]:
    return [leaf for value in values for leaf in _flat(value)] if isinstance(values, list) else [values]
