#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Peers of other makes for the tests of the waypoint: gRPC (grpcio), WebSocket (websockets), streams.

  peers.py grpc-serve PORT | ws-serve PORT | stream-serve PORT
  peers.py grpc-call HOST:PORT | ws-talk URL          their results as one JSON line
"""
import asyncio
import http.server
import json
import sys
import time
from concurrent import futures

BLOCK = 1 << 20


def grpc_serve(port):
    import grpc

    def unary(request, context):
        if request == b"missing":
            context.abort(grpc.StatusCode.NOT_FOUND, "no such thing: 50% off")
        context.set_trailing_metadata((("x-done", "yes"),))
        return b"got " + request

    def stream(request, context):
        for i in range(int(request)):
            yield f"part {i}".encode()
            time.sleep(0.05)

    def slow(request, context):
        time.sleep(5)
        return b"late"

    def chat(requests, context):
        for request in requests:
            yield request.upper()

    handlers = {"Unary": grpc.unary_unary_rpc_method_handler(unary),
                "Slow": grpc.unary_unary_rpc_method_handler(slow),
                "Stream": grpc.unary_stream_rpc_method_handler(stream),
                "Chat": grpc.stream_stream_rpc_method_handler(chat)}
    server = grpc.server(futures.ThreadPoolExecutor(16))
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("test.Peer", handlers),))
    server.add_insecure_port(f"[::]:{port}")
    server.start()
    server.wait_for_termination()


def grpc_call(target):
    import grpc
    out = {}
    with grpc.insecure_channel(target) as channel:
        unary = channel.unary_unary("/test.Peer/Unary")
        answer, call = unary.with_call(b"hello", timeout=10)
        out["unary"] = answer.decode()
        out["trailers"] = dict(call.trailing_metadata())
        try:
            unary(b"missing", timeout=10)
        except grpc.RpcError as error:
            out["error"] = [error.code().name, error.details()]
        began = time.monotonic()
        times = []
        for part in channel.unary_stream("/test.Peer/Stream")(b"5", timeout=10):
            times.append(time.monotonic() - began)
        out["stream"] = len(times)
        out["spread"] = times[-1] - times[0]
        try:
            channel.unary_unary("/test.Peer/Slow")(b"x", timeout=0.5)
        except grpc.RpcError as error:
            out["deadline"] = error.code().name
        out["chat"] = [part.decode() for part in channel.stream_stream("/test.Peer/Chat")(
            iter([b"a", b"b"]), timeout=10)]
        try:
            channel.unary_unary("/test.Peer/Nothing")(b"x", timeout=10)
        except grpc.RpcError as error:
            out["unknown"] = error.code().name
    print(json.dumps(out))


def ws_serve(port):
    import websockets

    async def echo(socket):
        async for message in socket:
            await socket.send(message)

    async def main():
        async with websockets.serve(echo, "0.0.0.0", port, max_size=None):
            await asyncio.Future()

    asyncio.run(main())


def ws_talk(url):
    import websockets

    async def main():
        async with websockets.connect(url, max_size=None) as socket:
            await socket.send("hello")
            first = await socket.recv()
            await socket.send(b"x" * BLOCK)
            second = await socket.recv()
            return {"text": first, "bytes": len(second)}

    print(json.dumps(asyncio.run(main())))


class Streams(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *args):
        pass

    def do_GET(self):
        """Five events, a fifth of a second apart."""
        self.send_response(200)
        self.send_header("content-type", "text/event-stream")
        self.send_header("transfer-encoding", "chunked")
        self.end_headers()
        for i in range(5):
            event = f"data: {i}\n\n".encode()
            self.wfile.write(b"%x\r\n%s\r\n" % (len(event), event))
            time.sleep(0.2)
        self.wfile.write(b"0\r\n\r\n")

    def do_PUT(self):
        """Counts the body without keeping it."""
        count = 0
        if self.headers.get("transfer-encoding") == "chunked":
            while True:
                size = int(self.rfile.readline().split(b";")[0], 16)
                left = size
                while left:
                    left -= len(self.rfile.read(min(left, BLOCK)))
                self.rfile.readline()
                count += size
                if size == 0:
                    break
        else:
            left = int(self.headers.get("content-length") or 0)
            while left:
                got = len(self.rfile.read(min(left, BLOCK)))
                left, count = left - got, count + got
        body = json.dumps({"bytes": count, "expect": self.headers.get("expect")}).encode()
        self.send_response(200)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


def stream_serve(port):
    http.server.ThreadingHTTPServer(("0.0.0.0", port), Streams).serve_forever()


if __name__ == "__main__":
    what, argument = sys.argv[1:3]
    argument = int(argument) if argument.isdigit() else argument
    {"grpc-serve": grpc_serve, "grpc-call": grpc_call, "ws-serve": ws_serve, "ws-talk": ws_talk,
     "stream-serve": stream_serve}[what](argument)
