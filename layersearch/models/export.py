"""Export: a checkpoint becomes a Hugging Face folder that is proven to open, or nothing.

Knows: which patterns plain transformers can open, what belongs into such a folder, and how to have it examined by a
fresh process before it gets its name. Does not know: the study, training, or where the card's facts come from.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import load_file
from transformers import PreTrainedModel

from layersearch.counts import count
from layersearch.durable import unwritable
from layersearch.errors import ExportError, WordsError
from layersearch.kinds import KINDS, KindName
from layersearch.models import checkpoint
from layersearch.models.base import load_reader, quiet
from layersearch.models.card import ModelCard, write_card
from layersearch.models.case import Case, Proof, Validation
from layersearch.models.checkpoint import Manifest
from layersearch.models.families import Form, form_of, has_halves
from layersearch.models.folder import write_record
from layersearch.models.matrices import matrices_of, not_zero, zeros_in
from layersearch.models.page import write_page
from layersearch.models.proof import ANSWERS, answers, batch_from, encode, ids_of, kept, made_inputs, write_encoded
from layersearch.models.readout import learnt
from layersearch.models.surgery import family_in, layers_of
from layersearch.models.tying import untie
from layersearch.pattern import Pattern
from layersearch.tasks.task import Examples

SHARD = "5GB"

MOST_EXAMPLES, MOST_IMAGES, MOST_LETTERS = 512, 64, 400_000  # of the validation set, for the score

TOLERANCE = 1e-5
"""Largest absolute difference of a fp32 logit, in units of the largest logit where that is above 1."""

_PATIENCE = 600.0
"""Seconds after which a fresh process that does not answer is given up."""


def check_exportable(pattern: Pattern, model_type: str, form: Form | None = None) -> Form:
    """The form of an export, the pattern's own unless `form` is asked for. Raises WordsError where that cannot be."""
    own = form_of(pattern, model_type)
    if form == "native" and own != "native":
        mixes = "mixes its layers" if pattern.mixes else "does not begin with layer 0, or has it again"
        why = mixes if pattern.is_whole else "has halved layers"
        such = "that reads its last layer" if pattern.mixes else "with whole layers only"
        raise WordsError(
            f"the pattern `{pattern}` {why}, and plain transformers code has no such {model_type or 'model'}; export "
            f"it with code, choose a trial {such}, or search the space `layers`, which has no others"
        )
    if form == "with code" and own != form and not has_halves(model_type):
        raise WordsError(
            f"the layers of {model_type} models come whole only, and plain transformers code opens those; export the "
            "trial native"
        )
    return form or own


def export(
    source: Path,
    to: Path,
    tokenizer_folder: Path,
    texts: Sequence[tuple[str, ...]],
    card: ModelCard,
    max_length: int = 128,
    question: Mapping[str, Any] | None = None,
    form: Form | None = None,
    validation: Validation | None = None,
    shard: str = SHARD,
) -> Proof:
    """Write the checkpoint in the folder `source` as a Hugging Face folder `to`, proven in a fresh process.

    `texts` are at least one real example, each of one text or a pair; a few dozen are plenty. The tokenizer is the base
    model's. `question` are JSON values by which the weights can be made again. Tied copies leave as layers of their own
    with equal values, so the folder has more parameters than the candidate. `form` is the pattern's own unless given;
    `validation` is what the score is compared on; no file of weights is larger than `shard`, as transformers spells
    sizes. `to` gets its name only after the proof; on any error nothing is left behind. Raises ExportError (a form that
    cannot be, a folder that is not empty, a failed check with its numbers), ModelError (a damaged checkpoint),
    LayersearchError (no room on the disk).
    """
    found = checkpoint.read(source)
    form = check_exportable(found.pattern, found.config["model_type"], form)
    require_free(to)
    model, manifest = checkpoint.load(source)
    matrices, zeros = tuple(matrices_of(model)), zeros_in(model)  # before tied copies become layers of their own
    learned = learnt(model, manifest.pattern)
    card = replace(card, form=form, mix=learned, zeros=zeros, non_zero=not_zero(model))
    untie(layers_of(model), manifest.pattern)  # plain transformers code ties no layers
    name_labels(model, card.labels)
    reader = reader_of(tokenizer_folder, model, manifest.kind)
    coded = manifest.pattern if form == "with code" else None

    def write(part: Path) -> Case:
        case = write_folder(model, reader, part, texts, max_length, manifest.kind, coded, shard)
        return replace(case, matrices=matrices, zeros=zeros) if zeros[0] and "sparsity" in card.recipe else case

    return proven_folder(to, _bytes_of(model), write, model, reader, manifest, card, question, validation)


def proven_folder(
    to: Path,
    needed: int,
    write: Callable[[Path], Case],
    model: PreTrainedModel,
    reader: Any,
    manifest: Manifest,
    card: ModelCard,
    question: Mapping[str, Any] | None,
    validation: Validation | None,
) -> Proof:
    """Make the folder `to` of what `write` puts into one and tells of it, with the proof, a card and a record.

    `needed` are the bytes that there must be room for. `to` gets its name only after the proof; on any error nothing is
    left behind. Raises as `export` does.
    """
    try:
        with checkpoint.new_folder(to, needed=needed) as part:
            case = write(part)
            proof = proven(model, reader, part, case, validation)
            card = replace(card, own=proof.own)
            (part / "README.md").write_text(write_card(card, manifest), encoding="utf-8")
            _write_facts(part, proof, case, manifest, card, question)
    except OSError as error:
        raise ExportError(f"cannot write {to}: {error.strerror or error}; choose another folder") from error
    return replace(proof, folder=to)


def name_labels(model: PreTrainedModel, labels: Sequence[str]) -> None:
    """Let the configuration call the classes by `labels`, in the order of the outputs; none leaves it as it is."""
    if labels:
        model.config.id2label = dict(enumerate(labels))
        model.config.label2id = {label: number for number, label in enumerate(labels)}


def write_folder(
    model: PreTrainedModel,
    tokenizer: Any,
    folder: Path,
    texts: Sequence[tuple[str, ...]],
    max_length: int,
    kind: KindName = "classification",
    coded: Pattern | None = None,
    shard: str = SHARD,
) -> Case:
    """Write weights, configuration and tokenizer to `folder`, and tell what somebody who opens it has to find.

    `model` is in evaluation mode, on the CPU; `coded` its pattern where the folder is to come with code.
    """
    with quiet():
        model.save_pretrained(folder, max_shard_size=shard, save_original_format=coded is None)
        tokenizer.save_pretrained(folder)
    if coded is not None:
        write_page(folder, model, coded, KINDS[kind].head)
    batch = encode(tokenizer, [list(text) for text in texts], max_length)
    logits, made = answers(model, batch), made_inputs(model, kind)
    return Case(
        texts=tuple(texts),
        max_length=max_length,
        input_ids=ids_of(batch),
        logits=logits.tolist(),
        parameters=sum(parameter.numel() for parameter in model.parameters()),
        tolerance=TOLERANCE * max(1.0, logits.abs().max().item()),
        head=KINDS[kind].head,
        reader=KINDS[kind].reader,
        made=made | {"logits": answers(model, batch_from(made)).tolist()},
        kind=kind,
        code=coded is not None,
        left=family_in(model).pads_left,
    )


def proven(model: PreTrainedModel, reader: Any, folder: Path, case: Case, validation: Validation | None) -> Proof:
    """The proof of `folder` against `model`, with the score of both on `validation` where there is one.

    The scores are equal; or, of a runtime that rounds otherwise, the answers that they are made of are, within the
    tolerance of the logits: an example between two classes may fall to either.
    """
    if validation is None:
        return prove(folder, case)
    task, some = validation.task, first_of(validation)
    scored = task.encode(some, reader, case.max_length)
    mine = kept(model, case.kind, scored, left=case.left)
    here = task.score(mine, scored)[task.metric]
    with tempfile.TemporaryDirectory(prefix="layersearch-") as scratch:
        file = Path(scratch) / "examples"
        write_encoded(scored, file)
        proof = prove(folder, replace(case, measured=str(file)))
        theirs = load_file(f"{file}{ANSWERS}")["answers"]
    there = task.score(theirs, scored)[task.metric]
    alike = mine.shape == theirs.shape and np.allclose(theirs, mine, rtol=0, atol=case.tolerance)
    if not alike and not abs(here - there) <= TOLERANCE * max(1.0, abs(here)):
        raise ExportError(
            f"the exported folder did not pass its proof: {task.metric} on {count(len(some), 'example')} of "
            f"the validation set: {there:.6f} instead of {here:.6f}"
        )
    return replace(proof, metric=task.metric, score=here, scored=len(some), examples=len(validation.examples))


def first_of(validation: Validation) -> Examples:
    """As many examples as are scored in reasonable time on a CPU, from the first one on."""
    examples, images = validation.examples, KINDS[validation.task.kind].reader == "AutoImageProcessor"
    number = letters = 0
    for text in examples.text:
        number, letters = number + 1, letters + len(text)
        if number == (MOST_IMAGES if images else MOST_EXAMPLES) or letters > MOST_LETTERS:
            break
    return examples.take(np.arange(number))


def prove(folder: Path, case: Case) -> Proof:
    """Have a fresh, offline process open `folder` with plain transformers and compare. Raises ExportError."""
    started = time.perf_counter()
    answer = _examine(folder, case)
    if answer["failed"]:
        raise ExportError(f"the exported folder did not pass its proof: {'; '.join(answer['failed'])}")
    return Proof(
        folder=folder,
        head=case.head,
        inputs=len(case.texts) or len(case.made["logits"]),
        parameters=case.parameters,
        max_difference=answer["max_difference"],
        tolerance=case.tolerance,
        seconds=time.perf_counter() - started,
        form=case.form,
        cached=answer["cached"],
        zeros=case.zeros,
    )


def _examine(folder: Path, case: Case) -> dict[str, Any]:
    return examine_all([(folder, case)])[0]


def examine_all(cases: Sequence[tuple[Path, Case]]) -> list[dict[str, Any]]:
    """What `proof.examine` says of each folder, from one fresh process that is offline. Raises ExportError."""
    with tempfile.TemporaryDirectory(prefix="layersearch-") as scratch:
        file = Path(scratch) / "cases.json"
        listed = [asdict(case) | {"folder": str(folder.absolute())} for folder, case in cases]
        file.write_text(json.dumps(listed), encoding="utf-8")
        command = [sys.executable, "-m", "layersearch.models.proof", str(file)]
        alone = {"HF_HUB_OFFLINE": "1", "HF_MODULES_CACHE": f"{scratch}/modules"}
        try:
            done = subprocess.run(
                command, env=os.environ | alone, capture_output=True, text=True, timeout=_PATIENCE, check=False
            )
        except subprocess.TimeoutExpired as error:
            raise ExportError(f"the proof of the export took more than {_PATIENCE:.0f} s; try again") from error
    if done.returncode != 0:
        reason = next(iter(done.stderr.strip().splitlines()[-1:]), f"exit status {done.returncode}")
        raise ExportError(f"the exported folder could not be opened in a fresh process: {reason}")
    answer: list[dict[str, Any]] = json.loads(done.stdout.strip().splitlines()[-1])
    return answer


def _bytes_of(model: PreTrainedModel) -> int:
    """What the weights take in a file; tied copies must have left already, a folder holds each of them."""
    return sum(parameter.nbytes for parameter in model.parameters())


def reader_of(folder: Path, model: PreTrainedModel, kind: KindName) -> Any:
    """The tokenizer as strangers will use it: it pads, and tells token types, as the model was trained."""
    reader = load_reader(folder, kind)
    if not hasattr(reader, "init_kwargs"):  # of images
        return reader
    for how_opened in ("is_local", "local_files_only"):  # transformers would write both into the folder
        reader.init_kwargs.pop(how_opened, None)
    if reader.pad_token is None:
        reader.pad_token = reader.eos_token
    if KINDS[kind].labelled and model.config.pad_token_id is not None:
        reader.pad_token = reader.convert_ids_to_tokens(model.config.pad_token_id)
        reader.padding_side = "left" if family_in(model).pads_left else "right"
        reader.init_kwargs["padding_side"] = reader.padding_side  # or transformers does not write it
    if not KINDS[kind].labelled:  # text that only goes on has no parts
        reader.model_input_names = [name for name in reader.model_input_names if name != "token_type_ids"]
        reader.init_kwargs["model_input_names"] = reader.model_input_names
    return reader


def require_free(to: Path) -> None:
    """Raise ExportError where the folder `to` cannot be made, or holds something."""
    reason = unwritable(to.absolute().parent)
    if reason is not None:
        raise ExportError(f"cannot write {to}: {reason}; choose another folder")
    if to.exists() and not (to.is_dir() and not any(to.iterdir())):
        raise ExportError(f"{to} exists and is not an empty folder; choose a new folder, nothing was written")


def _write_facts(
    folder: Path, proof: Proof, case: Case, manifest: Manifest, card: ModelCard, question: Mapping[str, Any] | None
) -> None:
    again = asdict(replace(case, texts=(), input_ids=[], logits=[], measured=None, others=()))
    facts = {
        "pattern": str(manifest.pattern),
        "form": proof.form,
        "kind": manifest.kind,
        "model_type": manifest.config["model_type"],
        "source_layers": manifest.source_layers,
        "proof": {key: value for key, value in asdict(proof).items() if key != "folder"},
        "case": again,
        "card": asdict(card),
        "checkpoint": dict(manifest.extras),
        **({} if question is None else {"question": question}),
    }
    write_record(folder, facts)
