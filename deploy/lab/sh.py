# SPDX-License-Identifier: Apache-2.0
"""Running commands and waiting for conditions. Everything in the lab waits through wait_until."""
import subprocess
import time


class LabError(Exception):
    """A sentence for a person: what was tried and what happened instead."""


def run(argv, *, input=None, timeout=30, check=True, env=None):
    """Runs a command to its end; its output as text. A failure carries the command's own words."""
    argv = [str(a) for a in argv]
    try:
        done = subprocess.run(argv, input=input, capture_output=True, text=True, errors="replace",
                              timeout=timeout, env=env)
    except subprocess.TimeoutExpired as late:
        raise LabError(f"`{' '.join(argv)}` did not end within {timeout} s") from late
    except FileNotFoundError as absent:
        raise LabError(f"{argv[0]} is not installed (deploy/setup installs it)") from absent
    if check and done.returncode != 0:
        words = (done.stderr.strip() or done.stdout.strip())[-600:]
        raise LabError(f"`{' '.join(argv)}` ended with {done.returncode}: {words}")
    return done


def wait_until(what, condition, timeout=5.0, interval=0.02):
    """Waits until condition() is true and returns what it returned; LabError at the deadline.

    An exception of kind LabError/OSError/ValueError inside condition counts as "not yet" and is
    told at the deadline.
    """
    end = time.monotonic() + timeout
    last = None
    while True:
        try:
            value = condition()
            if value:
                return value
            last = value
        except (LabError, OSError, ValueError, KeyError) as error:
            last = error
        if time.monotonic() >= end:
            seen = "" if last in (None, False, "") else f" (last seen: {str(last)[-300:]})"
            raise LabError(f"{what}: not within {timeout:g} s{seen}")
        time.sleep(interval)


def in_netns(namespace, argv):
    """The command that runs argv in a named network namespace, keeping the pid and all mounts."""
    return ["nsenter", f"--net=/run/netns/{namespace}", "--", *[str(a) for a in argv]]
