"""A stand-in of the Hugging Face hub on 127.0.0.1: what `huggingface_hub` 2.4 asks when a folder is uploaded.

Knows: whoami, create, validate-yaml, preupload, LFS batch and upload, commit, model info. Does not know: anything that
the real one decides beyond status codes.
"""

from __future__ import annotations

import base64
import json
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

TOKEN = "hf_right"
OWNER = "me"


@dataclass
class State:
    """What the hub holds: files and visibility by repository, uploaded objects, and whether it breaks off."""

    repositories: dict[str, dict[str, bytes]] = field(default_factory=dict)
    visibility: dict[str, str] = field(default_factory=dict)
    objects: dict[str, bytes] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)
    full: bool = False


class Hub(ThreadingHTTPServer):
    """The server with its state; `url` is its address."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Answers)
        self.state = State()
        self.url = f"http://127.0.0.1:{self.server_address[1]}"


class _Answers(BaseHTTPRequestHandler):
    server: Hub

    def do_HEAD(self) -> None:
        self._answer(200)

    def do_GET(self) -> None:
        state, path = self.server.state, self.path.partition("?")[0]
        state.asked.append(f"GET {path}")
        if path == "/api/whoami-v2":
            self._answer(200, {"name": OWNER, "type": "user"})
        elif (name := path.removeprefix("/api/models/")) in state.repositories:
            files = [{"rfilename": file} for file in state.repositories[name]]
            self._answer(200, {"id": name, "sha": "0" * 40, "siblings": files})
        else:
            self._answer(404)

    def do_PUT(self) -> None:
        self.server.state.objects[self.path.rpartition("/")[2]] = self._body()
        self._answer(200)

    def do_POST(self) -> None:
        state, path, body = self.server.state, self.path.partition("?")[0], self._body()
        state.asked.append(f"POST {path}")
        if self.headers.get("Authorization") != f"Bearer {TOKEN}":
            self._answer(401, {"error": "Invalid credentials in Authorization header"})
        elif path == "/api/repos/create":
            self._create(json.loads(body))
        elif path == "/api/validate-yaml":
            self._answer(200, {"errors": [], "warnings": []})
        elif path.endswith("/preupload/main"):
            files = [file["path"] for file in json.loads(body)["files"]]
            modes = [(file, "lfs" if file.endswith(".safetensors") else "regular") for file in files]
            self._answer(200, {"files": [{"path": f, "uploadMode": m, "shouldIgnore": False} for f, m in modes]})
        elif path.endswith("/info/lfs/objects/batch"):
            if state.full:
                self._answer(413, {"error": "Private storage limit reached"})
                return
            objects = json.loads(body)["objects"]
            href = f"{self.server.url}/lfs/"
            actions = [{**one, "actions": {"upload": {"href": href + one["oid"]}}} for one in objects]
            self._answer(200, {"transfer": "basic", "objects": actions})
        elif path.endswith("/commit/main"):
            self._commit(path.removeprefix("/api/models/").removesuffix("/commit/main"), body)
        else:
            self._answer(404)

    def _create(self, asked: dict[str, Any]) -> None:
        state, name = self.server.state, f"{asked.get('organization') or OWNER}/{asked['name']}"
        if name in state.repositories:
            self._answer(409, {"error": "You already created this model repo", "url": f"{self.server.url}/{name}"})
            return
        state.repositories[name] = {".gitattributes": b""}
        state.visibility[name] = asked.get("visibility", "public")
        self._answer(200, {"url": f"{self.server.url}/{name}", "name": name})

    def _commit(self, name: str, body: bytes) -> None:
        state, files = self.server.state, self.server.state.repositories[name]
        for line in map(json.loads, body.splitlines()):
            value = line["value"]
            if line["key"] == "file":
                files[value["path"]] = base64.b64decode(value["content"])
            elif line["key"] == "lfsFile":
                files[value["path"]] = state.objects[value["oid"]]
        url = f"{self.server.url}/{name}/commit/{'0' * 40}"
        self._answer(200, {"success": True, "commitUrl": url, "commitOid": "0" * 40})

    def _body(self) -> bytes:
        if self.headers.get("Transfer-Encoding") != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length", 0)))
        parts = []
        while size := int(self.rfile.readline(), 16):
            parts.append(self.rfile.read(size))
            self.rfile.readline()
        self.rfile.readline()
        return b"".join(parts)

    def _answer(self, status: int, values: dict[str, Any] | None = None) -> None:
        body = json.dumps(values or {}).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        if values and "error" in values:
            self.send_header("X-Error-Message", values["error"])
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        """Nothing: the tests ask what was asked."""
