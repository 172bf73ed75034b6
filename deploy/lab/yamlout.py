# SPDX-License-Identifier: Apache-2.0
"""Writes manifests as plain YAML (Python's standard library has no YAML) and files atomically."""
import json
import os
import re

_PLAIN = re.compile(r"^[A-Za-z_/][A-Za-z0-9_./-]*$")
_WORDS = {"true", "false", "null", "yes", "no", "on", "off", "y", "n", "~"}


def _scalar(value):
    if isinstance(value, str) and _PLAIN.match(value) and value.lower() not in _WORDS:
        return value
    return json.dumps(value)


def _emit(value, indent, lines):
    pad = "  " * indent
    if isinstance(value, dict):
        for key, item in value.items():
            if isinstance(item, (dict, list)) and item:
                lines.append(f"{pad}{_scalar(key)}:")
                _emit(item, indent + 1, lines)
            else:
                lines.append(f"{pad}{_scalar(key)}: {_scalar(item)}")
    else:
        for item in value:
            if isinstance(item, (dict, list)) and item:
                inner = []
                _emit(item, indent + 1, inner)
                inner[0] = f"{pad}- {inner[0].strip()}"
                lines.extend(inner)
            else:
                lines.append(f"{pad}- {_scalar(item)}")


def to_yaml(*documents):
    texts = []
    for document in documents:
        lines = []
        _emit(document, 0, lines)
        texts.append("\n".join(lines) + "\n")
    return "---\n".join(texts)


def write_atomically(path, text, mode=0o644):
    """Temp file in the same folder, then rename: a reader sees the old file or the new one."""
    folder, name = os.path.split(path)
    temporary = os.path.join(folder, f".{name}.tmp.{os.getpid()}")
    with open(temporary, "w", encoding="utf-8") as out:
        out.write(text)
    os.chmod(temporary, mode)
    os.rename(temporary, path)
