"""One process of ours, and the supervisor that starts it again when it ended. An end that nobody asked for is kept: a
campaign that sees one has found a fault."""
import ctypes
import os
import pathlib
import queue
import signal
import subprocess
import threading
import time

PR_SET_PDEATHSIG = 1
LIBC = ctypes.CDLL(None)


def die_with_parent():
    LIBC.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


class Daemon:
    def __init__(self, name, kind, at, command, env, log, space):
        self.name, self.kind, self.at, self.command, self.env, self.log = name, kind, at, command, env, log
        self.space = space
        self.url = f"http://{at[0]}:{at[1]}"
        self.extra = {}             # settings that a fault adds at the next start
        self.process = None
        self.wanted = False
        self.asked = None           # the signal that explains the next end
        self.started = 0.0
        self.starts = 0
        self.silent_at = 0          # how long the log was when it was started

    @property
    def pid(self):
        return self.process.pid if self.process and self.process.poll() is None else None

    def signal(self, number):
        """Sends it when the process lives; what ends a process is remembered as asked for."""
        if number in (signal.SIGKILL, signal.SIGTERM):
            self.asked = number
        pid = self.pid
        if pid:
            os.kill(pid, number)
        return pid

    def spawn(self):
        self.asked = None
        command = (self.space.command() if self.space else []) + self.command
        with open(self.log, "ab", buffering=0) as log:
            self.silent_at = log.seek(0, os.SEEK_END)
            self.process = subprocess.Popen(command, env={**self.env, **self.extra}, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                                            preexec_fn=die_with_parent)
        self.started = time.monotonic()
        self.starts += 1

    def has_spoken(self):
        """Has this life of it written anything? Its first line comes when it handles signals already."""
        return self.log.exists() and self.log.stat().st_size > self.silent_at

    def children(self):
        """Pids of its direct children (expression processes)."""
        pid, found = self.pid, []
        for stat in pathlib.Path("/proc").glob("[0-9]*/stat"):
            try:
                fields = stat.read_text().rpartition(")")[2].split()
            except OSError:
                continue
            if int(fields[1]) == pid and fields[0] != "Z":
                found.append(int(stat.parent.name))
        return found

    def resources(self):
        pid = self.pid
        if not pid:
            return None
        try:
            status = pathlib.Path(f"/proc/{pid}/status").read_text()
            rss = next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmRSS:"))
            return {"pid": pid, "fds": len(os.listdir(f"/proc/{pid}/fd")), "rss_kb": rss, "children": len(self.children())}
        except (OSError, StopIteration):
            return None


class Supervisor:
    """All processes are started by one thread that lives as long as we do: they are killed when it ends."""

    def __init__(self, pause_s=0.4):
        self.pause_s = pause_s
        self.daemons, self.surprises = [], []
        self.orders = queue.Queue()
        self.closing = False
        self.thread = threading.Thread(target=self._run, daemon=True, name="supervisor")
        self.thread.start()

    def start(self, daemon):
        daemon.wanted = True
        self.orders.put(daemon)

    def _run(self):
        died = {}
        while not self.closing:
            try:
                daemon = self.orders.get(timeout=0.05)
                if daemon not in self.daemons:
                    daemon.spawn()
                    self.daemons.append(daemon)
            except queue.Empty:
                pass
            for daemon in self.daemons:
                if daemon.process.poll() is None:
                    continue
                if daemon.process not in died:
                    died[daemon.process] = time.monotonic()
                    self._look(daemon)
                if daemon.wanted and time.monotonic() - died[daemon.process] >= self.pause_s:
                    daemon.spawn()

    def _look(self, daemon):
        code, asked = daemon.process.returncode, daemon.asked
        if (asked == signal.SIGKILL and code == -signal.SIGKILL) or (asked == signal.SIGTERM and code in (0, 1)):
            return
        if asked == signal.SIGTERM and code == -signal.SIGTERM and not daemon.has_spoken():
            return                      # it was asked before it could listen: nothing had begun
        tail = daemon.log.read_text(errors="replace")[-3000:] if daemon.log.exists() else ""
        self.surprises.append({"process": daemon.name, "code": code, "asked": asked, "at": time.monotonic_ns(), "log": tail})

    def close(self):
        self.closing = True
        self.thread.join(10)
        for daemon in self.daemons:
            daemon.wanted = False
            daemon.signal(signal.SIGTERM)
            daemon.signal(signal.SIGCONT)
        deadline = time.monotonic() + 20
        for daemon in self.daemons:
            try:
                daemon.process.wait(max(deadline - time.monotonic(), 0.1))
            except subprocess.TimeoutExpired:
                daemon.process.kill()
                daemon.process.wait(5)
