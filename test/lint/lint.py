#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""The house rules that a machine can check. One function a rule; --json for test/run.

  test/lint/lint.py [--json] [RULE...]     rules: see RULES at the end
"""
import concurrent.futures
import json
import os
import re
import subprocess
import sys
import tempfile

import checklist as waypoint_checklist

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
JOBS = os.cpu_count() or 2
_NET = ("net/base/", "net/wire/", "net/async/", "net/io/", "net/conn/")
_MESH = ("mesh/",)

# folder -> what it may include besides itself (design section 2); the longest match counts.
LAYERS = {
    "net/base/": (),
    "net/wire/": ("net/base/",),
    "net/kernel/": ("net/base/",),
    "net/async/": ("net/base/",),
    "net/io/": ("net/base/", "net/async/"),
    "net/uv/": ("net/base/", "net/kernel/", "net/async/", "net/io/"),
    "net/conn/": ("net/base/", "net/async/", "net/io/", "net/wire/"),
    "mesh/model/": ("net/base/", "mesh/decide/"),
    "mesh/decide/": ("net/base/", "mesh/model/"),
    "mesh/": _NET + _MESH + ("proto/",),
    "ztunnel/": _NET + _MESH + ("proto/",),
    "waypoint/": _NET + _MESH + ("proto/",),
    "cni/": _NET + _MESH + ("net/kernel/", "proto/"),
    "control/": _NET + _MESH + ("proto/", "control/"),
    "control/compile/": ("net/base/", "mesh/model/", "mesh/decide/", "mesh/kube/"),
}
# Third-party headers: which folder wraps them, that is, may name them at all.
WRAPPED = {
    r"<uv\.h>": ("net/uv/",),
    r"<openssl/": ("net/wire/", "net/conn/"),
    r"<nghttp2/": ("net/wire/",),
    r"<llhttp\.h>": ("net/wire/",),
    r"<nftables/": ("cni/",),
    r"<CLI/": ("control/", "cni/"),
    r"<re2/": ("mesh/model/",),
    r"<zlib\.h>": ("net/wire/",),
}
NEVER_IN_HEADERS = (r"<uv\.h>", r"<openssl/", r"<nghttp2/", r"<llhttp\.h>", r"<nftables/", r"<CLI/", r"<yaml-cpp/", r"<re2/",
                    r"<nlohmann/", r"\.pb\.h", r"<google/protobuf")
# Time, chance and threads come through the constructor (design section 5).
BANNED = {
    r"\bstd::chrono::\w*clock\b": "a clock (use loop.now())",
    r"\b(?:clock_gettime|gettimeofday)\s*\(": "a clock (use loop.now())",
    r"(?<![\w.>:])::?time\s*\(\s*(?:nullptr|NULL|0)": "a clock (use loop.now())",
    r"\bstd::random_device\b": "a random device (take an Rng)",
    r"(?<![\w.>])s?rand\s*\(": "a random source (take an Rng)",
    r"\bgetrandom\s*\(": "a random device (take an Rng)",
    r"\bstd::j?thread\b": "a thread",
    r"\bpthread_create\s*\(": "a thread",
    r"\b(?:usleep|nanosleep)\s*\(|\bthis_thread::sleep": "a blocking sleep",
}
# Where time, chance or threads come from, and why there.
EXEMPT = {
    r"(?:^|/)program\.cc$": "the edge of a process: what main passes in is made here",
    r"^cni/(?:plugin_log|unix_http)\.cc$": "the plugin is one short blocking process without a loop",
    r"^cni/(?:netns|kernel|installer|tree_watch)\.(?:h|cc)$": "blocking kernel and file work runs off the loop (spec cni 10)",
}


def tracked():
    listing = subprocess.run(["git", "-C", ROOT, "ls-files"], capture_output=True, text=True, check=False)
    if listing.returncode == 0:
        return [f for f in listing.stdout.splitlines() if os.path.exists(os.path.join(ROOT, f))]
    found = []
    for folder, folders, files in os.walk(ROOT):
        folders[:] = [d for d in folders if not d.startswith(("build", ".git"))]
        found += [os.path.relpath(os.path.join(folder, f), ROOT) for f in files]
    return found


def read(path):
    with open(os.path.join(ROOT, path), encoding="utf-8", errors="replace") as file:
        return file.read()


def cxx(files, tests=True):
    return [f for f in files if f.endswith((".h", ".cc")) and (tests or not f.startswith("test/"))]


def code_lines(path):
    """(line number, line without comments and string contents)."""
    inside = False
    for number, line in enumerate(read(path).splitlines(), 1):
        line = re.sub(r'"(?:[^"\\]|\\.)*"', '""', line)
        if inside:
            if "*/" not in line:
                continue
            line, inside = line.split("*/", 1)[1], False
        line = re.sub(r"/\*.*?\*/", "", line)
        if "/*" in line:
            line, inside = line.split("/*", 1)[0], True
        yield number, line.split("//", 1)[0]


def is_main(path):
    return os.path.basename(path) == "main.cc" or path.endswith("_main.cc")


def layers(files):
    for path in cxx(files, tests=False):
        home = max((p for p in LAYERS if path.startswith(p)), key=len, default=None)
        if home is None:
            yield f"{path}: no layer is known for this folder (test/lint/lint.py LAYERS)"
            continue
        for number, line in enumerate(read(path).splitlines(), 1):
            match = re.match(r'\s*#\s*include\s+"([^"]+)"', line)
            if not match:
                continue
            target = match.group(1)
            if "/" not in target:
                yield f"{path}:{number}: includes \"{target}\" without its folder"
                continue
            if is_main(path) and target.startswith("net/uv/"):
                continue
            own = home if home not in ("mesh/",) else os.path.dirname(path) + "/"
            if not target.startswith((own,) + LAYERS[home]):
                yield f"{path}:{number}: {home} may not include {target}"


def wrappers(files):
    users = {}   # header -> folders that include it
    for path in cxx(files):
        for target in re.findall(r'^\s*#\s*include\s+"([^"]+)"', read(path), re.M):
            users.setdefault(target, set()).add(os.path.dirname(path))
    for path in cxx(files, tests=False):
        for number, line in enumerate(read(path).splitlines(), 1):
            if not re.match(r"\s*#\s*include", line):
                continue
            for pattern, homes in WRAPPED.items():
                if re.search(pattern, line) and not path.startswith(homes):
                    yield f"{path}:{number}: {line.strip()} outside {', '.join(homes)}"
            outside = users.get(path, set()) - {os.path.dirname(path)}
            if path.endswith(".h") and outside and any(re.search(p, line) for p in NEVER_IN_HEADERS):
                yield f"{path}:{number}: a header that {sorted(outside)[0]} uses shows {line.strip()}"


def guests(files):
    for path in cxx(files, tests=False):
        if path.startswith("net/uv/") or is_main(path) or any(re.search(p, path) for p in EXEMPT):
            continue
        for number, line in code_lines(path):
            for pattern, words in BANNED.items():
                if re.search(pattern, line):
                    yield f"{path}:{number}: {words}: {line.strip()[:90]}"
            if re.search(r"\bUv(?:Loop|Network|Machine)\b", line):
                yield f"{path}:{number}: only main.cc names UvLoop, UvNetwork and UvMachine"


def headers_alone(files):
    """A header that some .cc includes first compiles alone whenever that .cc compiles; the others are tried here."""
    first = set()
    for path in cxx(files):
        if path.endswith(".cc"):
            match = re.search(r'^\s*#\s*include\s+[<"]([^">]+)[">]', read(path), re.M)
            if match:
                first.add(match.group(1))
    left = [f for f in cxx(files) if f.endswith(".h") and f not in first]
    generated = next((os.path.join(ROOT, "build", b) for b in ("release", "asan", "tsan")
                      if os.path.isdir(os.path.join(ROOT, "build", b, "proto"))), os.path.join(ROOT, "build", "release"))

    def one(path):
        with tempfile.NamedTemporaryFile("w", suffix=".cc") as source:
            source.write(f'#include "{path}"\n')
            source.flush()
            done = subprocess.run(["clang++-19", "-std=c++23", "-fsyntax-only", "-D_GNU_SOURCE", "-I", ROOT, "-I", generated,
                                   "-isystem", "/usr/include/android", source.name], capture_output=True, text=True, check=False)
        if done.returncode != 0:
            error = next((line for line in done.stderr.splitlines() if "error" in line), done.stderr[:200])
            return f"{path}: does not compile alone: {error}"
        return None

    with concurrent.futures.ThreadPoolExecutor(JOBS) as pool:
        yield from (problem for problem in pool.map(one, left) if problem)


def formatting(files):
    sources = [f for f in cxx(files)]

    def some(chunk):
        done = subprocess.run(["clang-format-19", "--dry-run", "--Werror", *chunk], cwd=ROOT, capture_output=True, text=True, check=False)
        return sorted({line.split(":")[0] for line in done.stderr.splitlines() if re.match(r"[^\s:]+:\d+:\d+: error:", line)})

    chunks = [sources[i:i + 20] for i in range(0, len(sources), 20)]
    with concurrent.futures.ThreadPoolExecutor(JOBS) as pool:
        for wrong in pool.map(some, chunks):
            yield from (f"{path}: not formatted (clang-format-19 -i {path})" for path in wrong)


def readmes(files):
    folders = {os.path.dirname(f) for f in files if f.endswith((".cc", ".h", ".py", ".proto"))}
    for folder in sorted(folders):
        # test/unit/<room> mirrors the rooms; one README stands for all of them.
        owner = "test/unit" if folder.startswith("test/unit/") else folder
        if folder.startswith(("test/fuzz/corpus", "test/golden/")):
            continue
        path = os.path.join(owner, "README.md")
        if path not in files:
            yield f"{folder}: has no README.md"
    for path in files:
        if os.path.basename(path) == "README.md" and os.path.dirname(path):
            count = len(read(path).splitlines())
            limit = 80 if path in ("ztunnel/README.md",) else 40
            if count > limit:
                yield f"{path}: {count} lines, more than {limit}"


def licences(files):
    for path in files:
        base = os.path.basename(path)
        source = path.endswith((".h", ".cc", ".py", ".proto")) or (
            path.startswith(("deploy/", "test/", ".ci/")) and "." not in base and "corpus" not in path)
        if source and os.access(os.path.join(ROOT, path), os.R_OK):
            if not any("SPDX-License-Identifier: Apache-2.0" in line for line in read(path).splitlines()[:2]):
                yield f"{path}: no SPDX line at its head"


def unfinished(files):
    words = re.compile("|".join((r"(?i:\bstub(?:s|bed)?\b)", r"(?i:\bplace" + r"holder\b)", r"(?i:\bfor " + r"now\b)",
                                 r"\bFIX" + r"ME\b", r"\bHA" + r"CK\b", r"(?i:\bnot " + r"implemented\b)", r"\bTO" + r"DO\b")))
    for path in files:
        if not path.endswith((".h", ".cc", ".py", ".proto", ".sh")) or path == "test/lint/lint.py":
            continue
        for number, line in enumerate(read(path).splitlines(), 1):
            match = words.search(line)
            if match:
                yield f"{path}:{number}: `{match.group(0)}`: {line.strip()[:90]}"


def machine_paths(files):
    pattern = re.compile(r"(?<![\w.])/(?:wo" + r"rk|home/\w+)/")
    for path in files:
        if path.startswith("test/fuzz/corpus/") or path == "test/lint/lint.py":
            continue
        for number, line in enumerate(read(path).splitlines(), 1):
            if pattern.search(line):
                yield f"{path}:{number}: a path of one machine: {line.strip()[:90]}"


def mains(files):
    for path in cxx(files, tests=False):
        if is_main(path):
            count = len(read(path).splitlines())
            if count > 120:
                yield f"{path}: {count} lines; a program is a library and a short main"


def checklist(files):
    yield from waypoint_checklist.checklist(files, read)


RULES = {"layers": layers, "wrappers": wrappers, "guests": guests, "headers-alone": headers_alone, "format": formatting,
         "readmes": readmes, "licences": licences, "unfinished": unfinished, "machine-paths": machine_paths, "mains": mains,
         "checklist": checklist}


def main():
    as_json = "--json" in sys.argv[1:]
    wanted = [a for a in sys.argv[1:] if not a.startswith("-")] or list(RULES)
    files = tracked()
    failed = 0
    for name in wanted:
        problems = list(RULES[name](files))
        failed += bool(problems)
        if as_json:
            print(json.dumps({"rule": name, "problems": problems}), flush=True)
        else:
            print(f"{'FAIL' if problems else 'ok  '} {name}" + "".join(f"\n     {p}" for p in problems), flush=True)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
