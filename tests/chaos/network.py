"""A network namespace for one process, joined to ours by a veth pair. Frames can be sent astray, so that the peer vanishes
without a FIN, as a machine does that loses its power; a veth that is down would give errors at once instead. Root only."""
import functools
import os
import subprocess
import sys

PREFIX = "rwchaos"
INNER = "chaos0"
NOBODY = "02:00:00:00:00:99"


def ip(*args, check=True):
    return subprocess.run(["ip", *args], check=check, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


@functools.cache
def namespaces_work():
    """Whether this machine lets us make them. Remains of campaigns whose conductor is dead go first."""
    try:
        for line in ip("netns", "list").stdout.splitlines():
            name = line.split()[0]
            owner = name.removeprefix(PREFIX).partition("-")[0]
            if name.startswith(PREFIX) and not os.path.exists(f"/proc/{owner}"):
                ip("netns", "del", name, check=False)
        trial = f"{PREFIX}{os.getpid()}-trial"
        ip("netns", "add", trial)
        ip("netns", "del", trial)
        return True
    except (OSError, subprocess.CalledProcessError) as error:
        print(f"chaos: no network namespaces here ({getattr(error, 'stderr', error)}): all processes stay on loopback", file=sys.stderr)
        return False


class Namespace:
    count = 0

    def __init__(self, name):
        self.name = f"{PREFIX}{os.getpid()}-{name}"
        used = ip("-o", "-4", "addr").stdout
        while True:
            net = f"10.{200 + (os.getpid() // 64) % 50}.{(os.getpid() % 64) * 4 + Namespace.count % 4}"
            Namespace.count += 1
            if f" {net}." not in used:
                break
        self.outside, self.inside = net + ".1", net + ".2"
        self.veth = f"rwc{os.getpid() % 1000000}-{Namespace.count}"
        ip("netns", "add", self.name)
        ip("link", "add", self.veth, "type", "veth", "peer", "name", INNER, "netns", self.name)
        ip("addr", "add", self.outside + "/24", "dev", self.veth)
        ip("link", "set", self.veth, "up")
        ip("-n", self.name, "addr", "add", self.inside + "/24", "dev", INNER)
        ip("-n", self.name, "link", "set", "lo", "up")
        ip("-n", self.name, "link", "set", INNER, "up")
        ip("-n", self.name, "route", "add", "default", "via", self.outside)

    def command(self):
        return ["ip", "netns", "exec", self.name]

    def vanish(self, to_inside=True, to_outside=True):
        """Frames go to an address that nobody has: no answer and no error, in both directions or one."""
        if to_inside:
            ip("neigh", "replace", self.inside, "lladdr", NOBODY, "nud", "permanent", "dev", self.veth)
        if to_outside:
            ip("-n", self.name, "neigh", "replace", self.outside, "lladdr", NOBODY, "nud", "permanent", "dev", INNER)

    def join(self):
        ip("neigh", "del", self.inside, "dev", self.veth, check=False)
        ip("-n", self.name, "neigh", "del", self.outside, "dev", INNER, check=False)

    def remove(self):
        ip("netns", "del", self.name, check=False)
        ip("link", "del", self.veth, check=False)
