#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Builds and runs the tests and counts single tests, not executables. Called by test/run."""
import argparse
import concurrent.futures
import html
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
BUILDS = os.path.join(ROOT, "build")
CATCH_SUITES = ("unit", "contract", "golden", "sim")
KINDS = CATCH_SUITES + ("e2e", "fuzz", "lint", "bench")
JOBS = os.cpu_count() or 2

# name -> meson options. Fuzz targets live in the ASan build, so that three builds are enough.
CONFIGURATIONS = {
    "release": ["-Dbuildtype=release"],
    "asan": ["-Dbuildtype=plain", "-Dsanitize=address", "-Dfuzz=true", "-Dcpp_args=-O1 -gline-tables-only",
             "-Dc_args=-O1 -gline-tables-only"],
    "tsan": ["-Dbuildtype=plain", "-Dsanitize=thread", "-Dcpp_args=-O1 -gline-tables-only",
             "-Dc_args=-O1 -gline-tables-only"],
}
TIMEOUT_SECONDS = {"release": 300, "asan": 600, "tsan": 900}
FUZZ_SECONDS = 5
PROGRAMS = ["ztunnel/ztunnel", "cni/istio-cni", "cni/install-cni", "control/culvertd", "control/culvert",
            "waypoint/waypoint"]


class Sum:
    """What ran. A group is one line of the summary."""

    def __init__(self):
        self.groups = []
        self.problems = []

    def add(self, name, passed, failed, skipped=0, seconds=0.0):
        self.groups.append((name, passed, failed, skipped, seconds))
        words = f"{passed} passed, {failed} failed" + (f", {skipped} skipped" if skipped else "")
        print(f"-- {name}: {words} ({seconds:.0f} s)", flush=True)

    def problem(self, name, text):
        self.problems.append((name, text))
        print(f"   FAIL {name}\n" + "\n".join("      " + line for line in text.strip().splitlines()[-40:]), flush=True)

    def finish(self):
        passed = sum(g[1] for g in self.groups)
        failed = sum(g[2] for g in self.groups)
        skipped = sum(g[3] for g in self.groups)
        if self.problems:
            print("\nFailed:")
            for name, text in self.problems:
                last = text.strip().splitlines()
                print(f"  {name}: {last[-1][:200] if last else ''}")
        print("\nSummary:")
        for name, good, bad, left, seconds in self.groups:
            print(f"  {name:28} {good:5} passed {bad:4} failed {left:4} skipped {seconds:7.0f} s")
        print(f"\n{passed} passed, {failed} failed" + (f", {skipped} skipped" if skipped else ""), flush=True)
        return 1 if failed or not passed else 0


def environment():
    env = dict(os.environ)
    if shutil.which("ccache"):
        env.update(CC="ccache clang-19", CXX="ccache clang++-19", CCACHE_NOHASHDIR="1", CCACHE_BASEDIR=ROOT)
    else:
        env.update(CC="clang-19", CXX="clang++-19")
    symbolizer = shutil.which("llvm-symbolizer-19") or ""
    env.setdefault("ASAN_OPTIONS", f"detect_leaks=1:strict_string_checks=1:external_symbolizer_path={symbolizer}")
    env.setdefault("UBSAN_OPTIONS", f"print_stacktrace=1:external_symbolizer_path={symbolizer}")
    env.setdefault("TSAN_OPTIONS", f"second_deadlock_stack=1:external_symbolizer_path={symbolizer}")
    return env


def configure(name, total):
    """The build directory of a configuration; None (and one failure) when meson refuses."""
    folder = os.path.join(BUILDS, name)
    if os.path.exists(os.path.join(folder, "build.ninja")):
        subprocess.run(["meson", "configure", folder, "-Dtests=true"], env=environment(), check=False,
                       stdout=subprocess.DEVNULL)
        # What the meson files say now, not what they said when the directory was made.
        again = subprocess.run(["ninja", "-C", folder, "build.ninja"], env=environment(), capture_output=True,
                               text=True, check=False)
        if again.returncode != 0:
            total.problem(f"{name}: meson", again.stdout[-3000:])
            total.add(f"{name}: build", 0, 1)
            return None
        return folder
    done = subprocess.run(["meson", "setup", folder, ROOT, "-Dtests=true", *CONFIGURATIONS[name]],
                          env=environment(), capture_output=True, text=True, check=False)
    if done.returncode != 0:
        total.problem(f"{name}: meson setup", done.stdout[-3000:] + done.stderr[-1000:])
        total.add(f"{name}: build", 0, 1)
        return None
    return folder


def build(name, folder, targets, total):
    began = time.monotonic()
    print(f"== building {name}: {len(targets)} targets", flush=True)
    done = subprocess.run(["ninja", "-k", "0", "-C", folder, *targets], env={**environment(), "NINJA_STATUS": "[%f/%t %es] "},
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace", check=False)
    if done.returncode != 0:
        errors = [line for line in done.stdout.splitlines() if "error" in line or line.startswith("FAILED")]
        total.problem(f"{name}: build", "\n".join(errors[:30]) or done.stdout[-2000:])
        total.add(f"{name}: build", 0, 1, seconds=time.monotonic() - began)
        return False
    print(f"== built {name} in {time.monotonic() - began:.0f} s", flush=True)
    return True


def introspect(folder):
    done = subprocess.run(["meson", "introspect", "--tests", folder], capture_output=True, text=True, check=True)
    return json.loads(done.stdout)


def suite_of(test):
    return next((s.split(":")[-1] for s in test["suite"] if s.split(":")[-1] in CATCH_SUITES), None)


def run_catch(test, configuration):
    """(passed, [(test case, words)]) of one Catch2 executable, read from its XML."""
    with tempfile.TemporaryDirectory() as scratch:
        report = os.path.join(scratch, "report.xml")
        env = {**environment(), **test.get("env", {})}
        command = [*test["cmd"], "-r", "xml", "-o", report]
        try:
            done = subprocess.run(command, env=env, cwd=test.get("workdir") or scratch, capture_output=True, text=True,
                                  errors="replace", timeout=TIMEOUT_SECONDS[configuration], check=False)
            status, output = done.returncode, done.stdout + done.stderr
        except subprocess.TimeoutExpired as late:
            status = "timeout"
            output = (late.stderr or b"").decode(errors="replace") + f"\nno end within {TIMEOUT_SECONDS[configuration]} s"
        text = ""
        if os.path.exists(report):
            with open(report, encoding="utf-8", errors="replace") as file:
                text = file.read()
    passed, failures = 0, []
    for chunk in re.split(r"(?=<TestCase )", text)[1:]:
        name = html.unescape(re.search(r'name="([^"]*)"', chunk).group(1))
        if re.search(r'<OverallResult success="true"', chunk):
            passed += 1
            continue
        words = [" ".join(html.unescape(re.sub(r"<[^>]+>", " ", part)).split())
                 for part in re.findall(r'<Expression success="false".*?</Expression>|<Failure.*?</Failure>|'
                                        r"<FatalErrorCondition.*?</FatalErrorCondition>|<Exception.*?</Exception>", chunk, re.S)]
        place = re.search(r'filename="([^"]*)" line="(\d+)"', chunk)
        where = f"{os.path.relpath(place.group(1), ROOT) if place else '?'}:{place.group(2) if place else '?'}"
        failures.append((name, f"{where}: " + ("; ".join(words[:3]) or "did not end: " + output[-1500:])))
    if status != 0 and not failures:
        failures.append(("(the executable)", f"exit status {status}\n{output[-3000:]}"))
    if status == 0 and not passed:
        failures.append(("(the executable)", "no test case ran"))
    return passed, failures


def run_suites(configuration, suites, total):
    folder = configure(configuration, total)
    if folder is None:
        return
    tests = [t for t in introspect(folder) if suite_of(t) in suites]
    targets = sorted({os.path.relpath(t["cmd"][0], folder) for t in tests})
    if not tests:
        return
    if not build(configuration, folder, targets, total):
        tests = [t for t in tests if os.path.exists(t["cmd"][0])]
    for suite in suites:
        chosen = [t for t in tests if suite_of(t) == suite]
        if not chosen:
            continue
        began, passed, failed = time.monotonic(), 0, 0
        with concurrent.futures.ThreadPoolExecutor(JOBS) as pool:
            for test, (good, bad) in zip(chosen, pool.map(lambda t: run_catch(t, configuration), chosen)):
                passed, failed = passed + good, failed + len(bad)
                for name, words in bad:
                    total.problem(f"{configuration} {test['name']}: {name}", words)
        total.add(f"{suite} ({configuration})", passed, failed, seconds=time.monotonic() - began)


def run_fuzz(total):
    folder = configure("asan", total)
    if folder is None:
        return
    listing = subprocess.run(["meson", "introspect", "--targets", folder], capture_output=True, text=True, check=True)
    targets = [t for t in json.loads(listing.stdout) if t["name"].startswith("fuzz_") and t["type"] == "executable"]
    if not targets:
        total.problem("fuzz", "no fuzz target exists")
        total.add("fuzz", 0, 1)
        return
    paths = [t["filename"][0] for t in targets]
    build("asan", folder, [os.path.relpath(p, folder) for p in paths], total)
    began = time.monotonic()

    def one(path):
        name = os.path.basename(path)[len("fuzz_"):]
        corpus = os.path.join(ROOT, "test", "fuzz", "corpus", name)
        with tempfile.TemporaryDirectory() as grown:
            command = [path, f"-max_total_time={FUZZ_SECONDS}", "-timeout=10", "-rss_limit_mb=2048",
                       "-print_final_stats=1", f"-artifact_prefix={grown}/", grown]
            if os.path.isdir(corpus):
                command.append(corpus)
            try:
                done = subprocess.run(command, env=environment(), capture_output=True, text=True, errors="replace",
                                      timeout=FUZZ_SECONDS + 120, check=False)
            except (OSError, subprocess.TimeoutExpired) as error:
                return name, False, str(error)
        return name, done.returncode == 0, done.stderr

    with concurrent.futures.ThreadPoolExecutor(JOBS) as pool:
        results = list(pool.map(one, paths))
    for name, good, words in results:
        runs = re.search(r"number_of_executed_units: (\d+)", words)
        if good:
            print(f"   {name}: {runs.group(1) if runs else '?'} inputs")
        else:
            total.problem(f"fuzz {name}", words[-3000:])
    total.add("fuzz", sum(g for _, g, _ in results), sum(not g for _, g, _ in results), seconds=time.monotonic() - began)


def run_e2e(configuration, total, extra):
    folder = configure(configuration, total)
    if folder is None or not build(configuration, folder, PROGRAMS, total):
        return
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as scratch:
        report = os.path.join(scratch, "report.xml")
        done = subprocess.run(["/usr/bin/python3", "-m", "pytest", "-p", "no:cacheprovider", "-q", "--tb=short", "--color=no",
                               f"--junitxml={report}", os.path.join(ROOT, "test", "e2e"), *extra],
                              env={**environment(), "CULVERT_BUILD": folder, "PYTHONDONTWRITEBYTECODE": "1"}, check=False)
        text = ""
        if os.path.exists(report):
            with open(report, encoding="utf-8") as file:
                text = file.read()
    passed = failed = skipped = 0
    for case in re.findall(r"<testcase .*?(?:/>|</testcase>)", text, re.S):
        name = html.unescape(re.search(r' name="([^"]*)"', case).group(1))
        if "<failure" in case or "<error" in case:
            failed += 1
            words = re.search(r'message="([^"]*)"', case)
            total.problem(f"e2e ({configuration}) {name}", html.unescape(words.group(1)) if words else "")
        elif "<skipped" in case:
            skipped += 1
        else:
            passed += 1
    if done.returncode not in (0, 1) or not passed + failed:
        failed += 1
        total.problem(f"e2e ({configuration})", f"pytest ended with {done.returncode}")
    total.add(f"e2e ({configuration})", passed, failed, skipped, time.monotonic() - began)


def run_lint(total):
    began = time.monotonic()
    done = subprocess.run(["/usr/bin/python3", os.path.join(ROOT, "test", "lint", "lint.py"), "--json"],
                          env=environment(), capture_output=True, text=True, check=False)
    try:
        rows = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    except ValueError:
        rows = []
    if not rows:
        total.problem("lint", done.stdout[-500:] + done.stderr[-2000:])
        total.add("lint", 0, 1, seconds=time.monotonic() - began)
        return
    for row in rows:
        if row["problems"]:
            total.problem(f"lint {row['rule']}", "\n".join(row["problems"][:25]))
    total.add("lint", sum(not r["problems"] for r in rows), sum(bool(r["problems"]) for r in rows),
              seconds=time.monotonic() - began)


def run_bench(total, arguments):
    folder = configure("release", total)
    if folder is None or not build("release", folder, PROGRAMS, total):
        return
    began = time.monotonic()
    done = subprocess.run(["/usr/bin/python3", os.path.join(ROOT, "test", "bench", "bench.py"), *arguments],
                          env={**environment(), "CULVERT_BUILD": folder}, check=False)
    total.add("bench", int(done.returncode == 0), int(done.returncode != 0), seconds=time.monotonic() - began)


def main():
    parser = argparse.ArgumentParser(prog="test/run")
    parser.add_argument("kinds", nargs="*", help=", ".join(KINDS + ("all",)))
    parser.add_argument("--release-only", action="store_true", help="no sanitizer builds")
    parser.add_argument("-k", dest="expression", help="only end-to-end tests matching this (as pytest -k)")
    # What the runner does not know is the benchmark's: test/run bench --quick.
    args, more = parser.parse_known_args()
    if more and args.kinds != ["bench"]:
        parser.error(f"unknown option {more[0]}")
    unknown = [k for k in args.kinds if k not in KINDS + ("all",)]
    if unknown:
        parser.error(f"unknown kind {unknown[0]}; known: {', '.join(KINDS)}, all")
    kinds = [k for k in KINDS if k != "bench"] if not args.kinds or "all" in args.kinds else args.kinds
    total = Sum()
    suites = [s for s in CATCH_SUITES if s in kinds]
    if "lint" in kinds:
        run_lint(total)
    configurations = ["release"] if args.release_only else list(CONFIGURATIONS)
    if suites:
        for configuration in configurations:
            run_suites(configuration, suites, total)
    if "fuzz" in kinds:
        run_fuzz(total)
    if "e2e" in kinds:
        extra = ["-k", args.expression] if args.expression else []
        run_e2e("release", total, extra)
        if not args.release_only:
            run_e2e("asan", total, extra or ["-m", "sanitized"])
    if "bench" in kinds:
        run_bench(total, more)
    return total.finish()


if __name__ == "__main__":
    sys.exit(main())
