"""A proven folder goes to the Hugging Face hub, or stays what it is: one line says why.

Knows: the repository, its visibility, what the hub may answer. Does not know: what is in the folder, how it was made.
"""

from __future__ import annotations

import sys
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING

from layersearch import hub
from layersearch.errors import ExportError, WordsError

if TYPE_CHECKING:
    from huggingface_hub import HfApi


def check_push(repo: str | None, *, public: bool) -> None:
    """Raise WordsError for words about the hub that are wrong, before anything is made."""
    if repo is not None:
        check_repository(repo)
    elif public:
        raise WordsError("--public says who may see what is pushed; add --push-to-hub REPO, or leave it out")


def check_repository(repo: str) -> None:
    """Raise WordsError for a text that names no repository on the hub."""
    from huggingface_hub.errors import HFValidationError
    from huggingface_hub.utils._validators import validate_repo_id

    try:
        validate_repo_id(repo)
    except HFValidationError:
        raise WordsError(
            f"--push-to-hub {repo} is no name of a repository; allowed: NAME, or OWNER/NAME, of letters, digits, -, _ "
            "and ."
        ) from None


def push(folder: Path, repo: str, *, public: bool = False) -> str:
    """Upload an exported `folder` to the new repository `repo`, private unless `public`; its address on the hub.

    A repository that an upload which broke off has left empty is taken. Raises ExportError where nothing could be
    uploaded; the folder stays as it is.
    """
    import httpx2
    from huggingface_hub import HfApi, get_token

    then = f"then run `hf upload {quote(repo)} {quote(str(folder))}{'' if public else ' --private'}`"
    if get_token() is None:
        raise ExportError(
            f"not pushed: there is no token for the hub; log in with `hf auth login` or set HF_TOKEN, {then}"
        )
    if (away := hub.why_unreachable()) is not None:
        raise ExportError(f"not pushed: {away}; wait until it can be, {then}")
    api = HfApi()
    try:
        name = _made(api, repo, public)
        if name is None:
            raise ExportError(
                f"not pushed: the repository {repo} is there and holds files; choose another --push-to-hub, or remove "
                f"them, {then}"
            )
        _quiet_elsewhere()
        api.upload_folder(repo_id=name, folder_path=folder, commit_message="Exported by layersearch")
    except (OSError, ValueError, RuntimeError, httpx2.HTTPError) as problem:
        raise ExportError(f"not pushed: {_reason(problem, repo)}, {then}") from problem
    return f"{api.endpoint}/{name}"


def _made(api: HfApi, repo: str, public: bool) -> str | None:
    """The full name of the repository, new or still empty; None where it holds files."""
    from huggingface_hub.errors import HfHubHTTPError

    try:
        return api.create_repo(repo, private=not public).repo_id
    except HfHubHTTPError as problem:
        if problem.response.status_code != 409:
            raise
    name = repo if "/" in repo else f"{api.whoami()['name']}/{repo}"
    files = {file.rfilename for file in api.model_info(name).siblings or ()}
    return None if files - {".gitattributes"} else name


def _reason(problem: BaseException, repo: str) -> str:
    from huggingface_hub.errors import HfHubHTTPError

    problem = (isinstance(problem, RuntimeError) and problem.__cause__) or problem
    status = problem.response.status_code if isinstance(problem, HfHubHTTPError) else None
    if status in (401, 403):
        return f"the hub refuses the token ({status}); log in with `hf auth login` and one that may write {repo}"
    words = problem.server_message if isinstance(problem, HfHubHTTPError) and problem.server_message else str(problem)
    first = next(iter(words.strip().splitlines()), type(problem).__name__).rstrip(".")
    return f"the upload broke off ({first}); mend that"


def _quiet_elsewhere() -> None:
    """No bars where nobody sees them move."""
    from huggingface_hub.utils.tqdm import disable_progress_bars

    if not sys.stderr.isatty():
        disable_progress_bars()
