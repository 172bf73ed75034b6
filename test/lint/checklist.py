# SPDX-License-Identifier: Apache-2.0
"""test/waypoint-checklist.md against the tree: what it calls tested must be there."""
import re

PATH = "test/waypoint-checklist.md"
OTHERS = ("later:", "not ours:", "as ", "section ")


def tags(files, read):
    """Every tag that a test case carries."""
    found = set()
    for path in files:
        if path.startswith("test/") and path.endswith(".cc"):
            for names in re.findall(r'"((?:\[[^\]"]+\])+)"\)\s*\{', read(path)):
                found.update(re.findall(r"\[[^\]]+\]", names))
    return found


def rows(text):
    """(line number, id, what stands in the second column)."""
    for number, line in enumerate(text.splitlines(), 1):
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if line.startswith("|") and len(cells) == 2 and cells[0] != "id" and not cells[0].startswith("---"):
            yield number, cells[0], cells[1]


def checklist(files, read):
    if PATH not in files:
        yield f"{PATH} is missing"
        return
    known, seen = tags(files, read), set()
    for number, name, where in rows(read(PATH)):
        here = f"{PATH}:{number}: {name}"
        if name in seen:
            yield f"{here} stands there twice"
        seen.add(name)
        claims = re.findall(r"`([^`]+)`", where)
        rest = re.sub(r"`[^`]+`[;,\s]*", "", where)
        if (rest or not claims) and not rest.startswith(OTHERS):
            yield f"{here}: say where it is tested, `later: reason` or `not ours: reason`, not {rest!r}"
        if re.search(r"(?:later|not ours):\s*$", where):
            yield f"{here}: a reason is missing"
        for claim in claims:
            if claim.startswith("["):
                if claim not in known:
                    yield f"{here}: no test case has the tag {claim}"
                continue
            path, _, text = claim.partition(": ")
            found = [p for p in (path, "test/" + path) if p in files]
            if not text or not found:
                if "/" in path:
                    yield f"{here}: {path} is no file of the tree"
            elif text not in re.sub(r'"\s*\n\s*"', "", read(found[0])):
                yield f"{here}: {found[0]} does not say {text!r}"
