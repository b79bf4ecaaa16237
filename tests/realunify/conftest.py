"""A local HTTP server whose answers a test decides."""

import json
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

import pytest


@dataclass
class Request:
    path: str
    body: bytes
    headers: object

    @property
    def json(self):
        return json.loads(self.body)


@pytest.fixture
def server():
    """`routes`: path -> function of a `Request` to a status and JSON, or bytes; `seen`: all requests so far."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            self.answer(self.rfile.read(int(self.headers["Content-Length"])))

        def do_GET(self):
            self.answer(b"")

        def answer(self, body):
            request = Request(self.path, body, self.headers)
            self.server.seen.append(request)
            code, answer = self.server.routes.get(self.path, lambda _: (404, {}))(request)
            data = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
            self.send_response(code)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.handle_error = lambda *_: None  # a client that no longer waits is what some tests are about
    server.routes, server.seen = {}, []
    Thread(target=server.serve_forever, daemon=True).start()
    server.url = f"http://127.0.0.1:{server.server_port}/v1"
    yield server
    server.shutdown()
    server.server_close()
