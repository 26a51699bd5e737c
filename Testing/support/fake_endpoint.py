"""An OpenAI-compatible endpoint on this machine, scripted by a test.

Every request is kept with its headers and body. What is to happen comes from `script`, one item a request of the chat;
when it is empty, the answer is `words`, streamed.
"""

import atexit
import json
import ssl
import threading
import time
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

MODEL = "eyes-7b"


def event(content) -> bytes:
    return b"data: " + (content if isinstance(content, bytes) else json.dumps(content).encode()) + b"\n\n"


def chunk(text=None, finish=None, **more) -> bytes:
    choice = {"index": 0, "delta": {} if text is None else {"content": text}, "finish_reason": finish}
    return event({"object": "chat.completion.chunk", "model": f"served/{MODEL}", "choices": [choice], **more})


class FakeEndpoint:
    """
    Attributes:
        key: the one that is wanted, "" for none. models: what it offers; None: 404. words: the usual answer.
        script: functions of the handler, each for one chat request. requests: (path, headers, body) as they came.
        gone: set when a client closed the connection while it was written to.
    """

    def __init__(self):
        self.key, self.words = "", ["A ", "liver", "."]
        self.models = [{"id": MODEL, "object": "model", "max_model_len": 8192}, {"id": "lungs", "object": "model"}]
        self.script, self.requests, self.gone = [], [], threading.Event()
        self.url, self.port = "", 0

    @property
    def chats(self):
        return [json.loads(body) for path, _, body in self.requests if path.endswith("/chat/completions")]

    @contextmanager
    def running(self, certificate=None):
        fake = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *_):
                pass

            def do_GET(self):
                fake.requests.append((self.path, dict(self.headers), b""))
                if not self.allowed():
                    return
                if fake.models is None:
                    return refuse(404, {"detail": "Not Found"})(self)
                self.reply(200, json.dumps({"object": "list", "data": fake.models}).encode())

            def do_POST(self):
                body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                fake.requests.append((self.path, dict(self.headers), body))
                if not self.allowed():
                    return
                step = fake.script.pop(0) if fake.script else says(*fake.words)
                try:
                    step(self)
                except OSError:
                    fake.gone.set()
                    self.close_connection = True

            def allowed(self):
                said = self.headers.get("Authorization", "")
                if fake.key and said != f"Bearer {fake.key}":
                    # as careless servers do, the key that was sent is repeated
                    refuse(401, {"error": {"message": f"Incorrect API key provided: {said}"}})(self)
                    return False
                return True

            def reply(self, status, body, kind="application/json", **headers):
                self.send_response(status)
                self.send_header("Content-Type", kind)
                self.send_header("Content-Length", str(len(body)))
                for name, value in headers.items():
                    self.send_header(name.replace("_", "-"), value)
                self.end_headers()
                self.wfile.write(body)

            def stream(self, kind="text/event-stream"):
                self.send_response(200)
                self.send_header("Content-Type", kind)
                self.send_header("Transfer-Encoding", "chunked")
                self.end_headers()

            def send(self, data):
                self.wfile.write(b"%x\r\n%s\r\n" % (len(data), data))

            def hang_up(self):
                self.close_connection = True
                self.connection.close()

        class Server(ThreadingHTTPServer):
            daemon_threads = True

            def handle_error(self, *_):  # clients that go away are what is tested
                pass

        server = Server(("127.0.0.1", 0), Handler)
        scheme = "http"
        if certificate is not None:
            context, scheme = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), "https"
            context.load_cert_chain(*certificate)
            server.socket = context.wrap_socket(server.socket, server_side=True)
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        self.port = server.server_port
        self.url = f"{scheme}://127.0.0.1:{self.port}/v1"
        try:
            yield self
        finally:
            server.shutdown()
            server.server_close()


# -- what may happen to a request of the chat -----------------------------------------------------------


def says(*words, finish="stop", done=True, pause=0.0, usage=None):
    """An answer in pieces."""

    def step(handler):
        handler.stream()
        for word in words:
            handler.send(chunk(word))
            time.sleep(pause)
        handler.send(chunk(finish=finish, **({"usage": usage} if usage else {})))
        if done:
            handler.send(event(b"[DONE]"))
        handler.wfile.write(b"0\r\n\r\n")

    return step


def refuse(status, content, **headers):
    """An answer that is no success."""
    body = content if isinstance(content, bytes) else json.dumps(content).encode()
    return lambda handler: handler.reply(status, body, **headers)


def whole(text):
    """One JSON object, as servers that don't stream give it."""
    choice = {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}
    return refuse(200, {"model": MODEL, "choices": [choice]})


def raw(data, kind="text/event-stream"):
    """Any bytes as a success."""
    return lambda handler: handler.reply(200, data, kind)


def hangs_up(handler):
    """The connection is closed before an answer."""
    handler.hang_up()


def breaks_after(*words):
    """The connection is closed in the middle."""

    def step(handler):
        handler.stream()
        for word in words:
            handler.send(chunk(word))
        handler.hang_up()

    return step


def silent(seconds):
    """Nothing is said for so long; a client that goes away is noticed."""

    def step(handler):
        end = time.monotonic() + seconds
        handler.connection.settimeout(0.05)
        while time.monotonic() < end:
            try:
                if handler.connection.recv(1) == b"":
                    raise ConnectionResetError
            except TimeoutError:
                continue
        raise ConnectionResetError

    return step


def endless(handler):
    """Words without end."""
    handler.stream()
    while True:
        handler.send(chunk("word "))
        time.sleep(0.02)


def folder_of_one(root):
    """A model folder whose card names an endpoint that runs as long as the tests do."""
    from MedFMLib.endpoints import book
    from MedFMLib.endpoints.settings import Endpoint

    fake = FakeEndpoint()
    running = fake.running()
    running.__enter__()
    atexit.register(running.__exit__, None, None, None)
    root.mkdir(parents=True, exist_ok=True)
    card = book.make("fake", Endpoint(fake.url, MODEL), picture_side=64)
    (root / "medfm-card.json").write_text(json.dumps(card.as_json()))
    return root
