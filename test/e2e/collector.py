#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""A collector of spans: Zipkin on 9411, OTLP over gRPC (grpcio) on 4317 and over HTTP on 4318.

  collector.py FILE       appends a JSON line for every batch: its path, its content type, its bytes in hex
"""
import http.server
import json
import sys
import threading
from concurrent import futures

import grpc

LOCK = threading.Lock()


def keep(path, kind, body):
    with LOCK, open(sys.argv[1], "a", encoding="utf-8") as file:
        file.write(json.dumps({"path": path, "type": kind, "hex": body.hex()}) + "\n")


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *args):
        pass

    def do_POST(self):
        keep(self.path, self.headers["content-type"], self.rfile.read(int(self.headers["content-length"])))
        self.send_response(202 if self.path == "/api/v2/spans" else 200)
        self.send_header("content-length", "0")
        self.end_headers()


def export(request, context):
    keep("/opentelemetry.proto.collector.trace.v1.TraceService/Export", "application/grpc", request)
    return b""


def main():
    for port in (9411, 4318):
        server = http.server.ThreadingHTTPServer(("0.0.0.0", port), Handler)
        threading.Thread(target=server.serve_forever, daemon=True).start()
    calls = grpc.server(futures.ThreadPoolExecutor(4))
    calls.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(
        "opentelemetry.proto.collector.trace.v1.TraceService",
        {"Export": grpc.unary_unary_rpc_method_handler(export)}),))
    calls.add_insecure_port("0.0.0.0:4317")
    calls.start()
    calls.wait_for_termination()


if __name__ == "__main__":
    main()
