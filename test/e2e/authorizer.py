#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Services that waypoints ask, of another make (http.server, grpcio): authorizers and a rate limit service.

  authorizer.py FILE    HTTP on 9191, gRPC on 9192, envoy.service.ratelimit.v3 on 9193; a line of JSON per question

Whoever sends "x-pass: please" may pass; "x-pass: slowly" waits. The rate limit service lets three questions pass.
"""
import http.server
import json
import sys
import threading
import time
from concurrent import futures

LINES = threading.Lock()


def note(file_path, **what):
    with LINES, open(file_path, "a", encoding="utf-8") as file:
        file.write(json.dumps(what) + "\n")


def varint(number):
    out = b""
    while number > 127:
        out, number = out + bytes([number & 127 | 128]), number >> 7
    return out + bytes([number])


def text(field, payload):
    return varint(field << 3 | 2) + varint(len(payload)) + payload


def number(field, value):
    return varint(field << 3) + varint(value)


def header(name, value):
    return text(1, text(1, name.encode()) + text(2, value.encode()))


class Authorizer(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def do_GET(self):
        body = self.rfile.read(int(self.headers.get("content-length") or 0))
        note(self.server.notes, kind="http", method=self.command, path=self.path, peer=self.client_address[0],
             headers={name.lower(): value for name, value in self.headers.items()}, body=body.decode())
        if self.headers.get("x-pass") == "slowly":
            time.sleep(5)
        allowed = self.headers.get("x-pass") == "please"
        answer = b"" if allowed else b"say please"
        self.send_response(200 if allowed else 401)
        self.send_header("x-user", "ada")
        self.send_header("x-why", "manners")
        self.send_header("content-length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    do_POST = do_PUT = do_DELETE = do_GET


def serve_http(notes):
    server = http.server.ThreadingHTTPServer(("0.0.0.0", 9191), Authorizer)
    server.notes = notes
    server.serve_forever()


def serve_grpc(notes):
    import grpc

    def check(request, context):
        note(notes, kind="grpc", peer=context.peer(), path="/admin" if b"/admin" in request else "",
             principal="spiffe://cluster.local/ns/production/sa/web-service"
             if b"spiffe://cluster.local/ns/production/sa/web-service" in request else "")
        if b"please" in request:
            return text(3, text(2, header("x-user", "grace")))
        return text(1, number(1, 7)) + text(2, text(1, number(1, 403)) + text(3, b"say please"))

    asked = []

    def limit(request, context):
        asked.append(request)
        note(notes, kind="limit", domain="shop" if b"shop" in request else "")
        if len(asked) <= 3:
            return number(1, 1)
        return number(1, 2) + text(3, text(1, b"x-limited-by") + text(2, b"peer"))

    for port, service, method, call in ((9192, "envoy.service.auth.v3.Authorization", "Check", check),
                                        (9193, "envoy.service.ratelimit.v3.RateLimitService", "ShouldRateLimit",
                                         limit)):
        server = grpc.server(futures.ThreadPoolExecutor(8))
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(
            service, {method: grpc.unary_unary_rpc_method_handler(call)}),))
        server.add_insecure_port(f"[::]:{port}")
        server.start()
        yield server


if __name__ == "__main__":
    running = list(serve_grpc(sys.argv[1]))
    serve_http(sys.argv[1])
