"""A hub on this machine: the few endpoints that huggingface_hub uses, with configurable faults.

GET  /api/models/ORG/NAME/revision/REV   files with sizes and checksums
HEAD, GET /ORG/NAME/resolve/REV/FILE     ETag, X-Repo-Commit, Range
"""

import hashlib
import json
import re
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote, urlsplit

COMMIT = "0123456789abcdef0123456789abcdef01234567"


class FakeHub:
    """Repositories are folders.

    Attributes:
        gated: names of repositories that want a token. cut: file → bytes after which the connection is lost, once each.
        wrong: files whose checksum the hub tells wrongly. ranges: the Range headers that came in. tokens: Authorization headers.
        slow: seconds before each block of 1 MiB.
    """

    def __init__(self, repositories: dict[str, Path]):
        self.repositories = repositories
        self.gated: set[str] = set()
        self.cut: dict[str, list[int]] = {}
        self.wrong: set[str] = set()
        self.ranges: list[str] = []
        self.tokens: set[str] = set()
        self.slow = 0.0
        self.url = ""

    def files(self, repository: str) -> list[dict]:
        folder, found = self.repositories[repository], []
        for path in sorted(p for p in folder.rglob("*") if p.is_file()):
            data, name = path.read_bytes(), path.relative_to(folder).as_posix()
            item = {"rfilename": name, "size": len(data), "blobId": self.etag(data, name)}
            if name.endswith((".safetensors", ".bin")):
                sha = "0" * 64 if name in self.wrong else hashlib.sha256(data).hexdigest()
                item["lfs"] = {"sha256": sha, "size": len(data), "pointerSize": 130}
            found.append(item)
        return found

    @staticmethod
    def etag(data: bytes, name: str) -> str:
        return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()

    @contextmanager
    def running(self):
        hub = self

        class Handler(BaseHTTPRequestHandler):
            def log_message(self, *_):
                pass

            def do_HEAD(self):
                self.answer(body=False)

            def do_GET(self):
                self.answer(body=True)

            def answer(self, body):
                path = unquote(urlsplit(self.path).path)
                token = self.headers.get("Authorization", "")
                hub.tokens.add(token)
                if match := re.fullmatch(r"/api/models/([^/]+/[^/]+)(/revision/.+)?", path):
                    return self.info(match[1])
                match = re.fullmatch(r"/([^/]+/[^/]+)/resolve/([^/]+)/(.+)", path)
                if not match or match[1] not in hub.repositories:
                    return self.refuse(404, "RepoNotFound")
                if match[1] in hub.gated and not token:
                    return self.refuse(401, "GatedRepo")
                file = hub.repositories[match[1]] / match[3]
                if not file.is_file():
                    return self.refuse(404, "EntryNotFound")
                self.file(file.read_bytes(), match[3], body)

            def info(self, repository):
                if repository not in hub.repositories:
                    return self.refuse(401, "RepoNotFound")
                gated = "manual" if repository in hub.gated else False
                content = {"id": repository, "modelId": repository, "sha": COMMIT, "gated": gated, "private": False,
                           "siblings": hub.files(repository)}  # fmt: skip
                data = json.dumps(content).encode()
                self.send_response(200)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            def refuse(self, code, word):
                self.send_response(code)
                self.send_header("X-Error-Code", word)
                self.send_header("X-Error-Message", word)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def file(self, data, name, body):
                start, asked = 0, self.headers.get("Range", "")
                if body and asked:
                    hub.ranges.append(asked)
                    start = int(re.match(r"bytes=(\d+)-", asked)[1])
                self.send_response(206 if start else 200)
                self.send_header("ETag", f'"{hub.etag(data, name)}"')
                self.send_header("X-Repo-Commit", COMMIT)
                self.send_header("Content-Length", str(len(data) - start))
                if start:
                    self.send_header("Content-Range", f"bytes {start}-{len(data) - 1}/{len(data)}")
                self.end_headers()
                if not body:
                    return
                end = len(data)
                if hub.cut.get(name):
                    end = hub.cut[name].pop(0)
                for at in range(start, end, 1 << 20):
                    if hub.slow:
                        threading.Event().wait(hub.slow)
                    try:
                        self.wfile.write(data[at : min(at + (1 << 20), end)])
                    except OSError:
                        return
                self.close_connection = end < len(data)

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        self.url = f"http://127.0.0.1:{server.server_port}"
        try:
            yield self
        finally:
            server.shutdown()
            server.server_close()
