"""Fixture of the tests of RealUnify: a local HTTP server with the responses of a test."""

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
    """`routes` maps a path to a function from `Request` to status and JSON or bytes; `requests` has all requests."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            self.answer(self.rfile.read(int(self.headers["Content-Length"])))

        def do_GET(self):
            self.answer(b"")

        def answer(self, body):
            request = Request(self.path, body, self.headers)
            self.server.requests.append(request)
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
    server.handle_error = lambda *_: None  # some tests disconnect before the response
    server.routes, server.requests = {}, []
    Thread(target=server.serve_forever, daemon=True).start()
    server.url = f"http://127.0.0.1:{server.server_port}/v1"
    yield server
    server.shutdown()
    server.server_close()
