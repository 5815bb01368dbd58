#!/usr/bin/env python3
"""Boot real Debian servers on this machine, and remove them without a trace.

Each host is a Debian root file system with an overlay on top of a cached tree,
booted with systemd in systemd-nspawn, with a network namespace and an address
of its own, reached over SSH like a rented server. Hosts that belong together
form a bed: one bridge, one network, one SSH key. Needs root and a Debian-like
machine.

    testbed.py up BED [--release trixie] [--owner PID] [--shared DIR] HOST...
    testbed.py down BED
    testbed.py list
    testbed.py ssh BED HOST [COMMAND...]

With --owner a bed disappears as soon as that process is gone, however it ended.
"""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import hashlib
import inspect
import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

STATE = Path("/run/groundwork-testbed")
CACHE = Path("/var/cache/groundwork-testbed")
# In memory where there is plenty: what a test host writes is gone with it, and then so at once.
DISKS = Path("/dev/shm" if shutil.disk_usage("/dev/shm").free > 16 * 2**30 else "/var/tmp", "groundwork-testbed")
TABLE = "groundwork_testbed"

TOOLS = {"mmdebstrap": "mmdebstrap", "systemd-nspawn": "systemd-container", "nft": "nftables", "ip": "iproute2"}
RELEASES = ("trixie", "bookworm")
# What the cheapest rented server has after its first boot, and no more.
PACKAGES = (
    "ca-certificates dbus iproute2 libpam-systemd openssh-server python3 python3-apt sudo systemd systemd-sysv"
).split()
BUNDLE = Path("/etc/ssl/certs/ca-certificates.crt")
BOOT_SECONDS = 60

Bed = dict[str, Any]


def run(*command: str, check: bool = True, stdin: str | None = None) -> str:
    """Run a program and return what it printed; its own complaint is the error."""
    done = subprocess.run(command, input=stdin, capture_output=True, text=True, check=False)
    if check and done.returncode:
        sys.exit(f"testbed: {shlex.join(command)} failed:\n{done.stdout}{done.stderr}")
    return done.stdout


@contextlib.contextmanager
def locked(name: str) -> Iterator[None]:
    """Let one testbed command at a time touch what all beds share."""
    STATE.mkdir(mode=0o700, exist_ok=True)
    with (STATE / f"{name}.lock").open("w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield


def install_tools() -> None:
    missing = [package for tool, package in TOOLS.items() if not shutil.which(tool)]
    if missing:
        with locked("apt"):
            run("apt-get", "update", "-qq")
            run("apt-get", "install", "-y", "-qq", "--no-install-recommends", *missing)


# --- the root file system ---------------------------------------------------


def mirrors() -> dict[str, str]:
    """The Debian mirrors this machine uses, by the label of their archive."""
    rows = run("apt-get", "indextargets", "--format", "$(LABEL)|$(REPO_URI)", "Origin: Debian").split()
    found = dict(row.split("|", 1) for row in rows)
    return {
        "Debian": found.get("Debian", "http://deb.debian.org/debian"),
        "Debian-Security": found.get("Debian-Security", "http://deb.debian.org/debian-security"),
    }


def sources(release: str) -> str:
    uris = mirrors()
    lines = (
        f"deb {uris['Debian']} {release} main",
        f"deb {uris['Debian']} {release}-updates main",
        f"deb {uris['Debian-Security']} {release}-security main",
    )
    return "\n".join(lines) + "\n"


def resolver() -> str:
    """What this machine asks for names, past a stub that only answers on its own loopback."""
    upstream = Path("/run/systemd/resolve/resolv.conf")
    return (upstream if upstream.exists() else Path("/etc/resolv.conf")).read_text()


def base_tree(release: str) -> Path:
    """Return the cached Debian tree, building it where it is missing or outdated."""
    bundle = BUNDLE.read_text() if BUNDLE.exists() else ""
    recipe = json.dumps([release, PACKAGES, sources(release), bundle, resolver(), inspect.getsource(build_tree)])
    tree = CACHE / f"{release}-{hashlib.sha256(recipe.encode()).hexdigest()[:12]}"
    with locked("base"):
        if not tree.exists():
            CACHE.mkdir(parents=True, exist_ok=True)
            for outdated in CACHE.glob(f"{release}-*"):
                if not any(bed["base"] == str(outdated) for bed in beds()):
                    shutil.rmtree(outdated)
            build_tree(release, tree)
    return tree


def build_tree(release: str, tree: Path) -> None:
    print(f"testbed: building a Debian {release} tree, once", file=sys.stderr)
    unfinished = tree.with_suffix(".unfinished")
    shutil.rmtree(unfinished, ignore_errors=True)
    run(
        *("mmdebstrap", "--variant=minbase", f"--include={','.join(PACKAGES)}"),
        *("--aptopt=Acquire::Languages none", "--dpkgopt=force-unsafe-io"),
        *(release, str(unfinished), "-"),
        stdin=sources(release),
    )
    (unfinished / "etc/apt/apt.conf.d/80testbed").write_text('Acquire::Languages "none";\n')
    (unfinished / "etc/machine-id").write_text("")
    (unfinished / "etc/resolv.conf").write_text(resolver())
    run("systemctl", f"--root={unfinished}", "enable", "systemd-networkd.service", "ssh.service")
    run("systemctl", f"--root={unfinished}", "mask", "systemd-networkd-wait-online.service")
    run("chroot", str(unfinished), "apt-get", "update", "-qq")  # as a provider's first boot does
    if BUNDLE.exists():
        trust = unfinished / "usr/local/share/ca-certificates/control-node.crt"
        shutil.copyfile(BUNDLE, trust)
        run("chroot", str(unfinished), "update-ca-certificates")
    unfinished.rename(tree)


# --- beds -------------------------------------------------------------------


def state_file(name: str) -> Path:
    return STATE / f"{name}.json"


def beds() -> list[Bed]:
    return [json.loads(path.read_text()) for path in sorted(STATE.glob("*.json"))]


def save(bed: Bed) -> None:
    unfinished = state_file(bed["name"]).with_suffix(".unfinished")
    unfinished.write_text(json.dumps(bed, indent=1))
    unfinished.rename(state_file(bed["name"]))


def process_id(pid: int) -> str | None:
    """Identify a living process for good: its number and the tick it started at."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rsplit(") ", 1)[1].split()
    except FileNotFoundError:
        return None
    return None if fields[0] == "Z" else f"{pid}@{fields[19]}"


def is_alive(identity: str | None) -> bool:
    return bool(identity) and process_id(int(str(identity).split("@")[0])) == identity


def up(name: str, hosts: Sequence[str], release: str, owner: int | None, shared: str | None = None) -> Bed:
    install_tools()
    base = base_tree(release)
    with locked("beds"):
        reap()
        if state_file(name).exists():
            sys.exit(f"testbed: bed {name} exists already; remove it with: testbed.py down {name}")
        taken = {bed["number"] for bed in beds()}
        number = next(n for n in range(1, 255) if n not in taken)
        bed: Bed = {
            "name": name,
            "number": number,
            "release": release,
            "base": str(base),
            "owner": process_id(owner) if owner else None,
            "disk": str(DISKS / name),
            "shared": shared,
            "key": str(DISKS / name / "id_ed25519"),
            "known_hosts": str(DISKS / name / "known_hosts"),
            "hosts": {host: f"10.213.{number}.{10 + i}" for i, host in enumerate(hosts)},
            "leaders": [],
        }
        save(bed)
    try:
        start(bed)
    except BaseException:
        down(name)
        raise
    if owner:
        watch_in_background(name)
    return bed


def start(bed: Bed) -> None:
    disk = Path(bed["disk"])
    shutil.rmtree(disk, ignore_errors=True)
    disk.mkdir(mode=0o700, parents=True)
    (disk / "shared").mkdir()
    run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", f"testbed {bed['name']}", "-f", bed["key"])
    create_network(bed)
    for host in bed["hosts"]:
        furnish(bed, host)
        bed["leaders"].append(boot(bed, host))
        save(bed)
    for host in bed["hosts"]:
        wait_for(bed, host)


def create_network(bed: Bed) -> None:
    bridge, subnet = f"gwbed{bed['number']}", f"10.213.{bed['number']}"
    run("ip", "link", "add", bridge, "type", "bridge")
    run("ip", "address", "add", f"{subnet}.1/24", "dev", bridge)
    run("ip", "link", "set", bridge, "up")
    Path("/proc/sys/net/ipv4/ip_forward").write_text("1")
    rules = (
        f"table ip {TABLE}_{bed['number']} {{\n"
        "  chain postrouting {\n"
        "    type nat hook postrouting priority srcnat;\n"
        f"    ip saddr {subnet}.0/24 oifname != {bridge} masquerade\n"
        "  }\n}\n"
    )
    run("nft", "-f", "-", stdin=rules)


def furnish(bed: Bed, host: str) -> None:
    """Lay a fresh disk over the cached tree, and put in what a provider would."""
    disk = Path(bed["disk"]) / host
    root = disk / "root"
    for part in ("upper", "work", "root"):
        (disk / part).mkdir(parents=True)
    # Volatile: nothing outlives the bed, so nothing has to reach the disk of this machine.
    layers = f"lowerdir={bed['base']},upperdir={disk / 'upper'},workdir={disk / 'work'},volatile"
    run("mount", "-t", "overlay", "overlay", "-o", layers, str(root))
    names = "".join(f"{address} {name}\n" for name, address in bed["hosts"].items())
    files = {
        "etc/hostname": f"{host}\n",
        "etc/hosts": f"127.0.0.1 localhost\n::1 localhost\n{names}",
        "etc/resolv.conf": resolver(),
        "root/.ssh/authorized_keys": Path(bed["key"] + ".pub").read_text(),
        "etc/systemd/network/10-host0.network": (
            f"[Match]\nName=host0\n[Network]\nAddress={bed['hosts'][host]}/24\n"
            f"Gateway=10.213.{bed['number']}.1\nLinkLocalAddressing=no\n"
        ),
    }
    (root / "root/.ssh").mkdir(mode=0o700, exist_ok=True)
    (root / "etc/resolv.conf").unlink(missing_ok=True)
    for path, content in files.items():
        (root / path).write_text(content)
    server_key = (root / "etc/ssh/ssh_host_ed25519_key.pub").read_text()
    with Path(bed["known_hosts"]).open("a") as known:
        known.write(f"{bed['hosts'][host]} {server_key}")


def cgroups(bed: Bed, host: str) -> list[Path]:
    """The control groups to make for a host where no systemd on this machine does it."""
    if Path("/run/systemd/system").exists():
        return []
    hierarchies = [Path("/sys/fs/cgroup/systemd"), Path("/sys/fs/cgroup/unified")]
    roots = [path for path in hierarchies if path.exists()] or [Path("/sys/fs/cgroup")]
    return [root / f"gwbed{bed['number']}-{host}" for root in roots]


def boot(bed: Bed, host: str) -> str:
    disk = Path(bed["disk"]) / host
    own = cgroups(bed, host)
    for cgroup in own:
        cgroup.mkdir(exist_ok=True)
    enter = "".join(f"echo $$ > {cgroup}/cgroup.procs; " for cgroup in own)
    with (disk / "console.log").open("wb") as console:
        leader = subprocess.Popen(
            [
                *("sh", "-c", enter + 'exec "$@"', "sh"),
                *("systemd-nspawn", "--quiet", "--boot", f"--directory={disk / 'root'}"),
                *(f"--machine=gwbed{bed['number']}-{host}", f"--hostname={host}"),
                *(f"--network-bridge=gwbed{bed['number']}", "--register=no"),
                *(["--keep-unit"] if own else []),
                *("--resolv-conf=off", "--timezone=off", "--console=pipe"),
                *([f"--bind={bed['disk']}/shared:{bed['shared']}"] if bed["shared"] else []),
            ],
            stdin=subprocess.DEVNULL,
            stdout=console,
            stderr=console,
            start_new_session=True,
        )
    identity = process_id(leader.pid)
    if identity is None:
        sys.exit(f"testbed: {host} did not start:\n{(disk / 'console.log').read_text()}")
    return identity


def reboot(bed: Bed, host: str, *, power_loss: bool, new_disk: bool = False, off: float = 0) -> None:
    """Let a host go down in order, or all at once, and bring it up again, later perhaps, or with a new, empty disk."""
    index = list(bed["hosts"]).index(host)
    leader = bed["leaders"][index]
    if power_loss or new_disk:
        kill_with_children(int(leader.split("@")[0]))
    else:
        run(*ssh_command(bed, host), "systemctl reboot", check=False)
    while is_alive(leader):
        time.sleep(0.1)
    time.sleep(off)
    # The kernel may take longer to forget the host's end of it.
    run("ip", "link", "delete", f"vb-gwbed{bed['number']}-{host}"[:15], check=False)
    if new_disk:
        unmount(Path(bed["disk"]) / host / "root")
        shutil.rmtree(Path(bed["disk"]) / host)
        furnish(bed, host)
    bed["leaders"][index] = boot(bed, host)
    save(bed)
    wait_for(bed, host)


def wait_for(bed: Bed, host: str) -> None:
    deadline = time.monotonic() + BOOT_SECONDS
    state = ""
    while time.monotonic() < deadline:
        state = run(*ssh_command(bed, host), "systemctl is-system-running --wait", check=False).strip()
        if state == "running":
            return
        time.sleep(0.3)
    console = (Path(bed["disk"]) / host / "console.log").read_text(errors="replace")
    sys.exit(f"testbed: {host} is not up after {BOOT_SECONDS} s (state: {state or 'no SSH'}):\n{console[-3000:]}")


def ssh_options(bed: Bed) -> list[str]:
    return ["-o", f"UserKnownHostsFile={bed['known_hosts']}", "-o", "ConnectTimeout=5", "-o", "IdentitiesOnly=yes"]


def ssh_command(bed: Bed, host: str) -> list[str]:
    return ["ssh", "-q", "-i", bed["key"], *ssh_options(bed), f"root@{bed['hosts'][host]}"]


def load(name: str) -> Bed:
    if not state_file(name).exists():
        known = ", ".join(bed["name"] for bed in beds()) or "none"
        sys.exit(f"testbed: there is no bed {name} (there are: {known})")
    bed: Bed = json.loads(state_file(name).read_text())
    return bed


def down(name: str) -> None:
    """Remove a bed, whole or half-built; removing what is not there is no error."""
    if not state_file(name).exists():
        return
    bed = load(name)
    for leader in bed["leaders"]:
        if is_alive(leader):
            kill_with_children(int(leader.split("@")[0]))
    for host in bed["hosts"]:
        unmount(Path(bed["disk"]) / host / "root")
        for cgroup in cgroups(bed, host):
            run("find", str(cgroup), "-depth", "-type", "d", "-delete", check=False)
    run("nft", "delete", "table", "ip", f"{TABLE}_{bed['number']}", check=False)
    run("ip", "link", "delete", f"gwbed{bed['number']}", check=False)
    run("rm", "-rf", "--one-file-system", bed["disk"], check=False)
    state_file(name).unlink()


def kill_with_children(leader: int) -> None:
    """Kill a host: its own process 1 first, because it outlives systemd-nspawn."""
    children = Path(f"/proc/{leader}/task/{leader}/children").read_text().split()
    for pid in (*map(int, children), leader):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def unmount(root: Path) -> None:
    """The kernel needs a moment to let go after the processes are gone."""
    for _attempt in range(100):
        if not os.path.ismount(root):
            return
        run("umount", str(root), check=False)
        time.sleep(0.1)
    run("umount", "--lazy", str(root))


def reap() -> None:
    """Remove the beds whose owner died and whose watcher could not clean up."""
    for bed in beds():
        if bed["owner"] and not is_alive(bed["owner"]):
            down(bed["name"])


def watch_in_background(name: str) -> None:
    subprocess.Popen(
        [sys.executable, __file__, "watch", name],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )


def watch(name: str) -> None:
    bed = load(name)
    while state_file(name).exists() and is_alive(bed["owner"]):
        time.sleep(1)
    with locked("beds"):
        if state_file(name).exists() and load(name)["number"] == bed["number"]:
            down(name)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    command = commands.add_parser("up", help="boot a bed and print it as JSON")
    command.add_argument("bed")
    command.add_argument("hosts", nargs="+")
    command.add_argument("--release", choices=RELEASES, default=RELEASES[0])
    command.add_argument("--owner", type=int, help="remove the bed when this process is gone")
    command.add_argument("--shared", metavar="DIR", help="a directory that all hosts have in common, as by NFS")
    for verb, text in (("down", "remove a bed"), ("watch", "remove a bed when its owner is gone")):
        commands.add_parser(verb, help=text).add_argument("bed")
    command = commands.add_parser("reboot", help="restart a host")
    command.add_argument("bed")
    command.add_argument("host")
    command.add_argument("--power-loss", action="store_true", help="without letting it stop anything")
    command.add_argument("--new-disk", action="store_true", help="the same, and with a new, empty disk")
    command.add_argument("--off", type=float, default=0, metavar="SECONDS", help="how long it stays off")
    commands.add_parser("list", help="print all beds as JSON")
    command = commands.add_parser("ssh", help="log in to a host, or run a command on it")
    command.add_argument("bed")
    command.add_argument("host")
    command.add_argument("remote", nargs=argparse.REMAINDER)
    return parser.parse_args()


def main() -> None:
    args = arguments()
    if os.geteuid() != 0:
        sys.exit("testbed: must run as root (it mounts, boots and routes)")
    if args.command == "up":
        print(json.dumps(up(args.bed, args.hosts, args.release, args.owner, args.shared), indent=1))
    elif args.command == "down":
        with locked("beds"):
            down(args.bed)
    elif args.command == "watch":
        watch(args.bed)
    elif args.command == "reboot":
        reboot(load(args.bed), args.host, power_loss=args.power_loss, new_disk=args.new_disk, off=args.off)
    elif args.command == "list":
        print(json.dumps(beds(), indent=1))
    else:
        command = [*ssh_command(load(args.bed), args.host), *args.remote]
        os.execvp(command[0], command)


if __name__ == "__main__":
    main()
