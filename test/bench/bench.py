#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""The benchmark: the same loads over every subject in turns, medians with their range, a table and JSON."""
import argparse
import json
import os
import statistics
import sys
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "deploy"))
from lab.lab import Lab   # noqa: E402
from lab.sh import run   # noqa: E402

from cases import CASES, QUICK, settle   # noqa: E402
from costs import COSTS   # noqa: E402
from subjects import Field, make_subjects   # noqa: E402

SUBJECTS = ("direct", "haproxy-tcp", "haproxy-mtls", "culvert", "culvert-tunnel")
# --quick: (case, measure, against, bound). Generous: a shared machine must not fail, a path gone slow must.
BOUNDS = [
    ("one stream, up", "gbit", "haproxy-mtls", 0.6),
    ("1 KiB there and back, 1,000/s", "p50_us", "haproxy-mtls", 2.0),
    ("connect, 1 KiB, close", "per_second", "haproxy-mtls", 1.0),
    ("plaintext passthrough, one stream", "gbit", "haproxy-tcp", 0.4),
    ("same node, one stream", "gbit", "direct", 0.25),
]


class BenchLab(Lab):
    """A lab whose programs may be replaced by others of the same behaviour."""
    replaced = {}

    def binary(self, name):
        return self.replaced.get(name) or super().binary(name)


class Bench:
    def __init__(self, lab, options):
        self.lab, self.options, self.seconds = lab, options, options.seconds
        self.load = os.path.join(lab.build_dir, "test", "bench", "bench_load")
        self.field = Field(lab, self.load)
        self.scene = self.field.scene
        self.results = {}   # (case, subject, measure): values
        self.cases = [c for c in CASES if (c.name in QUICK if options.quick else True) and
                      (not options.cases or any(part in c.name for part in options.cases))]

    def note(self, text):
        print(f"  note: {text}", flush=True)

    def raise_all(self):
        self.field.raise_all({})
        peers = {os.path.basename(path) if path.count("=") == 0 else path.split("=")[0]: path.split("=")[-1]
                 for path in self.options.peer}
        self.subjects = make_subjects(self.field, self.options.subjects, peers)

    def rounds(self):
        for number in range(self.options.rounds):
            # Every second round the other way about: what comes first has no advantage.
            for subject in (self.subjects if number % 2 == 0 else self.subjects[::-1]):
                subject.activate()
                for case in self.cases:
                    found = case.run(self, subject)
                    for measure, value in (found or {}).items():
                        self.results.setdefault((case.name, subject.name, measure), []).append(value)
                    settle()
            print(f"  round {number + 1} of {self.options.rounds}", flush=True)
        mesh = [s for s in self.subjects if s.name == "culvert"]
        for subject in mesh:
            subject.activate()   # the costs are ours

    def median(self, case, subject, measure):
        values = self.results.get((case, subject, measure))
        return statistics.median(values) if values else None

    def table(self):
        names = [s.name for s in self.subjects]
        print(f"\n| {'case':44} | {'unit':30} |" + "".join(f" {n:>24} |" for n in names))
        print(f"|{'-' * 46}|{'-' * 32}|" + "".join(f"{'-' * 25}:|" for _ in names))
        for case in self.cases:
            for measure, (unit, _) in case.measures.items():
                cells = []
                for name in names:
                    values = self.results.get((case.name, name, measure))
                    cells.append(f"{statistics.median(values):.4g} ({min(values):.4g}..{max(values):.4g})" if values else "")
                if any(cells):
                    print(f"| {case.name:44} | {unit:30} |" + "".join(f" {c:>24} |" for c in cells))

    def judge(self):
        """Of --quick: which bounds are broken."""
        broken = []
        for case, measure, against, bound in BOUNDS:
            ours, theirs = self.median(case, "culvert", measure), self.median(case, against, measure)
            if not ours or not theirs:
                continue
            ratio = ours / theirs
            low = next(c for c in CASES if c.name == case).measures[measure][1] == "low"
            good = ratio <= bound if low else ratio >= bound
            print(f"  {'ok ' if good else 'BAD'} {case}: {measure} {ratio:.2f} x {against} (bound {bound})")
            if not good:
                broken.append(case)
        return broken

    def costs(self):
        found = {}
        for cost in COSTS:
            if self.options.costs and cost.__name__ not in self.options.costs:
                continue
            for name, value in cost(self).items():
                found[name] = value
                print(f"  {name:44} {value}", flush=True)
        return found


def parse():
    parser = argparse.ArgumentParser(prog="test/run bench")
    parser.add_argument("--quick", action="store_true", help="a few cases, three rounds, with bounds: exits 1 beyond them")
    parser.add_argument("--seconds", type=float, help="of each measurement (2; quick: 1)")
    parser.add_argument("--rounds", type=int, help="7; quick: 3")
    parser.add_argument("--peer", action="append", default=[], metavar="[NAME=]PATH", help="another ztunnel-compatible binary")
    parser.add_argument("--subjects", default=SUBJECTS, type=lambda t: t.split(","), help=",".join(SUBJECTS))
    parser.add_argument("--cases", default=[], type=lambda t: t.split(";"), help="parts of case names, with ; between")
    parser.add_argument("--costs", default=[], type=lambda t: t.split(","), help="none, or " + ",".join(c.__name__ for c in COSTS))
    parser.add_argument("--one-core", action="store_true", help="everything on one core: length of path, not wake-ups")
    parser.add_argument("--idle", type=int, default=10000, help="idle connections")
    parser.add_argument("--workloads", default=[1000, 10000, 100000, 1000000], type=lambda t: [int(n) for n in t.split(",") if n])
    parser.add_argument("--soak", type=float, default=0, metavar="MINUTES")
    parser.add_argument("--json", metavar="FILE")
    options = parser.parse_args()
    options.seconds = options.seconds or (1.0 if options.quick else 2.0)
    options.rounds = options.rounds or (3 if options.quick else 7)
    return options


def main():
    options = parse()
    if options.one_core:
        os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})   # and so every program of the lab
    broken = []
    with BenchLab("bench") as lab:
        bench = Bench(lab, options)
        if not os.path.exists(bench.load):
            run(["ninja", "-C", lab.build_dir, "test/bench/bench_load", "test/bench/bench_ingest"], timeout=900)
        bench.raise_all()
        bench.rounds()
        bench.table()
        if options.quick:
            broken = bench.judge()
            figures = {}
        else:
            print()
            figures = bench.costs()
        document = {"date": time.strftime("%Y-%m-%d"), "machine": machine(), "cores": len(os.sched_getaffinity(0)),
                    "seconds": options.seconds, "rounds": options.rounds, "figures": figures,
                    "results": [{"case": c, "subject": s, "measure": m, "median": statistics.median(v), "values": v}
                                for (c, s, m), v in bench.results.items()]}
        if options.json:
            with open(options.json, "w", encoding="utf-8") as out:
                json.dump(document, out, indent=1)
        else:
            print(json.dumps(document))
    return 1 if broken else 0


def machine():
    with open("/proc/cpuinfo", encoding="utf-8") as info:
        model = next((line.split(":", 1)[1].strip() for line in info if line.startswith("model name")), "unknown")
    return f"{model}, {os.cpu_count()} cores, Linux {os.uname().release}"


if __name__ == "__main__":
    sys.exit(main())
