"""A model server: a linear model, given as WEIGHTS and BIAS. Needs nothing but Python."""

import json
import os
import signal
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

WEIGHTS = json.loads(os.environ["WEIGHTS"])
BIAS = json.loads(os.environ["BIAS"])


def predict(inputs):
    if not isinstance(inputs, list) or len(inputs) != len(WEIGHTS):
        raise ValueError(f"inputs: {len(WEIGHTS)} numbers expected")
    return sum(weight * number for weight, number in zip(WEIGHTS, inputs)) + BIAS


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        self.answer(200 if self.path == "/healthz" else 404, {})

    def do_POST(self):
        try:
            body = json.loads(self.rfile.read(int(self.headers["content-length"])))
            self.answer(200, {"output": predict(body["inputs"])})
        except (KeyError, TypeError, ValueError) as error:
            self.answer(400, {"error": str(error)})

    def answer(self, status, body):
        data = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: exit())
    ThreadingHTTPServer(("", 8080), Handler).serve_forever()
