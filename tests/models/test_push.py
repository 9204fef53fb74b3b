"""A folder goes to a stand-in of the hub, private and whole, or stays; each reason is one line."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

import pytest
from huggingface_hub import constants

from layersearch.errors import ExportError, WordsError
from layersearch.models.proof import examine
from layersearch.models.push import check_repository, push
from tests.conftest import TinyRun, call

from .standin_hub import OWNER, TOKEN, Hub

# huggingface_hub's own way to upload over LFS, which only this test asks it for (xet needs servers of its own)
pytestmark = pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Hub]:
    """A hub whose address `huggingface_hub` has, with the right token."""
    with Hub() as server:
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        monkeypatch.setattr(constants, "ENDPOINT", server.url)
        monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "no-token"))
        monkeypatch.setenv("HF_TOKEN", TOKEN)
        yield server
        server.shutdown()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "my out"
    made.mkdir()
    (made / "README.md").write_text("---\ntags:\n- layersearch\n---\n# A card\n")
    (made / "config.json").write_text("{}")
    (made / "model.safetensors").write_bytes(os.urandom(3000))
    return made


BY_HAND = "`hf upload me/small '{folder}' --private`"


def refused(folder: Path, repo: str = "me/small", *, public: bool = False) -> str:
    """The line, with the folder as it was."""
    before = {file.name: file.read_bytes() for file in folder.iterdir()}
    with pytest.raises(ExportError) as caught:
        push(folder, repo, public=public)
    assert {file.name: file.read_bytes() for file in folder.iterdir()} == before
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize(
    ("repo", "public", "visibility"), [("small", False, "private"), ("team/small", True, "public")]
)
def test_a_folder_arrives_whole(hub: Hub, folder: Path, repo: str, public: bool, visibility: str) -> None:
    name = repo if "/" in repo else f"{OWNER}/{repo}"
    assert push(folder, repo, public=public) == f"{hub.url}/{name}"
    there = {file: content for file, content in hub.state.repositories[name].items() if file != ".gitattributes"}
    assert there == {file.name: file.read_bytes() for file in folder.iterdir()}
    assert hub.state.visibility == {name: visibility}


def test_a_repository_with_files_is_left_alone_and_an_empty_one_is_taken(hub: Hub, folder: Path) -> None:
    hub.state.repositories |= {"me/small": {".gitattributes": b""}, "me/full": {"model.safetensors": b"theirs"}}
    assert push(folder, "small") == f"{hub.url}/me/small"
    line = refused(folder, "me/full")
    assert line == (
        "not pushed: the repository me/full is there and holds files; choose another --push-to-hub, or remove them, "
        f"then run `hf upload me/full '{folder}' --private`"
    )
    assert hub.state.repositories["me/full"] == {"model.safetensors": b"theirs"}


def test_without_a_token_nothing_is_asked(hub: Hub, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HF_TOKEN")
    assert refused(folder) == (
        "not pushed: there is no token for the hub; log in with `hf auth login` or set HF_TOKEN, then run "
        + BY_HAND.format(folder=folder)
    )
    assert hub.state.asked == []


def test_a_refused_token(hub: Hub, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_wrong")
    assert refused(folder) == (
        "not pushed: the hub refuses the token (401); log in with `hf auth login` and one that may write me/small, "
        "then run " + BY_HAND.format(folder=folder)
    )
    assert hub.state.repositories == {}


def test_an_upload_that_breaks_off(hub: Hub, folder: Path) -> None:
    hub.state.full = True
    line = refused(folder, public=True)
    assert line.startswith(
        "not pushed: the upload broke off (Private storage limit reached); mend that, then run `hf up"
    )
    assert line.endswith(f"'{folder}'`")
    hub.state.full = False
    assert push(folder, "me/small", public=True) == f"{hub.url}/me/small"


def test_a_network_that_is_down(hub: Hub, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        closed = f"http://127.0.0.1:{probe.getsockname()[1]}"
    monkeypatch.setattr(constants, "ENDPOINT", closed)
    line = refused(folder)
    assert line.startswith(f"not pushed: the hub at {closed} cannot be reached (")
    assert line.endswith(f"; wait until it can be, then run {BY_HAND.format(folder=folder)}")
    assert hub.state.asked == []


@pytest.mark.parametrize("repo", ["a/b/c", "with space", "me/", ""])
def test_a_name_that_is_none_is_refused_before_anything_is_exported(repo: str) -> None:
    with pytest.raises(WordsError, match=r"is no name of a repository; allowed: NAME, or OWNER/NAME"):
        check_repository(repo)
    said = call("export", "--trial", "0", "--to", "out", "--push-to-hub", repo, "--storage", "absent.db")
    assert said.code == 2
    assert said.err.startswith(f"error: --push-to-hub {repo} is no name of a repository")


def test_an_export_is_pushed_after_its_proof_and_stays_where_the_push_fails(
    hub: Hub, tiny_run: TinyRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("layersearch.models.export._examine", lambda folder, case: examine(folder, asdict(case)))
    words = ("export", "--trial", 0, "--storage", tiny_run.storage, "--device", "cpu", "--push-to-hub", "small")
    said = call(*words, "--to", tmp_path / "first")
    assert (said.code, said.out.splitlines()[-1]) == (0, f"pushed: {hub.url}/me/small"), said.err
    there = {file for file in hub.state.repositories["me/small"] if file != ".gitattributes"}
    assert there == {file.name for file in (tmp_path / "first").iterdir()}
    again = call(*words, "--to", tmp_path / "second")
    assert again.code == 1
    assert again.err.splitlines()[-1].startswith("error: not pushed: the repository small is there and holds files; ")
    assert (tmp_path / "second" / "model.safetensors").is_file()
    monkeypatch.setattr("layersearch.models.export._examine", lambda *_: {"failed": ["logits"], "max_difference": 9})
    failed = call(*words[:-1], "other", "--to", tmp_path / "third")
    assert "did not pass its proof" in failed.err
    assert list(hub.state.repositories) == ["me/small"]


def test_public_without_a_push_says_nothing() -> None:
    said = call("export", "--trial", "0", "--to", "out", "--public")
    assert (said.code, said.err) == (
        2,
        "error: --public says who may see what is pushed; add --push-to-hub REPO, or leave it out\n",
    )


def test_a_process_of_its_own_finds_the_hub_of_its_environment(hub: Hub, folder: Path, tmp_path: Path) -> None:
    """`huggingface_hub` reads the address when it is imported."""
    code = "import sys, pathlib; from layersearch.models.push import push; print(push(pathlib.Path(sys.argv[1]), 's'))"
    env = {**os.environ, "HF_ENDPOINT": hub.url, "HF_TOKEN": TOKEN, "HF_HUB_DISABLE_XET": "1", "HF_HUB_OFFLINE": "0"}
    done = subprocess.run(
        [sys.executable, "-c", code, str(folder)],
        env={**env, "HF_HOME": str(tmp_path / "home")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout == f"{hub.url}/me/s\n", done.stderr
    assert set(hub.state.repositories["me/s"]) == {".gitattributes", *(file.name for file in folder.iterdir())}
