# SPDX-License-Identifier: Apache-2.0
"""Programs of the lab: started in a namespace with a log file, stopped by their own pid."""
import os
import signal
import subprocess
import time

from .sh import LabError, in_netns, wait_until


def start_time_of(pid):
    """Field 22 of /proc/PID/stat: with the pid it names one process for good."""
    with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as stat:
        return stat.read().rpartition(")")[2].split()[19]


class Program:
    """One running program. Owned by the Lab, which ends whatever is left."""

    def __init__(self, lab, name, argv, *, netns=None, env=None, cgroup=None, cwd=None, tag=None):
        self.name = name
        self.transient = False   # a client of one check, ended by `tidy` if the check could not
        self.log_path = os.path.join(lab.run_dir, "logs", f"{name}.log")
        number = 1
        while os.path.exists(self.log_path):   # started again: a log of its own
            number += 1
            self.log_path = os.path.join(lab.run_dir, "logs", f"{name}.{number}.log")
        command = in_netns(netns, argv) if netns else [str(a) for a in argv]
        full_env = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "HOME": "/root", "LANG": "C.UTF-8"}
        full_env.update(env or {})
        for key in ("ASAN_OPTIONS", "UBSAN_OPTIONS", "TSAN_OPTIONS"):
            if key in os.environ:
                full_env.setdefault(key, os.environ[key])
        self.started_at = time.monotonic()
        with open(self.log_path, "ab") as log:
            self.process = subprocess.Popen(
                command, env=full_env, cwd=cwd or lab.run_dir, stdin=subprocess.DEVNULL, stdout=log,
                stderr=subprocess.STDOUT, start_new_session=True)
        self.pid = self.process.pid
        if cgroup:
            with open(os.path.join(cgroup, "cgroup.procs"), "w", encoding="utf-8") as procs:
                procs.write(str(self.pid))
        lab.remember_process(self.pid)

    def alive(self):
        return self.process.poll() is None

    def log(self, offset=0):
        with open(self.log_path, encoding="utf-8", errors="replace") as log:
            log.seek(offset)
            return log.read()

    def log_size(self):
        return os.path.getsize(self.log_path)

    def log_tail(self, lines=3):
        return " | ".join(self.log().strip().splitlines()[-lines:])

    def signal(self, number):
        if self.alive():
            self.process.send_signal(number)

    def kill(self):
        """kill -9, and wait until it is gone."""
        self.signal(signal.SIGKILL)
        self.process.wait(timeout=5)

    def stop(self, timeout=10):
        """SIGTERM; SIGKILL at the deadline. Its exit status."""
        self.signal(signal.SIGTERM)
        try:
            return self.process.wait(timeout=timeout)
        except subprocess.TimeoutExpired:
            self.kill()
            raise LabError(f"{self.name} did not end within {timeout} s of SIGTERM") from None

    def wait_for(self, what, condition, timeout=10):
        """wait_until, but says so at once when the program ends meanwhile."""
        def alive_and():
            if not self.alive():
                raise Ended(f"{self.name} ended with {self.process.returncode} before it was {what}: "
                            f"{self.log_tail()}")
            return condition()
        return wait_until(f"{self.name} {what}", alive_and, timeout)

    def rss_kib(self):
        with open(f"/proc/{self.pid}/status", encoding="utf-8") as status:
            for line in status:
                if line.startswith("VmRSS:"):
                    return int(line.split()[1])
        return 0


class Ended(Exception):
    """A program ended while it was waited for. Not a LabError, so that no wait retries it."""
