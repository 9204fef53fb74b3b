"""An exported folder is opened again, or proven again, by what its layersearch.json says.

Knows: the forms of a folder, and that no code from it need be run to open it. Does not know: studies, how an export is
made.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from huggingface_hub.errors import StrictDataclassError
from safetensors import SafetensorError
from transformers import AutoConfig, PreTrainedModel

from layersearch.errors import ExportError
from layersearch.models.base import load_reader, quiet
from layersearch.models.case import GRAPH, Case, Proof
from layersearch.models.export import prove
from layersearch.models.folder import AGAIN, damage_in, read_record
from layersearch.models.page import PAGE, class_without_code, page_of, rows_for
from layersearch.models.readout import mix_of
from layersearch.models.surgery import auto_class

ELSEWHERE = 100
"""Times the tolerance of the export that logits may differ by later: another machine or version rounds otherwise."""

_CARD = "README.md"


@dataclass(frozen=True)
class Verdict:
    """What became of an exported folder: `problems` are sentences, none if it is as it was and proven again.

    `files` were compared; `proof` is None where one of them is not as it was, and nothing was opened.
    """

    folder: Path
    files: int
    problems: tuple[str, ...]
    proof: Proof | None = None

    def facts(self) -> dict[str, Any]:
        """What was found as JSON values; whether it holds is whether there is a `proof`."""
        proof = None if self.proof is None else asdict(self.proof) | {"folder": str(self.folder)}
        return {"folder": str(self.folder), "files": self.files, "problems": list(self.problems), "proof": proof}


def load(folder: str | Path) -> tuple[PreTrainedModel, Any]:
    """The model in a folder that layersearch exported, and its tokenizer (of images the image processor).

    Runs no code from the folder: halves are left out by layersearch's own surgery. The model is in evaluation mode, on
    the CPU, and what it saves opens as the folder does. Every file but the card has to be as it was exported. Raises
    ExportError for a folder that is not such a one, or not as it was.
    """
    place = Path(folder)
    record = read_record(place)
    if record["form"] == "onnx":
        raise ExportError(
            f"{place} holds a graph for ONNX Runtime and no weights for PyTorch; open it with "
            f'onnxruntime.InferenceSession("{place / GRAPH}")'
        )
    damage = {name: sentence for name, sentence in damage_in(place, record).items() if name != _CARD}
    if damage:
        raise ExportError(f"{place} is not as it was exported: {'; '.join(damage.values())}; {AGAIN}")
    model = _model_in(place, record)
    return model, load_reader(place, record["kind"])


def _model_in(folder: Path, record: Mapping[str, Any]) -> PreTrainedModel:
    try:
        with quiet():
            auto: Any = auto_class(record["kind"])
            opener = auto if record["form"] == "native" else class_without_code(*_classes(record), auto.__name__)
            model, info = opener.from_pretrained(
                folder, use_safetensors=True, trust_remote_code=False, local_files_only=True, output_loading_info=True
            )
    except (OSError, ValueError, RuntimeError, SafetensorError, StrictDataclassError) as error:
        what = " ".join(str(error).split())[:300].rstrip(".")
        raise ExportError(f"the model in {folder} cannot be opened: {what}; {AGAIN}") from error
    wrong = [name for names in info.values() for name in names]
    if wrong or sum(parameter.numel() for parameter in model.parameters()) != record["proof"]["parameters"]:
        raise ExportError(f"weights and configuration in {folder} do not belong together; export the trial again")
    found: PreTrainedModel = model.eval()
    return found


def _classes(record: Mapping[str, Any]) -> tuple[Any, Any]:
    """The classes of transformers that the folder's model and configuration are made of."""
    config = type(AutoConfig.for_model(record["model_type"]))
    return auto_class(record["kind"])._model_mapping[config], config


def _strange_code(folder: Path, record: Mapping[str, Any]) -> str | None:
    """Why the code of a folder is not to be run: it is not the page that layersearch itself writes for such a model."""
    if record["form"] != "with code":
        return None
    model, auto = _model_in(folder, record), auto_class(record["kind"]).__name__
    rows = rows_for(model, record["model_type"])
    page = page_of(*_classes(record), auto, rows, mixes=mix_of(model) is not None)
    values = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    if any(not name.startswith(f"{Path(PAGE).stem}.") for name in values["auto_map"].values()):
        return f"config.json names other code than that in {PAGE}, which was not run"
    if (folder / PAGE).read_text(encoding="utf-8") != page:
        return (
            f"{PAGE} is not what this version of layersearch writes and was not run; use the version that exported it"
        )
    return None


def verify(folder: Path) -> Verdict:
    """Compare all files of an exported folder with their hashes; then prove it again in a fresh process.

    The proof is that of the export on inputs that lie in the folder, without data: keys, parameters, logits, and
    generation with and without a cache. Code from the folder runs only where it is what layersearch itself writes.
    Raises ExportError for a folder that is not such a one.
    """
    record = read_record(folder)
    damage, files = damage_in(folder, record), len(record["files"])
    if damage:
        return Verdict(folder, files, tuple(damage.values()))
    values = {**record["case"], "texts": (), "code": record["form"] == "with code"}
    values["tolerance"] *= ELSEWHERE
    try:
        if strange := _strange_code(folder, record):
            return Verdict(folder, files, (strange,))
        return Verdict(folder, files, (), prove(folder, Case(**values)))
    except ExportError as error:
        return Verdict(folder, files, (str(error),))
