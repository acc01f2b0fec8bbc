"""A hub of Hugging Face on 127.0.0.1: as much of its HTTP interface as pushing and loading need.

Files above `LARGE` bytes, and those whose names git-lfs would take, go the way of large files:
asked for in a batch, put to a store, named by their sha256 in the commit, and given by a redirect.
"""

from __future__ import annotations

import base64
import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import pytest

LARGE = 10_000
LFS_SUFFIXES = (".safetensors", ".onnx", ".npz", ".png", ".bin")
# Tokens, whose they are, and whether they may write.
TOKENS = {"hf_ann": ("ann", True), "hf_reader": ("ann", False)}


@dataclass
class Repository:
    """Commits (path -> content of the whole tree), branches, and whether it is private."""

    private: bool = False
    commits: dict[str, dict[str, bytes]] = field(default_factory=dict)
    branches: dict[str, str] = field(default_factory=dict)
    messages: list[str] = field(default_factory=list)

    def commit(self, branch: str, tree: dict[str, bytes], message: str) -> str:
        """Add a commit to a branch; return its name."""
        name = hashlib.sha1(f"{len(self.commits)} {message}".encode()).hexdigest()
        self.commits[name] = tree
        self.branches[branch] = name
        self.messages.append(message)
        return name


class Refusal(Exception):
    """An answer that is an error."""

    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(message)
        self.status, self.code = status, code


class FakeHub(ThreadingHTTPServer):
    """The server; what it was asked stands in `requests`, as `METHOD path`."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.repositories: dict[str, Repository] = {}
        self.store: dict[str, bytes] = {}
        self.requests: list[str] = []

    @property
    def url(self) -> str:
        """Its address."""
        return f"http://127.0.0.1:{self.server_address[1]}"

    def files(self, repository: str, revision: str = "main") -> dict[str, bytes]:
        """What is in a branch."""
        found = self.repositories[repository]
        return found.commits[found.branches[revision]]

    def add(self, repository: str, files: dict[str, bytes], *, private: bool = False) -> str:
        """Put files there without asking; return the commit."""
        found = self.repositories.setdefault(repository, Repository(private))
        tree = found.commits.get(found.branches.get("main", ""), {})
        return found.commit("main", {**tree, **files}, "added")


@contextmanager
def fake_hub() -> Iterator[FakeHub]:
    """Run one."""
    with FakeHub() as hub:
        thread = threading.Thread(target=hub.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield hub
        finally:
            hub.shutdown()
            thread.join()


class _Handler(BaseHTTPRequestHandler):
    server: FakeHub
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self._handle("GET")

    def do_HEAD(self) -> None:
        self._handle("HEAD")

    def do_POST(self) -> None:
        self._handle("POST")

    def do_PUT(self) -> None:
        self._handle("PUT")

    def log_message(self, *_: object) -> None:
        """Say nothing."""

    def _handle(self, method: str) -> None:
        url = urlsplit(self.path)
        self.server.requests.append(f"{method} {url.path}")
        self.body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        parts = [unquote(part) for part in url.path.strip("/").split("/")]
        try:
            self._route(method, parts, parse_qs(url.query))
        except Refusal as refusal:
            headers = {"X-Error-Code": refusal.code, "X-Error-Message": str(refusal)}
            self._json({"error": str(refusal)}, refusal.status, headers)

    def _route(self, method: str, parts: list[str], query: dict[str, list[str]]) -> None:
        match method, parts:
            case "POST", ["api", "repos", "create"]:
                self._create(json.loads(self.body))
            case "POST", ["api", "validate-yaml"]:
                self._json({"errors": [], "warnings": []})
            case "GET", ["api", "models", user, name, *rest] if not rest or rest[0] == "revision":
                self._info(f"{user}/{name}", rest[1] if rest else "main")
            case "GET", ["api", "models", user, name, "tree", revision]:
                self._tree(f"{user}/{name}", revision)
            case "POST", ["api", "models", user, name, "branch", branch]:
                self._branch(f"{user}/{name}", branch)
            case "POST", ["api", "models", user, name, "preupload", revision]:
                self._preupload(f"{user}/{name}", revision)
            case "POST", ["api", "models", user, name, "commit", revision]:
                self._commit(f"{user}/{name}", revision)
            case "POST", [user, name, "info", "lfs", "objects", "batch"]:
                self._batch(f"{user}/{name.removesuffix('.git')}")
            case "PUT", ["store", name]:
                assert hashlib.sha256(self.body).hexdigest() == name
                self.server.store[name] = self.body
                self._send(b"", {})
            case (("GET" | "HEAD"), ["store", name]):
                self._send(self.server.store[name], {})
            case (("GET" | "HEAD"), [user, name, "resolve", revision, *path]):
                self._resolve(f"{user}/{name}", revision, "/".join(path))
            case _:
                raise Refusal(404, "", f"no such address: {self.path}")

    def _user(self) -> tuple[str, bool] | None:
        given = self.headers.get("Authorization", "").removeprefix("Bearer ")
        if given and given not in TOKENS:
            raise Refusal(401, "", "Invalid credentials in Authorization header")
        return TOKENS.get(given)

    def _require_writer(self, repository: str) -> None:
        user = self._user()
        if user is None:
            raise Refusal(401, "", "Invalid username or password.")
        if not user[1] or repository.split("/")[0] != user[0]:
            raise Refusal(403, "", f"You don't have the rights to write to {repository}")

    def _find(self, repository: str) -> Repository:
        found = self.server.repositories.get(repository)
        user = self._user()
        hidden = found is not None and found.private and not user
        if found is None or hidden:
            raise Refusal(401 if user is None else 404, "RepoNotFound", "Repository not found")
        return found

    def _at(self, repository: str, revision: str) -> tuple[str, dict[str, bytes]]:
        found = self._find(repository)
        commit = found.branches.get(revision, revision)
        if commit not in found.commits:
            raise Refusal(404, "RevisionNotFound", f"Invalid rev id: {revision}")
        return commit, found.commits[commit]

    def _create(self, asked: dict[str, Any]) -> None:
        user = self._user()
        owner = asked.get("organization") or (user[0] if user else "")
        repository = f"{owner}/{asked['name']}"
        self._require_writer(repository)
        url = {"url": f"{self.server.url}/{repository}"}
        if repository in self.server.repositories:
            self._json({**url, "error": "You already created this model repo"}, 409)
            return
        private = asked.get("visibility") == "private" or bool(asked.get("private"))
        made = Repository(private)
        made.commit("main", {".gitattributes": b"*.onnx filter=lfs\n"}, "initial commit")
        self.server.repositories[repository] = made
        self._json(url)

    def _info(self, repository: str, revision: str) -> None:
        commit, tree = self._at(repository, revision)
        siblings = [{"rfilename": name} for name in tree]
        private = self.server.repositories[repository].private
        about = {"_id": "1", "id": repository, "modelId": repository, "sha": commit}
        self._json({**about, "private": private, "tags": [], "downloads": 0, "siblings": siblings})

    def _tree(self, repository: str, revision: str) -> None:
        _, tree = self._at(repository, revision)
        self._json(
            [
                {
                    "type": "file",
                    "path": name,
                    "size": len(content),
                    "oid": _git_name(content),
                    **({"lfs": _pointer(content)} if _is_large(name, len(content)) else {}),
                }
                for name, content in tree.items()
            ]
        )

    def _branch(self, repository: str, branch: str) -> None:
        self._require_writer(repository)
        found = self._find(repository)
        if branch in found.branches:
            raise Refusal(409, "", "Reference already exists")
        found.branches[branch] = found.branches["main"]
        self._json({})

    def _preupload(self, repository: str, revision: str) -> None:
        self._require_writer(repository)
        _, tree = self._at(repository, revision)
        self._json(
            {
                "files": [
                    {
                        "path": each["path"],
                        "uploadMode": "lfs" if _is_large(each["path"], each["size"]) else "regular",
                        "shouldIgnore": False,
                        "oid": _name_of(each["path"], tree),
                    }
                    for each in json.loads(self.body)["files"]
                ]
            }
        )

    def _batch(self, repository: str) -> None:
        self._require_writer(repository)
        objects = []
        for each in json.loads(self.body)["objects"]:
            actions = {"upload": {"href": f"{self.server.url}/store/{each['oid']}"}}
            there = each["oid"] in self.server.store
            objects.append(each if there else {**each, "actions": actions})
        self._json({"transfer": "basic", "objects": objects})

    def _commit(self, repository: str, branch: str) -> None:
        self._require_writer(repository)
        _, before = self._at(repository, branch)
        tree, summary = dict(before), ""
        for line in self.body.splitlines():
            item = json.loads(line)
            value = item["value"]
            match item["key"]:
                case "header":
                    summary = value["summary"]
                case "file":
                    tree[value["path"]] = base64.b64decode(value["content"])
                case "lfsFile":
                    tree[value["path"]] = self.server.store[value["oid"]]
                case "deletedFile":
                    del tree[value["path"]]
                case other:
                    raise Refusal(400, "", f"unknown operation {other}")
        commit = self._find(repository).commit(branch, tree, summary)
        url = f"{self.server.url}/{repository}/commit/{commit}"
        self._json({"success": True, "commitOid": commit, "commitUrl": url})

    def _resolve(self, repository: str, revision: str, path: str) -> None:
        commit, tree = self._at(repository, revision)
        if path not in tree:
            raise Refusal(404, "EntryNotFound", f"Entry not found: {path}")
        content, headers = tree[path], {"X-Repo-Commit": commit}
        if not _is_large(path, len(content)):
            self._send(content, {**headers, "ETag": f'"{_git_name(content)}"'})
            return
        name = hashlib.sha256(content).hexdigest()
        self.server.store[name] = content
        headers |= {"X-Linked-Size": str(len(content)), "X-Linked-ETag": f'"{name}"'}
        # Another host to the client, as a store is.
        location = f"http://localhost:{self.server.server_address[1]}/store/{name}"
        self._send(b"", {**headers, "Location": location}, HTTPStatus.FOUND)

    def _json(
        self, value: object, status: int = 200, headers: dict[str, str] | None = None
    ) -> None:
        kind = {"Content-Type": "application/json"}
        self._send(json.dumps(value).encode(), {**kind, **(headers or {})}, status)

    def _send(self, body: bytes, headers: dict[str, str], status: int = 200) -> None:
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(body))}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)


def _is_large(path: str, size: int) -> bool:
    return size > LARGE or path.endswith(LFS_SUFFIXES)


def _name_of(path: str, tree: dict[str, bytes]) -> str | None:
    """What tells whether a file changed."""
    if path not in tree:
        return None
    large = _is_large(path, len(tree[path]))
    return hashlib.sha256(tree[path]).hexdigest() if large else _git_name(tree[path])


def _pointer(content: bytes) -> dict[str, Any]:
    return {
        "oid": hashlib.sha256(content).hexdigest(),
        "size": len(content),
        "pointerSize": 130,
    }


def _git_name(content: bytes) -> str:
    """The name that git gives a file's content."""
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


def use_hub(hub: FakeHub | str, home: Path, patched: pytest.MonkeyPatch, token: str = "") -> None:
    """Have the client, here and in processes that are begun, ask this hub and no other.

    Args:
        hub: one, or an address.
        home: where the client keeps its cache; no token is there.
        token: whose it is, see `TOKENS`; empty: nobody's.
    """
    from huggingface_hub import constants

    address = hub if isinstance(hub, str) else hub.url
    home.mkdir(parents=True, exist_ok=True)
    for name, value in {
        "HF_ENDPOINT": address,
        "HF_HOME": str(home),
        "HF_HUB_OFFLINE": "0",
        "HF_HUB_DISABLE_XET": "1",  # a protocol of its own for large files
        "HF_TOKEN": token,
    }.items():
        patched.setenv(name, value)
    # Read when the client is imported, which another test may have caused.
    for name, constant in {
        "ENDPOINT": address,
        "HUGGINGFACE_CO_URL_TEMPLATE": address + "/{repo_id}/resolve/{revision}/{filename}",
        "HF_HOME": str(home),
        "HF_HUB_CACHE": str(home / "hub"),
        "HF_TOKEN_PATH": str(home / "token"),
        "HF_STORED_TOKENS_PATH": str(home / "stored_tokens"),
        "AGENT_HARNESSES_PATH": str(home / "agents.json"),
        "HF_HUB_OFFLINE": False,
        "HF_HUB_DISABLE_XET": True,
    }.items():
        patched.setattr(constants, name, constant)
