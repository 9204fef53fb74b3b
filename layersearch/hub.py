"""Where base models and data sets come from: a folder, an installed Python package, or the Hugging Face hub.

Knows: what a model folder must hold, the local cache, and how to tell within two seconds that the hub is away. Does not
know: what is done with a model or data set. No code of a model, package or data set is run.
"""

from __future__ import annotations

import hashlib
import http.client
import importlib.util
import os
import re
import threading
import urllib.error
import urllib.request
from pathlib import Path
from typing import TYPE_CHECKING, Any

from layersearch.errors import DataError, LayersearchError, ModelError, WordsError

if TYPE_CHECKING:
    from collections.abc import Iterator

_PATIENCE = 1.5
_HUB_NAME = re.compile(r"[\w.-]+(/[\w.-]+)?")
_SMALL = ["*.json", "*.txt", "*.model"]  # the configuration, and what makes the inputs
_WANTED = [*_SMALL, "*.safetensors"]
_TOKENIZER = ("tokenizer.json", "vocab.txt", "vocab.json", "merges.txt", "*.model")
_PROCESSOR = "preprocessor_config.json"  # what a model of images has in place of a tokenizer


def local_model(
    model: str, revision: str | None = None, *, weights: bool = True, option: str = "--model"
) -> tuple[Path, str]:
    """The folder of a base model (config.json, *.safetensors, tokenizer or processor) and the revision it is at.

    `model` is a folder, `package:NAME/FOLDER` inside an installed Python package, or a hub name (`name` or
    `owner/name`). The revision of a folder is `local-` and 12 hex digits of the sha256 over its config, weights and
    tokenizer; that of a hub model is its commit. A copy in the local cache is taken as it is; only without one is the
    hub asked. Without `weights` a folder need hold config.json only, weights are neither fetched nor read, and the
    revision of a folder leaves them out. Raises ModelError, which offers `option` where the hub is away.
    """
    if model.startswith("package:"):
        return _given_folder(_package_folder(model), revision, weights)
    if model.startswith(("/", ".", "~")) or os.path.exists(model):
        return _given_folder(Path(os.path.expanduser(model)), revision, weights)
    folder = _cached_model(model, revision, weights) or _fetched_model(model, revision, weights, option)
    return folder, folder.name


def hub_dataset(repository: str, config: str) -> Any:
    """The `datasets.DatasetDict` of one configuration of a hub data set, or its copy in the local cache.

    Raises DataError where the hub has no such data set, or cannot be reached and the cache has no copy.
    """
    import datasets  # type: ignore[import-untyped]
    import httpx2

    what = f"data set {repository} ({config})"
    away = why_unreachable()
    asked_offline = datasets.config.HF_HUB_OFFLINE
    # Told that it is offline, `datasets` looks into its cache at once; else it would try the hub for 23 s first.
    datasets.config.HF_HUB_OFFLINE = asked_offline or away is not None
    try:
        return datasets.load_dataset(repository, config)
    except (OSError, ValueError, httpx2.HTTPError, datasets.exceptions.DatasetsError) as problem:
        if away is not None:
            raise DataError(_away(what, away, "--data FOLDER")) from None
        raise DataError(f"{what} cannot be read from the hub: {_first_line(problem)}; give --data FOLDER") from problem
    finally:
        datasets.config.HF_HUB_OFFLINE = asked_offline


def require_reachable(what: str, instead: str, error: type[LayersearchError]) -> None:
    """Raise `error` within two seconds where the hub cannot be asked for `what`; `instead` names the way out."""
    if (away := why_unreachable()) is not None:
        raise error(_away(what, away, instead))


def why_unreachable() -> str | None:
    """None where the hub answers, else the reason in a few words; takes at most two seconds.

    One knock with a short time limit, in a thread because name resolution obeys no limit. Any answer counts, also a
    refusal. `huggingface_hub` itself would try five times in 23 s (FACTS.md 3.4, D1).
    """
    from huggingface_hub import constants

    if constants.is_offline_mode():
        return "offline mode is on (HF_HUB_OFFLINE)"
    answers: list[str] = []
    knock = threading.Thread(target=_knock, args=(constants.ENDPOINT, answers), daemon=True)
    knock.start()
    knock.join(_PATIENCE + 0.1)
    reason = answers[0] if answers else f"no answer in {_PATIENCE} s"
    return f"the hub at {constants.ENDPOINT} cannot be reached ({reason})" if reason else None


def _knock(endpoint: str, answers: list[str]) -> None:
    """Append why `endpoint` does not answer, or an empty text where it does."""
    try:
        urllib.request.urlopen(urllib.request.Request(endpoint, method="HEAD"), timeout=_PATIENCE).close()
    except urllib.error.HTTPError as answer:
        answer.close()
    except (OSError, ValueError, http.client.HTTPException) as problem:
        answers.append(_first_line(getattr(problem, "reason", problem)))
        return
    answers.append("")


def _away(what: str, reason: str, instead: str) -> str:
    return f"{what} is not on this machine and {reason}: give {instead}, or run again when the hub can be reached"


def _first_line(problem: object) -> str:
    return (str(problem).strip() or type(problem).__name__).splitlines()[0].rstrip(".")


def _package_folder(model: str) -> Path:
    """The folder that `package:NAME/FOLDER` names; finds the package without importing it."""
    name, _, inside = model.removeprefix("package:").partition("/")
    package = importlib.util.find_spec(name) if name.isidentifier() else None
    if package is None or not package.submodule_search_locations:
        raise ModelError(f"model {model!r}: no Python package {name!r} is installed; install it, or give a folder")
    return Path(package.submodule_search_locations[0]) / inside


def _given_folder(folder: Path, revision: str | None, weights: bool) -> tuple[Path, str]:
    if revision is not None:
        raise WordsError(f"model folder {folder} has no revisions, {revision!r} was asked for: leave out --revision")
    if not os.path.isdir(folder):
        raise ModelError(f"model folder {folder} does not exist: give an existing folder or a hub name")
    if lacking := _lacking(folder, weights):
        raise ModelError(f"model folder {folder} {lacking}")
    return folder, f"local-{_content_hash(folder, weights)}"


def _lacking(folder: Path, weights: bool) -> str:
    """What a model folder misses, as the end of a sentence; empty where it is complete."""
    if not (folder / "config.json").is_file():
        return f"has no config.json{_listing(folder)}: save the model with save_pretrained"
    if not weights:
        return ""
    if not any(folder.glob("*.safetensors")):
        if any(folder.glob("*.bin")):
            return "holds its weights as .bin only: layersearch reads safetensors only, save it with save_pretrained"
        return f"has no *.safetensors{_listing(folder)}: save the model with save_pretrained"
    if not any(_reader_files(folder)):
        lacking = f"has no tokenizer ({', '.join(_TOKENIZER)}) and no image processor ({_PROCESSOR})"
        return f"{lacking}{_listing(folder)}: save it there with save_pretrained"
    return ""


def _listing(folder: Path) -> str:
    names = sorted(path.name for path in folder.iterdir())
    return f" (it holds {', '.join(names[:6])}{', ...' if len(names) > 6 else ''})" if names else " (it is empty)"


def _reader_files(folder: Path) -> Iterator[Path]:
    return (path for pattern in (*_TOKENIZER, _PROCESSOR) for path in sorted(folder.glob(pattern)))


def _content_hash(folder: Path, weights: bool) -> str:
    digest = hashlib.sha256()
    heavy = sorted(folder.glob("*.safetensors")) if weights else ()
    for path in (folder / "config.json", *heavy, *_reader_files(folder)):
        with path.open("rb") as file:
            digest.update(path.name.encode() + hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()[:12]


def _cached_model(model: str, revision: str | None, weights: bool) -> Path | None:
    """The model's folder in the local cache, or None where it is not there or not whole."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HFValidationError, LocalEntryNotFoundError

    try:
        if not _HUB_NAME.fullmatch(model):
            raise HFValidationError
        wanted = _WANTED if weights else _SMALL
        folder = Path(snapshot_download(model, revision=revision, allow_patterns=wanted, local_files_only=True))
    except LocalEntryNotFoundError:
        return None
    except HFValidationError:
        allowed = "give a folder, name, owner/name or package:NAME/FOLDER"
        raise ModelError(f"model {model!r} does not exist as a folder and is no hub name: {allowed}") from None
    return None if _lacking(folder, weights) else folder


def _fetched_model(model: str, revision: str | None, weights: bool, option: str) -> Path:
    import httpx2
    from huggingface_hub import constants, snapshot_download
    from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError, RevisionNotFoundError

    require_reachable(f"model {model}", f"{option} FOLDER", ModelError)
    hub = f"the hub at {constants.ENDPOINT}"
    try:
        wanted = _WANTED if weights else _SMALL
        folder = Path(snapshot_download(model, revision=revision, allow_patterns=wanted))
    except GatedRepoError:
        raise ModelError(f"model {model} is gated: accept its terms on {hub} and log in with `hf auth login`") from None
    except RepositoryNotFoundError:
        raise ModelError(f"there is no model {model} on {hub}, or it is private: check the name, or log in") from None
    except RevisionNotFoundError:
        raise ModelError(f"model {model} on {hub} has no revision {revision!r}: name a branch, tag or commit") from None
    except (OSError, httpx2.HTTPError) as problem:
        raise ModelError(f"model {model} cannot be fetched from {hub}: {_first_line(problem)}; try again") from problem
    if lacking := _lacking(folder, weights):
        raise ModelError(f"model {model} on {hub} {lacking}")
    return folder
