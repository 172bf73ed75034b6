#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""The HTTP applications of the pods and of the host outside; they know nothing of a mesh.

  http_apps.py serve NAME PORT        answers every request with what it saw, as JSON
  http_apps.py load URL ...           requests on kept connections, counted by status and by who answered
  http_apps.py keys DIR CERT KEY PORT serves DIR/jwks.json by HTTPS
  http_apps.py spans FILE PORT        a collector: appends the spans it is sent (Zipkin's JSON) to FILE

What `serve` does can be changed while it runs, by POST /control with a JSON object:
  status N    answer with that status    delay S  answer after S seconds
  first N     ... but only the next N requests
"""
import argparse
import http.client
import http.server
import json
import os
import ssl
import sys
import threading
import time
import urllib.parse


class Server(http.server.ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 1024


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def log_message(self, *args):
        pass

    def answer(self, status, body, headers=()):
        data = body if isinstance(body, bytes) else json.dumps(body).encode() + b"\n"
        self.send_response(status)
        self.send_header("content-length", str(len(data)))
        self.send_header("content-type", "application/json")
        for name, value in headers:
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(data)

    def body(self):
        return self.rfile.read(int(self.headers.get("content-length") or 0))


class Application(Handler):
    lock = threading.Lock()
    knobs = {}
    name = ""
    count = now = most = bare = 0

    def handle_one(self):
        cls = type(self)
        sent = self.body()
        if self.path == "/control":
            with cls.lock:
                cls.knobs = json.loads(sent or b"{}")
                cls.most = 0
            return self.answer(200, {"name": cls.name, "knobs": cls.knobs})
        if self.path == "/seen":
            return self.answer(200, {"name": cls.name, "count": cls.count, "now": cls.now, "most": cls.most, "bare": cls.bare})
        with cls.lock:
            cls.count += 1
            cls.bare += "x-request-id" not in self.headers   # no waypoint has seen it
            cls.now += 1
            cls.most = max(cls.most, cls.now)
            knobs = dict(cls.knobs)
            if "first" in cls.knobs:
                cls.knobs["first"] -= 1
                if cls.knobs["first"] <= 0:
                    cls.knobs = {}
            number = cls.count
        try:
            if knobs.get("delay"):
                time.sleep(knobs["delay"])
        finally:
            with cls.lock:
                cls.now -= 1
        return self.answer(knobs.get("status", 200), {
            "name": cls.name, "number": number, "method": self.command, "path": self.path, "bytes": len(sent),
            "headers": {key.lower(): value for key, value in self.headers.items()}})

    do_GET = do_POST = do_PUT = do_DELETE = do_HEAD = handle_one


def serve(name, port):
    Application.name = name
    Server(("127.0.0.1", port), Application).serve_forever()


def keys(folder, certificate, key, port):
    class Keys(Handler):
        def do_GET(self):
            try:
                with open(os.path.join(folder, "jwks.json"), "rb") as file:
                    self.answer(200, file.read())
            except OSError:
                self.answer(503, {"error": "no keys"})

    server = Server(("0.0.0.0", port), Keys)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    server.serve_forever()


def spans(path, port):
    class Collector(Handler):
        def do_POST(self):
            with open(path, "ab") as file:
                file.write(self.body() + b"\n")
            self.answer(202, b"")

    Server(("0.0.0.0", port), Collector).serve_forever()


def load(args):
    """`count` requests over `threads` kept connections, or for as long as the file of --while exists."""
    url = urllib.parse.urlsplit(args.url)
    headers = dict(header.split(": ", 1) for header in args.header)
    lock = threading.Lock()
    total = {"by": {}, "failed": [], "milliseconds": []}
    left = [args.count]

    def go_on():
        if getattr(args, "while"):
            return os.path.exists(getattr(args, "while"))
        with lock:
            left[0] -= 1
            return left[0] >= 0

    def worker():
        connection = http.client.HTTPConnection(url.hostname, url.port or 80, timeout=args.timeout)
        while go_on():
            began = time.monotonic()
            try:
                connection.request(args.method, url.path + (f"?{url.query}" if url.query else ""), headers=headers)
                response = connection.getresponse()
                body = response.read()
                who = json.loads(body)["name"] if body.startswith(b"{") and response.status == 200 else ""
                key = f"{response.status} {who}".strip()
                with lock:
                    total["by"][key] = total["by"].get(key, 0) + 1
                    total["milliseconds"].append((time.monotonic() - began) * 1000)
            except (OSError, http.client.HTTPException, ValueError, KeyError) as error:
                with lock:
                    total["failed"].append(f"{type(error).__name__}: {error}")
                connection.close()
            if args.interval:
                time.sleep(args.interval)
        connection.close()

    workers = [threading.Thread(target=worker) for _ in range(args.threads)]
    for one in workers:
        one.start()
    for one in workers:
        one.join()
    times = sorted(total.pop("milliseconds")) or [0.0]
    total["p50"], total["p99"] = times[len(times) // 2], times[min(len(times) - 1, len(times) * 99 // 100)]
    total["failures"], total["failed"] = len(total["failed"]), total["failed"][:3]
    print(json.dumps(total), flush=True)


def main():
    if sys.argv[1] == "serve":
        return serve(sys.argv[2], int(sys.argv[3]))
    if sys.argv[1] == "keys":
        return keys(sys.argv[2], sys.argv[3], sys.argv[4], int(sys.argv[5]))
    if sys.argv[1] == "spans":
        return spans(sys.argv[2], int(sys.argv[3]))
    parser = argparse.ArgumentParser(prog="http_apps.py load")
    parser.add_argument("load", choices=["load"])
    parser.add_argument("url")
    parser.add_argument("--count", type=int, default=1)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--while", default="")
    parser.add_argument("--interval", type=float, default=0)
    parser.add_argument("--method", default="GET")
    parser.add_argument("--header", action="append", default=[])
    parser.add_argument("--timeout", type=float, default=30)
    return load(parser.parse_args())


if __name__ == "__main__":
    main()
