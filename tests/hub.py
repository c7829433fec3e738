"""A small hub on loopback: enough of the protocol for the true client, `huggingface_hub`, to fetch from folders.

It answers what the client asks for: the commit of a revision, the list of its files, and the files, whole or from a byte on.
A repository may be gated, and a file may be cut off once in the middle. Every request is written down.
"""
import hashlib
import json
import re
import threading
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote, urlsplit


@dataclass(frozen=True)
class Repository:
    """A folder that is served as a repository with one commit, `main`."""
    folder: Path
    gated: int = 0         # 401: nobody without a token; 403: nobody; 0: open
    private: bool = False  # looks to strangers as if it were not there

    @property
    def commit(self) -> str: return hashlib.sha1(str(self.folder).encode()).hexdigest()

    def files(self) -> dict[str, Path]:
        return {p.relative_to(self.folder).as_posix(): p for p in sorted(self.folder.rglob("*")) if p.is_file()}


class Hub:
    """Serves repositories by name until it is closed; `log` has method, path and bytes sent of each request."""

    def __init__(self, repositories: dict[str, Repository], cut: frozenset[str] = frozenset()):
        self.repositories, self.log, self.cut = repositories, [], set(cut)
        hub = self

        class Handler(_Handler):
            def __init__(self, *args): self.hub = hub; super().__init__(*args)
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def __enter__(self): return self

    def __exit__(self, *_): self.close()

    def close(self):
        self.server.shutdown()
        self.server.server_close()

    def asked(self, pattern: str) -> list[str]:
        """The paths of files, with method, that were asked for and fit a pattern."""
        return [f"{method} {path}" for method, path, _ in self.log if "/resolve/" in path and re.search(pattern, path)]


class _Handler(BaseHTTPRequestHandler):
    hub: Hub

    def log_message(self, *args): pass

    def do_HEAD(self): self.answer()

    def do_GET(self): self.answer()

    def answer(self):
        path = unquote(urlsplit(self.path).path)
        self.sent = 0
        if path == "/close": return self.finish_hub()
        api = re.fullmatch(r"/api/models/([^/]+/[^/]+)(?:/(revision|tree)/([^/]+))?", path)
        file = re.fullmatch(r"/([^/]+/[^/]+)/resolve/([^/]+)/(.+)", path)
        try:
            if not api and not file: return self.refuse(404, "EntryNotFound")
            name, revision = (api[1], api[3]) if api else (file[1], file[2])
            repo = self.hub.repositories.get(name)
            if repo is None or repo.private and not self.token(): self.refuse(404, "RepoNotFound")
            elif revision not in (None, "main", repo.commit): self.refuse(404, "RevisionNotFound")
            elif api: self.tell(name, repo, tree=api[2] == "tree")
            # the list of a gated repository is open, its files are not
            elif repo.gated and not (repo.gated == 401 and self.token()): self.refuse(repo.gated, "GatedRepo")
            elif file[3] not in repo.files(): self.refuse(404, "EntryNotFound")
            else: self.give(path, repo, repo.files()[file[3]])
        finally: self.hub.log.append((self.command, path, self.sent))

    def token(self) -> bool: return self.headers.get("Authorization") == "Bearer hf_good"

    def refuse(self, status: int, code: str):
        self.begin(status, {"X-Error-Code": code, "Content-Length": "0"})

    def begin(self, status: int, headers: dict[str, str]):
        self.send_response(status)
        for name, value in headers.items(): self.send_header(name, value)
        self.end_headers()

    def tell(self, name: str, repo: Repository, tree: bool):
        """What a repository holds, as JSON."""
        if tree: said = [{"type": "file", "path": f, "size": p.stat().st_size, "oid": "0" * 40} for f, p in repo.files().items()]
        else: said = {"id": name, "sha": repo.commit, "siblings": [{"rfilename": f} for f in repo.files()]}
        body = json.dumps(said).encode()
        self.begin(200, {"Content-Type": "application/json", "Content-Length": str(len(body))})
        self.write(body)

    def give(self, path: str, repo: Repository, file: Path):
        """A file, or what a range asks for of it; half of it, once, if it is to be cut."""
        body = file.read_bytes()
        headers = {"ETag": f'"{hashlib.sha1(body).hexdigest()}"', "X-Repo-Commit": repo.commit, "Accept-Ranges": "bytes"}
        asked, status, size = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", "")), 200, len(body)
        if asked:
            first, last = int(asked[1]), min(int(asked[2] or size), size - 1)
            status, body = 206, body[first:last + 1]
            headers["Content-Range"] = f"bytes {first}-{last}/{size}"
        self.begin(status, headers | {"Content-Length": str(len(body))})
        if self.command == "GET" and path in self.hub.cut:
            self.hub.cut.discard(path)
            body = body[:len(body) // 2]  # and then the connection is closed
            self.close_connection = True
        self.write(body)

    def write(self, body: bytes):
        if self.command == "HEAD": return
        self.sent += len(body)
        self.wfile.write(body)

    def finish_hub(self):
        """The hub goes away, from a thread of its own: this one is waited for."""
        self.begin(200, {"Content-Length": "0"})
        threading.Thread(target=self.hub.close).start()
