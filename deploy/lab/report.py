# SPDX-License-Identifier: Apache-2.0
"""One line per check with what was observed, and the sum at the end."""
import contextlib
import json
import sys
import time
import traceback

from .programs import Ended
from .sh import LabError


class Failed(Exception):
    """A check observed something else than it should have."""


class Check:
    """Handed to the body of one check: says what it saw and what it insists on."""

    def __init__(self, title):
        self.title = title
        self.observed = []

    def saw(self, text):
        self.observed.append(text)

    def must(self, condition, otherwise):
        if not condition:
            raise Failed(otherwise)


class Report:
    def __init__(self, as_json=False, out=sys.stdout):
        self.as_json, self.out = as_json, out
        self.passed = self.failed = 0
        self.results = []
        self.section = ""
        self.began = time.monotonic()

    def _print(self, text):
        if not self.as_json:
            print(text, file=self.out, flush=True)

    def heading(self, text):
        self.section = text
        self._print(f"\n{text}")

    def progress(self, text):
        self._print(f"  .    {text}")

    @contextlib.contextmanager
    def check(self, title):
        """`with report.check("...") as c:`; any exception fails this check and the next one goes on."""
        check = Check(title)
        began = time.monotonic()
        problem = None
        try:
            yield check
        except (Failed, LabError, Ended) as error:
            problem = str(error)
        except Exception as error:   # a broken check is a failed check, with its place
            place = traceback.extract_tb(error.__traceback__)[-1]
            problem = f"{type(error).__name__}: {error} ({place.name}, line {place.lineno})"
        seconds = time.monotonic() - began
        observed = "; ".join(check.observed)
        if problem is None:
            self.passed += 1
            self._print(f"  ok   {title}: {observed}")
        else:
            self.failed += 1
            seen = f" (before that: {observed})" if observed else ""
            self._print(f"  FAIL {title}: {problem}{seen}")
        row = {"section": self.section, "check": title, "passed": problem is None,
               "observed": observed, "problem": problem, "seconds": round(seconds, 3)}
        self.results.append(row)
        if self.as_json:
            print(json.dumps(row), file=self.out, flush=True)

    def finish(self):
        """The last line, alone; the exit status."""
        line = f"{self.passed} passed, {self.failed} failed"
        if self.as_json:
            print(json.dumps({"passed": self.passed, "failed": self.failed,
                              "seconds": round(time.monotonic() - self.began, 1)}), file=self.out, flush=True)
            print(line, file=sys.stderr, flush=True)
        else:
            print(f"\n{line}", file=self.out, flush=True)
        return 1 if self.failed or not self.passed else 0
