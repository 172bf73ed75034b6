#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""The small applications of the pods; they know nothing of a mesh.

  apps.py serve NAME          every port of PORTS, in threads; what happened as JSON lines on stdout
  apps.py CLIENT ADDRESS ...  one client of the list below; its result as one JSON line on stdout

Ports: 9001 speaks first (greets, then answers lines); 9002 counts and hashes until the client's
half-close, then answers; 9003 sends 1 MiB, half-closes, and goes on reading; 9004 sends as many
bytes as asked for; 9006 echoes.
"""
import argparse
import hashlib
import json
import signal
import socket
import struct
import sys
import threading
import time

PORTS = (9001, 9002, 9003, 9004, 9006)
BLOCK = 1 << 20
_FILL = hashlib.sha512(b"culvert lab").digest() * (BLOCK // 64)
_print_lock = threading.Lock()


def tell(**fields):
    with _print_lock:
        print(json.dumps({"t": round(time.time(), 4), **fields}), flush=True)


def blocks(total):
    """`total` bytes, each MiB beginning with its number, so that loss and reordering change the hash."""
    number = 0
    while total > 0:
        size = min(BLOCK, total)
        yield (struct.pack("!Q", number) + _FILL[8:])[:size]
        total -= size
        number += 1


def send_counted(sock, total):
    digest = hashlib.sha256()
    for block in blocks(total):
        sock.sendall(block)
        digest.update(block)
    return digest.hexdigest()


def read_counted(sock, total=None):
    digest = hashlib.sha256()
    count = 0
    buffer = bytearray(BLOCK)
    view = memoryview(buffer)
    while total is None or count < total:
        size = sock.recv_into(view)
        if size == 0:
            break
        digest.update(view[:size])
        count += size
    return count, digest.hexdigest()


class Reader:
    """Lines from a socket."""

    def __init__(self, sock):
        self.sock = sock
        self.rest = b""

    def line(self):
        while b"\n" not in self.rest:
            data = self.sock.recv(65536)
            if not data:
                raise ConnectionError("closed before a whole line" if self.rest else "closed by the other side")
            self.rest += data
        line, self.rest = self.rest.split(b"\n", 1)
        return line.decode(errors="replace")


def plain(address):
    host = address[0].partition("%")[0]
    return host[7:] if host.startswith("::ffff:") else host


# ---- servers

def serve_greeting(name, sock, peer):
    sock.sendall(json.dumps({"hello": name, "you": peer}).encode() + b"\n")
    reader = Reader(sock)
    while True:
        try:
            line = reader.line()
        except ConnectionError:
            return
        tell(event="line", peer=peer, line=line)
        sock.sendall(f"{name}: {line}\n".encode())


def serve_sink(name, sock, peer):
    count, digest = read_counted(sock)
    tell(event="sink", peer=peer, bytes=count)
    sock.sendall(json.dumps({"bytes": count, "sha256": digest}).encode() + b"\n")


def serve_half_close(name, sock, peer):
    send_counted(sock, BLOCK)
    sock.shutdown(socket.SHUT_WR)
    count, digest = read_counted(sock)
    tell(event="after-half-close", peer=peer, bytes=count, sha256=digest)


def serve_source(name, sock, peer):
    total = int(Reader(sock).line())
    send_counted(sock, total)
    tell(event="source", peer=peer, bytes=total)


def serve_echo(name, sock, peer):
    while True:
        data = sock.recv(65536)
        if not data:
            return
        sock.sendall(data)


def one_connection(handler, name, sock, port):
    peer = "?"
    try:
        peer = plain(sock.getpeername())
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        tell(event="open", port=port, peer=peer)
        handler(name, sock, peer)
    except (OSError, ValueError) as error:
        tell(event="error", port=port, peer=peer, error=str(error))
    finally:
        sock.close()


def serve(name):
    handlers = dict(zip(PORTS, (serve_greeting, serve_sink, serve_half_close, serve_source, serve_echo)))

    def accept(port):
        family = socket.AF_INET6 if socket.has_dualstack_ipv6() else socket.AF_INET
        listener = socket.create_server(("", port), family=family, backlog=1024,
                                        dualstack_ipv6=family == socket.AF_INET6)
        tell(event="listening", port=port)
        while True:
            sock, _ = listener.accept()
            threading.Thread(target=one_connection, args=(handlers[port], name, sock, port), daemon=True).start()

    for port in PORTS:
        threading.Thread(target=accept, args=(port,), daemon=True).start()
    signal.pause()


# ---- clients

def dial(args, port, timeout=10):
    sock = socket.create_connection((args.address, port), timeout=timeout)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return sock


def client_banner(args):
    with dial(args, 9001) as sock:
        reader = Reader(sock)
        first = reader.line()
        sock.sendall(args.text.encode() + b"\n")
        second = reader.line()
    greeting = json.loads(first)
    return {"hello": greeting["hello"], "you": greeting["you"], "answer": second,
            "sent": len(args.text) + 1, "received": len(first) + len(second) + 2}


def client_upload(args):
    with dial(args, 9002) as sock:
        sock.settimeout(120)
        begin = time.monotonic()
        digest = send_counted(sock, args.bytes)
        sock.shutdown(socket.SHUT_WR)
        line = Reader(sock).line()
    answer = json.loads(line)
    return {"sent": args.bytes, "received": len(line) + 1, "seconds": time.monotonic() - begin,
            "counted": answer["bytes"], "same": answer["sha256"] == digest, "sha256": digest}


def client_download(args):
    expected = hashlib.sha256()
    with dial(args, 9004) as sock:
        sock.settimeout(120)
        begin = time.monotonic()
        request = f"{args.bytes}\n".encode()
        sock.sendall(request)
        count, digest = read_counted(sock)
        seconds = time.monotonic() - begin
    for block in blocks(args.bytes):
        expected.update(block)
    return {"sent": len(request), "received": count, "seconds": seconds,
            "same": digest == expected.hexdigest(), "sha256": digest}


def client_server_half_close(args):
    with dial(args, 9003) as sock:
        count, _ = read_counted(sock)
        digest = send_counted(sock, args.bytes)
    return {"sent": args.bytes, "received": count, "sha256": digest}


def client_parallel(args):
    """Opens --count connections, one round trip on each, then keeps all open until SIGTERM."""
    socks, errors = [], []
    lock = threading.Lock()

    def one(number):
        try:
            sock = dial(args, 9006)
            message = f"{number:08d}".encode()
            sock.sendall(message)
            if sock.recv(8, socket.MSG_WAITALL) != message:
                raise ConnectionError("another connection's bytes")
            with lock:
                socks.append(sock)
        except OSError as error:
            with lock:
                errors.append(str(error))

    threads = [threading.Thread(target=one, args=(n,)) for n in range(args.count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    tell(event="open", open=len(socks), errors=errors[:5], failed=len(errors))
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    while not stop.wait(0.05):
        pass
    return {"open": len(socks), "failed": len(errors)}


def client_hold(args):
    """One connection, a round trip every --interval; says when it ends. SIGTERM ends it well."""
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    rounds, error = 0, ""
    try:
        with dial(args, args.port) as sock:
            if args.port == 9001:
                tell(event="greeting", line=Reader(sock).line())
            tell(event="open")
            while not stop.is_set():
                sock.sendall(b"ping\n")
                sock.settimeout(5)
                if not sock.recv(4096):
                    error = "closed by the other side"
                    break
                rounds += 1
                stop.wait(args.interval)
            if not error:   # asked to end: the connection must still answer
                sock.sendall(b"last\n")
                if not sock.recv(4096):
                    error = "closed by the other side"
    except OSError as failure:
        error = str(failure)
    tell(event="closed", error=error, rounds=rounds)
    return {"rounds": rounds, "error": error}


def client_load(args):
    """A new connection every --interval from each of --count threads: greeting and one line.

    Every failure is told with its time. At SIGTERM: the sums.
    """
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    lock = threading.Lock()
    total = {"ok": 0, "failed": 0, "sent": 0, "received": 0, "wrong": 0}
    by_name = {}

    def loop(number):
        count = 0
        due = time.monotonic() + number * args.interval / max(1, args.count)
        while not stop.wait(max(0.0, due - time.monotonic())):
            due = max(due + args.interval, time.monotonic())
            count += 1
            text = f"{args.text}-{number}-{count}"
            began = time.time()
            try:
                with dial(args, 9001, timeout=5) as sock:
                    reader = Reader(sock)
                    first = reader.line()
                    name = json.loads(first)["hello"]
                    sock.sendall(text.encode() + b"\n")
                    second = reader.line()
                with lock:
                    total["ok"] += 1
                    total["sent"] += len(text) + 1
                    total["received"] += len(first) + len(second) + 2
                    by_name[name] = by_name.get(name, 0) + 1
                    if second != f"{name}: {text}":
                        total["wrong"] += 1
                        tell(event="wrong", want=text, got=second)
                    if args.verbose:
                        tell(event="ok", began=round(began, 4), name=name)
            except (OSError, ValueError, KeyError) as error:
                with lock:
                    total["failed"] += 1
                tell(event="failed", began=round(began, 4), error=str(error))

    threads = [threading.Thread(target=loop, args=(n,)) for n in range(args.count)]
    for thread in threads:
        thread.start()
    tell(event="open")
    for thread in threads:
        thread.join()
    return {**total, "by_name": by_name}


CLIENTS = {"banner": client_banner, "upload": client_upload, "download": client_download,
           "server-half-close": client_server_half_close, "parallel": client_parallel,
           "hold": client_hold, "load": client_load}


def main():
    if sys.argv[1:2] == ["serve"]:
        serve(sys.argv[2])
        return 0
    parser = argparse.ArgumentParser()
    parser.add_argument("client", choices=CLIENTS)
    parser.add_argument("address")
    parser.add_argument("--port", type=int, default=9006)
    parser.add_argument("--bytes", type=int, default=BLOCK)
    parser.add_argument("--count", type=int, default=1)
    parser.add_argument("--interval", type=float, default=0.02)
    parser.add_argument("--text", default="hello")
    parser.add_argument("--verbose", action="store_true")
    args = parser.parse_args()
    try:
        result = CLIENTS[args.client](args)
    except OSError as error:
        print(json.dumps({"error": str(error) or type(error).__name__}), flush=True)
        return 1
    print(json.dumps({"result": args.client, **result}), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
