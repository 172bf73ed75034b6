# SPDX-License-Identifier: Apache-2.0
"""What crosses a link: tcpdump to a file, and a reader of that file (Ethernet, IPv4/IPv6, TCP)."""
import ipaddress
import os
import signal
import struct
import subprocess

from .sh import LabError, in_netns, wait_until


class Segment:
    """One TCP segment. `ports` and addresses as sent on the wire."""
    __slots__ = ("time", "src", "sport", "dst", "dport", "seq", "flags", "payload")

    def __init__(self, time, src, sport, dst, dport, seq, flags, payload):
        self.time, self.src, self.sport, self.dst, self.dport = time, src, sport, dst, dport
        self.seq, self.flags, self.payload = seq, flags, payload


class Capture:
    """tcpdump on one interface of one namespace from construction to stop()."""

    def __init__(self, lab, name, netns, interface, expression="tcp"):
        self.path = os.path.join(lab.run_dir, "captures", f"{name}.pcap")
        self.err_path = self.path + ".err"
        if os.path.exists(self.path):
            os.unlink(self.path)
        with open(self.err_path, "wb") as err:
            self.process = subprocess.Popen(
                in_netns(netns, ["tcpdump", "-i", interface, "-w", self.path, "-U", "-s", "0", "-n",
                                 "-Z", "root", "-B", "65536", "--immediate-mode", expression]),
                stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=err, start_new_session=True)
        lab.remember_process(self.process.pid)
        lab.captures.append(self)
        wait_until(f"tcpdump on {interface}", self._listening, 10)

    def _listening(self):
        with open(self.err_path, encoding="utf-8", errors="replace") as err:
            text = err.read()
        if self.process.poll() is not None:
            raise LabError(f"tcpdump ended: {text.strip()}")
        return "listening on" in text

    def stop(self):
        """Ends the capture; the segments seen. Losing packets is an error: absence proves nothing then."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGINT)
            self.process.wait(timeout=10)
        with open(self.err_path, encoding="utf-8", errors="replace") as err:
            words = err.read()
        for line in words.splitlines():
            if "dropped by kernel" in line and not line.startswith("0 "):
                raise LabError(f"the capture lost packets: {line}")
        return self.segments()

    def raw(self):
        with open(self.path, "rb") as file:
            return file.read()

    def segments(self):
        found = []
        with open(self.path, "rb") as file:
            header = file.read(24)
            if len(header) < 24:
                return found
            magic, = struct.unpack("<I", header[:4])
            scale = 1e-9 if magic == 0xA1B23C4D else 1e-6
            while True:
                head = file.read(16)
                if len(head) < 16:
                    return found
                seconds, fraction, length, _ = struct.unpack("<IIII", head)
                segment = _parse(seconds + fraction * scale, file.read(length))
                if segment:
                    found.append(segment)


def _parse(time, frame):
    if len(frame) < 14:
        return None
    kind, = struct.unpack("!H", frame[12:14])
    packet = frame[14:]
    if kind == 0x0800 and len(packet) >= 20 and packet[9] == 6:
        total, = struct.unpack("!H", packet[2:4])
        start = (packet[0] & 15) * 4
        src, dst = packet[12:16], packet[16:20]
        end = total if total else len(packet)   # 0: a segment above 64 KiB (large offload)
    elif kind == 0x86DD and len(packet) >= 40 and packet[6] == 6:
        length, = struct.unpack("!H", packet[4:6])
        start, src, dst = 40, packet[8:24], packet[24:40]
        end = 40 + length if length else len(packet)
    else:
        return None
    tcp = packet[start:end]
    if len(tcp) < 20:
        return None
    sport, dport, seq = struct.unpack("!HHI", tcp[:8])
    return Segment(time, str(ipaddress.ip_address(src)), sport, str(ipaddress.ip_address(dst)), dport, seq,
                   tcp[13], tcp[(tcp[12] >> 4) * 4:])


def streams(segments):
    """(src, sport, dst, dport) -> the bytes of that direction, in order, repeats removed."""
    flows = {}
    for s in segments:
        if s.payload:
            flows.setdefault((s.src, s.sport, s.dst, s.dport), []).append(s)
    result = {}
    for key, parts in flows.items():
        base = parts[0].seq
        parts.sort(key=lambda s: (s.seq - base + 2**31) % 2**32)
        out = bytearray()
        expected = None
        for s in parts:
            if expected is not None:
                ahead = (s.seq - expected + 2**31) % 2**32 - 2**31
                if ahead < 0:
                    if ahead + len(s.payload) <= 0:
                        continue
                    out += s.payload[-ahead:]
                    expected = (expected + ahead + len(s.payload)) % 2**32
                    continue
            out += s.payload
            expected = (s.seq + len(s.payload)) % 2**32
        result[key] = bytes(out)
    return result


def carrying(segments, needle):
    """The flows in which the bytes of `needle` can be read."""
    return [key for key, data in streams(segments).items() if needle in data]


def looks_like_tls(data):
    """True if the bytes start with a TLS record (handshake, alert or application data)."""
    return len(data) >= 3 and data[0] in (0x14, 0x15, 0x16, 0x17) and data[1] == 3
