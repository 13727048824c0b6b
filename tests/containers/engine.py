"""A Docker engine of the test's own: started, killed, and taken away with all that it put into the system."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import time
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

import psutil

PROGRAMS = ("dockerd", "docker", "docker-compose", "debootstrap", "iptables-save", "ip", "git", "make")
HELPERS = ("dockerd", "containerd", "containerd-shim-runc-v2", "containerd-shim", "docker-proxy")
TABLES = ("iptables", "ip6tables")
SWITCHES = ("ipv4/ip_forward", "ipv4/conf/all/route_localnet", "ipv6/conf/all/forwarding")
SECONDS = 60.0
SECONDS_TO_START = 180.0
"""After a kill it first stops the containers that ran on, and gives each the time that it may ask for."""


def why_not() -> str | None:
    """Why this machine cannot run the engine, in words; None if it can."""
    if os.geteuid() != 0:
        return "it needs root: an engine mounts file systems and writes firewall rules"
    if missing := [name for name in PROGRAMS if shutil.which(name) is None]:
        return f"{', '.join(missing)} not installed (apt-get install docker.io docker-compose debootstrap iptables)"
    if others := [process.pid for process in psutil.process_iter(["name"]) if process.info["name"] == "dockerd"]:
        # the test kills its engine, and two engines write the same firewall chains
        return f"another engine runs (process {others[0]}); stop it first: the test starts and kills one of its own"
    return None


@dataclass
class Engine:
    """`dockerd` with its data, state, socket and pid file below one folder."""

    folder: Path
    rules: dict[str, list[str]] = field(default_factory=dict)
    """The firewall as it was before the first start, by table program."""
    switches: dict[str, str] = field(default_factory=dict)
    interfaces: set[str] = field(default_factory=set)
    process: subprocess.Popen[bytes] | None = None

    @property
    def environment(self) -> dict[str, str]:
        """What points `docker` and compose at this engine and at no configuration of the user's."""
        return {
            "DOCKER_HOST": f"unix://{self.folder}/socket",
            "DOCKER_CONFIG": str(self.folder / "config"),
            "DOCKER_BUILDKIT": "0",  # the builder that Debian's engine brings
            "COMPOSE_DOCKER_CLI_BUILD": "0",
        }

    def __call__(self, *arguments: str, timeout: float = SECONDS, stdin: IO[bytes] | None = None) -> str:
        """``docker ARGUMENTS…``, which must end well; what it printed."""
        environment = os.environ | self.environment
        done = subprocess.run(
            ["docker", *arguments],
            stdin=stdin,
            env=environment,
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )
        assert done.returncode == 0, f"docker {' '.join(arguments)}: {done.stderr[-3000:]}"
        return done.stdout

    def start(self) -> None:
        """Start it, and return when it answers."""
        if not self.rules:
            self.rules = {program: _rules(program) for program in TABLES}
            self.interfaces = set(psutil.net_if_addrs())
            self.switches = {name: _switch(name).read_text() for name in SWITCHES if _switch(name).exists()}
        self.folder.mkdir(parents=True, exist_ok=True)
        # no bridge of its own: builds use the host's network, compose makes its networks
        command = ["dockerd", "--bridge", "none", "--log-level", "warn", "--host", f"unix://{self.folder}/socket"]
        command += ["--data-root", f"{self.folder}/data", "--exec-root", f"{self.folder}/state"]
        with (self.folder / "log").open("a") as log:
            self.process = subprocess.Popen(
                [*command, "--pidfile", f"{self.folder}/pid"], stdout=log, stderr=log, start_new_session=True
            )
        deadline = time.monotonic() + SECONDS_TO_START
        while not self._answers():
            assert time.monotonic() < deadline, (self.folder / "log").read_text()[-3000:]
            time.sleep(0.2)

    def kill(self) -> None:
        """SIGKILL the engine; as after a crash of it, containers run on until the next start ends them."""
        assert self.process is not None
        self.process.kill()
        self.process.wait()

    def stop(self) -> None:
        """Stop it and remove what it made; returns when nothing of it is left."""
        if self.process is not None and self.process.poll() is None:
            self.process.terminate()  # it stops the containers
            with suppress(subprocess.TimeoutExpired):
                self.process.wait(SECONDS_TO_START)
        for process in (left := self.processes()):
            with suppress(psutil.Error):
                process.kill()
        psutil.wait_procs(left, timeout=10)  # where nobody reaps them they stay as zombies
        for mount in reversed(self.mounts()):
            subprocess.run(["umount", "--lazy", mount], check=False)
        for name in self._own_interfaces():
            subprocess.run(["ip", "link", "delete", name], check=False)
        subprocess.run(["rm", "--recursive", "--force", str(self.folder)], check=False)
        for program, before in self.rules.items():
            _take_back(program, before)
        for name, value in self.switches.items():
            _switch(name).write_text(value)

    def leftovers(self) -> list[str]:
        """What is still there of it, in words."""
        found = [f"process {process.pid} {process.name()}" for process in self.processes()]
        found += [f"mount {mount}" for mount in self.mounts()]
        for program, before in self.rules.items():
            found += [f"{program} {rule}" for rule in _rules(program) if rule not in before]
        found += [f"{name} changed" for name, value in self.switches.items() if _switch(name).read_text() != value]
        found += [f"interface {name}" for name in self._own_interfaces()]
        return found + ([f"folder {self.folder}"] if self.folder.exists() else [])

    def processes(self) -> list[psutil.Process]:
        """The engine and its helpers, which name its folder on their command lines, and what runs in its containers."""
        containers = [path.name for path in (self.folder / "data" / "containers").glob("*")]
        found = []
        for process in psutil.process_iter():
            with suppress(psutil.Error, OSError):
                is_helper = process.name() in HELPERS and str(self.folder) in " ".join(process.cmdline())
                groups = Path(f"/proc/{process.pid}/cgroup").read_text()
                if is_helper or any(name in groups for name in containers):
                    found.append(process)
        return found

    def mounts(self) -> list[str]:
        """What is mounted below its folder, outermost first."""
        lines = Path("/proc/self/mountinfo").read_text().splitlines()
        return sorted(path for line in lines if (path := line.split()[4]).startswith(str(self.folder)))

    def _own_interfaces(self) -> list[str]:
        added = psutil.net_if_addrs().keys() - self.interfaces
        return [name for name in added if name.startswith(("br-", "veth", "docker"))]

    def _answers(self) -> bool:
        environment = os.environ | self.environment
        return subprocess.run(["docker", "info"], env=environment, capture_output=True, check=False).returncode == 0


def _switch(name: str) -> Path:
    return Path("/proc/sys/net") / name


def _rules(program: str) -> list[str]:
    """The firewall's lines, each after its table's name, without counters and without chains that accept everything."""
    saved = subprocess.run([f"{program}-save"], capture_output=True, text=True, check=False).stdout
    lines, table = [], ""
    for line in saved.splitlines():
        if line.startswith("*"):
            table = line[1:]
        elif line.startswith((":", "-A")) and " ACCEPT [" not in line:
            lines.append(f"{table} {line.partition(' [')[0] if line.startswith(':') else line}")
    return lines


def _take_back(program: str, before: list[str]) -> None:
    """Remove the rules and chains that were not there before, and set policies back."""
    added = [line.partition(" ") for line in _rules(program) if line not in before]
    chains = [(table, line[1:].split()) for table, _, line in added if line.startswith(":")]
    for table, _, line in added:
        if line.startswith("-A"):
            subprocess.run([program, "--table", table, "-D", *shlex.split(line)[1:]], check=False)
    for table, (chain, policy) in chains:
        if policy == "-":
            subprocess.run([program, "--table", table, "--delete-chain", chain], check=False)
        else:
            old = next((line.split()[2] for line in before if line.split()[:2] == [table, f":{chain}"]), "ACCEPT")
            subprocess.run([program, "--table", table, "--policy", chain, old], check=False)
