# SPDX-License-Identifier: Apache-2.0
"""The cases: what is sent over a subject's path, and what is read off. A case is asked once per subject and round."""
import json
import os
import time

TICKS = os.sysconf("SC_CLK_TCK")


class Case:
    """`path`: of Subject.route. `measures`: {field of the answer: (unit, better)}; better: "high" or "low"."""

    def __init__(self, name, path, measures, arguments, per=None):
        self.name, self.path, self.measures, self.arguments = name, path, dict(measures), arguments
        self.per = per   # what CPU is counted for: "GB" or "1000"
        if per:
            self.measures[f"cpu_ms_per_{per}"] = ("ms CPU of the proxies per " + ("GB" if per == "GB" else "1,000"), "low")

    def run(self, bench, subject):
        """{measure: value}, or None where the subject has no such path."""
        route = subject.route(self.path)
        if route is None:
            return None
        pod, address, port = route
        kind, *rest = self.arguments(bench, subject, self)
        before = cpu_seconds(subject.programs)
        done = pod.run([bench.load, kind, address, str(port), str(bench.seconds), *map(str, rest)], timeout=120)
        answer = json.loads(done.stdout)
        used = cpu_seconds(subject.programs) - before
        if answer.get("bad") or answer.get("lost"):
            bench.note(f"{subject.name}, {self.name}: {answer.get('bad', 0)} refused, {answer.get('lost', 0)} unanswered")
        found = {m: answer[m] for m in self.measures if m in answer}
        if self.per and subject.programs:
            units = answer["bytes"] / 1e9 if self.per == "GB" else (answer.get("count") or answer["good"]) / 1000
            found[f"cpu_ms_per_{self.per}"] = used * 1000 / max(units, 1e-9)
        return found


def cpu_seconds(programs):
    """User and system time of the processes; what the kernel does for them in interrupts is in nobody's account."""
    total = 0.0
    for program in programs:
        with open(f"/proc/{program.pid}/stat", encoding="utf-8", errors="replace") as stat:
            fields = stat.read().rpartition(")")[2].split()
        total += (int(fields[11]) + int(fields[12])) / TICKS
    return total


GBIT = {"gbit": ("Gbit/s", "high")}
DELAY = {"p50_us": ("us p50", "low"), "p99_us": ("us p99", "low")}


def stream(name, path, count, way):
    return Case(name, path, GBIT, lambda bench, subject, case: ("stream", count, way), per="GB")


def paced(name, path, size, rate):
    return Case(name, path, DELAY, lambda bench, subject, case: ("open", rate, size, 1), per="1000")


def at_most_of_own(name, path, size, part):
    """At a part of what this very subject can do on 16 connections, found right before."""
    def arguments(bench, subject, case):
        pod, address, port = subject.route(path)
        done = pod.run([bench.load, "open", address, str(port), str(bench.seconds / 2), "0", str(size), "16"], timeout=120)
        return "open", round(json.loads(done.stdout)["per_second"] * part), size, 16
    return Case(name, path, {"per_second": ("1/s", "high"), **DELAY}, arguments, per="1000")


def connections(name, path):
    return Case(name, path, {"per_second": ("connections/s", "high")}, lambda bench, subject, case: ("conn", 16), per="1000")


CASES = [
    stream("one stream, up", "cross", 1, "up"),
    stream("one stream, down", "cross", 1, "down"),
    stream("one stream, both ways", "cross", 1, "both"),
    stream("16 streams, up", "cross", 16, "up"),
    stream("16 streams, down", "cross", 16, "down"),
    stream("16 streams, both ways", "cross", 16, "both"),
    paced("1 B there and back, 1,000/s", "cross", 1, 1000),
    paced("1 KiB there and back, 1,000/s", "cross", 1024, 1000),
    paced("1 B there and back, 3,200/s", "cross", 1, 3200),
    paced("1 KiB there and back, 3,200/s", "cross", 1024, 3200),
    at_most_of_own("1 KiB, 16 connections, 80 % of own most", "cross", 1024, 0.8),
    connections("connect, 1 KiB, close", "cross"),
    stream("plaintext passthrough, one stream", "plain", 1, "up"),
    connections("plaintext passthrough, connect, 1 KiB, close", "plain"),
    stream("same node, one stream", "same", 1, "up"),
    paced("same node, 1 KiB there and back, 1,000/s", "same", 1024, 1000),
    connections("same node, connect, 1 KiB, close", "same"),
]
QUICK = ("one stream, up", "1 KiB there and back, 1,000/s", "connect, 1 KiB, close", "plaintext passthrough, one stream",
         "same node, one stream")


def settle(seconds=0.2):
    """Between two measurements: what the last one left in queues and closing sockets goes away."""
    time.sleep(seconds)
