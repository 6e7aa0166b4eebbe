"""A real Slurm cluster on one machine, for tests and for trying things out.

    python tests/slurm/cluster.py install      # Slurm, munge, MariaDB and what tests need, by apt-get
    python tests/slurm/cluster.py start        # prints how to use it and how to stop it
    python tests/slurm/cluster.py stop DIR

In Python: `with Cluster() as cluster:`, and pass `cluster.environment` on to sbatch and the like;
`Cluster(shape=Shape(...))` is one of other nodes, partitions, accounts and QoS.
It needs root. All its files are in one temporary directory, and several clusters may run at once.
"""

from __future__ import annotations

import argparse
import os
import re
import secrets
import shlex
import shutil
import signal
import socket
import stat
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

PACKAGES = {
    "slurm-wlm": ("slurmctld", "slurmd", "sbatch", "srun", "sinfo", "sacctmgr"),
    "slurmdbd": ("slurmdbd",),
    "munge": ("munged",),
    "mariadb-server": ("mariadbd", "mariadb-install-db"),
    "charliecloud": ("ch-run",),  # for the tests of containers
    "mergerfs": ("mergerfs",),  # for those of network file systems
}
USERS = sorted({"root", "nobody", os.environ.get("SUDO_USER", "root")})
ADDRESS = "127.0.0.1"
PATH = os.pathsep.join((os.environ.get("PATH", os.defpath), "/usr/sbin", "/sbin"))

SLURM_CONF = """\
ClusterName=throwaway
# Not the numbers of another cluster's jobs: the port at which ranks meet follows from them, and this is one machine.
FirstJobId={controller_port}
SlurmctldHost=localhost({address})
SlurmctldPort={controller_port}
{communication}
SlurmUser=root
AuthType=auth/munge
# A requeued job waits for its old credential to expire: 120 s, were it not for this.
AuthInfo=socket={directory}/munge.socket,cred_expire=5
StateSaveLocation={directory}/state
SlurmdSpoolDir={directory}/%n
SlurmctldPidFile={directory}/slurmctld.pid
SlurmdPidFile={directory}/%n.pid
SlurmctldSyslogDebug=quiet
SlurmdSyslogDebug=quiet
# Nothing that needs cgroups: a container seldom may write them.
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/linux
AccountingStorageType=accounting_storage/slurmdbd
AccountingStorageHost={address}
AccountingStoragePort={database_port}
# To its server accounting goes through munge with this socket, and not with that of AuthInfo.
AccountingStoragePass={directory}/munge.socket
AccountingStorageTRES=gres/gpu
AccountingStorageEnforce=associations,limits{enforce}
SchedulerParameters=batch_sched_delay=0,sched_interval=2,bf_interval=2
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
DefMemPerCPU=100
JobRequeue=1
# Elements of an array count, and so do jobs that have ended lately. 10000, were it not for this.
MaxJobCount=100000
KillWait=10
ReturnToService=2
# All tasks of a preempted job get CONT and TERM at once, and KILL after KillWait; a GraceTime would give
# CONT and TERM to the steps of srun first, and the rest up to 30 s after it has passed.
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
GresTypes=gpu
SlurmdParameters=config_overrides
NodeName=DEFAULT Sockets=1 CoresPerSocket=8 ThreadsPerCore=1 RealMemory=32000
{nodes}
PartitionName=DEFAULT Nodes=ALL
{partitions}
"""
# For those tests that switch on task/cgroup: what takes more memory than its job asked for is killed.
CGROUP_CONF = """\
CgroupPlugin=autodetect
CgroupAutomount=no
ConstrainRAMSpace=yes
ConstrainSwapSpace=yes
"""
SLURMDBD_CONF = """\
DbdHost=localhost
DbdAddr={address}
DbdPort={database_port}
{communication}
SlurmUser=root
AuthType=auth/munge
AuthInfo=socket={directory}/munge.socket
PidFile={directory}/slurmdbd.pid
StorageType=accounting_storage/mysql
StorageHost=localhost
StorageUser=root
"""
USAGE = """\
export SLURM_CONF={directory}/slurm.conf
# 4 nodes of 8 CPUs and 4 pretended GPUs each; accounts lab (the default) and other;
# partitions cpu (the default), gpu and preempt, whose jobs requeue those of the other two.
# Try:  sinfo;  sbatch --partition=gpu --gres=gpu:1 --wrap='env | grep CUDA'
# Logs: {directory}/*.log
# Stop: {program} stop {directory}
"""


@dataclass(frozen=True)
class Shape:
    """What a cluster consists of: nodes and partitions in the words of slurm.conf."""

    nodes: tuple[str, ...] = tuple(f"node{number} Gres=gpu:4" for number in (1, 2, 3, 4))
    partitions: tuple[str, ...] = ("cpu Default=YES", "gpu", "preempt PriorityTier=10")
    accounts: tuple[str, ...] = ("lab", "other")  # the first is everyone's default
    qos: tuple[str, ...] = ()  # for everyone, besides `normal`

    @property
    def node_names(self) -> list[str]:
        return [node.split()[0] for node in self.nodes]


class Cluster:
    """Slurm's commands find it through `environment`."""

    def __init__(self, directory: Path | None = None, shape: Shape | None = None) -> None:
        """With a directory: the cluster that another process started there."""
        self.shape = shape or Shape()
        self.directory = Path()
        self.environment: dict[str, str] = {}
        self._daemons: dict[str, subprocess.Popen[bytes]] = {}
        self._sigterm_handler: Any = None
        if directory:
            self._use(directory)
            if not (self.directory / "daemons").is_dir():  # `stop` will remove it all
                raise FileNotFoundError(f"{directory} is not the directory of a cluster")

    def _use(self, directory: Path) -> None:
        self.directory = directory.resolve()
        self.environment = {"SLURM_CONF": f"{self.directory}/slurm.conf"}

    def __enter__(self) -> Cluster:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self) -> None:
        """Return when every node is idle, or raise and leave nothing behind."""
        if os.geteuid() != 0:
            raise PermissionError(
                "a Slurm cluster needs root, since slurmd starts jobs for any user"
            )
        if absent := missing():
            raise FileNotFoundError(
                f"not installed: {' '.join(absent)}; run: python {__file__} install"
            )
        if threading.current_thread() is threading.main_thread():
            # SIGTERM would end Python without a `finally`, and leave the daemons: let it act as Ctrl-C does.
            self._sigterm_handler = signal.signal(signal.SIGTERM, signal.default_int_handler)
        try:
            self._use(Path(tempfile.mkdtemp(prefix="slurm-")))
            # Ports are held until the daemons have them, so that nobody else is given them. SO_REUSEADDR lets
            # a daemon listen on a port which another socket is bound to, as long as that one does not listen.
            with ExitStack() as stack:
                held = [
                    stack.enter_context(socket.socket()) for _ in range(2 + len(self.shape.nodes))
                ]
                for each in held:
                    each.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                    each.bind(("", 0))
                self._write_files([each.getsockname()[1] for each in held])
                self._start_daemons()
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """End all processes of the cluster and of its jobs, and remove the directory; again: nothing."""
        if self.environment:
            self._signal_processes(signal.SIGTERM)
            ended = _becomes_true(lambda: not self._processes(), seconds=5)
            # SIGKILL goes out until it finds nobody, since a process may have started another one in between.
            if not ended and not _becomes_true(
                lambda: not self._signal_processes(signal.SIGKILL), seconds=60
            ):
                raise TimeoutError(f"still running after SIGKILL: {self._processes()}")
            for process in self._daemons.values():
                process.wait(60)
            shutil.rmtree(self.directory)
            self.environment, self._daemons = {}, {}
        if self._sigterm_handler is not None:
            signal.signal(signal.SIGTERM, self._sigterm_handler)
            self._sigterm_handler = None

    def process(self, name: str) -> int:
        """That of a daemon."""
        return self._daemons[name].pid

    def kill(self, *names: str, number: signal.Signals = signal.SIGKILL) -> None:
        """End daemons (`slurmctld`, `slurmdbd`, `node1`, ...) with a signal; a node's jobs go on without it.

        The controller writes down what it was told within five seconds, or after SIGTERM.
        """
        for name in names:
            process = self._daemons.pop(name)
            process.send_signal(number)
            process.wait()

    @property
    def down(self) -> list[str]:
        """Slurm's daemons that were killed."""
        own = ("slurmdbd", "slurmctld", *self.shape.node_names)
        return [name for name in own if name not in self._daemons]

    def restart(self, *names: str, within: Sequence[str] = ()) -> None:
        """Start daemons that were killed, and return when the servers answer.

        Args:
            within: what the daemons' commands are given to.
        """
        for name in names:
            self._launch(name, *within, *self._command(name))
        for question in (("sacctmgr", "show", "cluster"), ("sinfo",)) if names else ():
            self._wait_for(names[0], partial(self._answers, question))

    def configure(self, **values: object) -> None:
        """Change lines of slurm.conf, and tell the daemons."""
        path = self.directory / "slurm.conf"
        text = path.read_text()
        for name, value in values.items():
            line = f"{name}={value}"
            text, found = re.subn(rf"^{name}=.*$", line, text, flags=re.MULTILINE)
            text = text if found else f"{line}\n{text}"
        path.write_text(text)
        if self._ask("slurmctld", "scontrol", "reconfigure") is None:
            raise RuntimeError(f"scontrol reconfigure failed{self._log_tail('slurmctld')}")

    def kill_jobs_of(self, node: str) -> list[int]:
        """End all that runs on ``node`` for jobs with SIGKILL, as if its power had failed."""
        variable = f"SLURMD_NODENAME={node}".encode()
        own = {pid for pid, variables in self._processes().items() if variable in variables}
        stepds = {pid for each in own for pid in _ancestors(each) if _is_stepd(pid)}
        for number in (signal.SIGSTOP, signal.SIGKILL):  # at once: none sees another one die
            for process in (*stepds, *own):
                with suppress(ProcessLookupError):
                    os.kill(process, number)
        return sorted(own)

    def _processes(self) -> dict[int, list[bytes]]:
        """The daemons and slurmstepd, by where they run; what jobs run, by its environment; and each one's environment.

        Pid files would miss slurmstepd, whose environment in turn is overwritten by its title.
        """
        ours = (self.directory / "daemons", self.directory / "database")
        configuration = f"SLURM_CONF={self.directory}/slurm.conf".encode()
        found = {}
        for process in Path("/proc").glob("[0-9]*"):
            try:
                working_directory = (process / "cwd").readlink()
                variables = (process / "environ").read_bytes().split(b"\0")
            except OSError:  # it has ended
                continue
            in_job = configuration in variables and any(
                each.startswith(b"SLURM_JOB_ID=") for each in variables
            )
            if working_directory in ours or (in_job and int(process.name) != os.getpid()):
                found[int(process.name)] = variables
        return found

    def _signal_processes(self, number: signal.Signals) -> list[int]:
        processes = list(self._processes())
        for process in processes:
            with suppress(ProcessLookupError):
                os.kill(process, number)
        return processes

    def _write_files(self, ports: list[int]) -> None:
        controller_port, database_port, *node_ports = ports
        nodes = (
            f"NodeName={node} NodeHostname=localhost NodeAddr={ADDRESS} Port={port}"
            for node, port in zip(self.shape.nodes, node_ports, strict=True)
        )
        gres, devices = self._gres()
        # Slurm can listen on one address alone only if it is the one of the host's name. Elsewhere it listens on
        # all of them, and refuses whoever has not got munge's key.
        host_is_loopback = False
        with suppress(OSError):
            host_is_loopback = socket.gethostbyname(socket.gethostname()) == ADDRESS
        values = {
            "address": ADDRESS,
            "communication": "CommunicationParameters=NoInAddrAny,NoCtldInAddrAny"
            if host_is_loopback
            else "",
            "controller_port": controller_port,
            "database_port": database_port,
            "directory": self.directory,
            "enforce": ",qos" if self.shape.qos else "",
            "nodes": "\n".join(nodes),
            "partitions": "\n".join(f"PartitionName={each}" for each in self.shape.partitions),
        }
        self.directory.chmod(0o755)  # USERS read slurm.conf and speak to munge
        for name, text, mode in (
            ("slurm.conf", SLURM_CONF.format(**values), 0o644),
            ("gres.conf", gres, 0o644),
            ("cgroup.conf", CGROUP_CONF, 0o644),
            ("slurmdbd.conf", SLURMDBD_CONF.format(**values), 0o600),
            ("munge.key-file", secrets.token_hex(64), 0o600),
        ):
            (self.directory / name).touch(mode)
            (self.directory / name).write_text(text)
        for name in ("daemons", "database", "state"):
            (self.directory / name).mkdir(0o700)
        # A GPU has to be a character device: this one is like /dev/null.
        for index in range(devices):
            os.mknod(self.directory / f"gpu{index}", stat.S_IFCHR | 0o666, os.makedev(1, 3))

    def _gres(self) -> tuple[str, int]:
        """The content of gres.conf, in which types of GPU share no device, and the number of devices."""
        lines, devices = [], 0
        for name, node in zip(self.shape.node_names, self.shape.nodes, strict=True):
            end = 0
            for kind, number in re.findall(r"\bgpu:(?:([^\s:,]+):)?(\d+)", node):
                start, end = end, end + int(number)
                of_type = f"Type={kind} " if kind else ""
                files = f"{self.directory}/gpu[{start}-{end - 1}]"
                lines.append(f"NodeName={name} Name=gpu {of_type}File={files}\n")
            devices = max(devices, end)
        return "".join(lines), devices

    def _start_daemons(self) -> None:
        at = self.directory
        files = tuple(
            f"--{kind}={at}/munge.{kind}"
            for kind in ("key-file", "pid-file", "seed-file", "socket")
        )
        self._launch("munged", "munged", "--foreground", *files)
        # In a shared tmpdir a server that starts removes the temporary tables of another one.
        files = (
            f"--datadir={at}/database",
            f"--tmpdir={at}/daemons",
            f"--socket={at}/mariadb.socket",
        )
        database = ("--no-defaults", "--user=root", *files)
        creation = self._launch("database", "mariadb-install-db", *database, "--skip-test-db")
        self._wait_for("database", lambda: creation.poll() == 0)
        self._launch(
            "mariadbd", "mariadbd", *database, "--skip-networking", f"--pid-file={at}/mariadbd.pid"
        )
        self._wait_for("mariadbd", (at / "mariadb.socket").exists)
        self._launch("slurmdbd", *self._command("slurmdbd"))
        self._wait_for(
            "slurmdbd", lambda: self._ask("slurmdbd", "sacctmgr", "show", "cluster") is not None
        )
        # Before slurmctld starts: it would refuse jobs until it has heard of the accounts.
        accounts = ",".join(self.shape.accounts)
        qos = ",".join(("normal", *self.shape.qos))
        for entity in (
            "cluster throwaway",
            *(f"qos {each}" for each in self.shape.qos),
            f"account {accounts}",
            f"user {','.join(USERS)} account={accounts} qos={qos}"
            f" defaultaccount={self.shape.accounts[0]}",
        ):
            if self._ask("slurmdbd", "sacctmgr", "--immediate", "add", *entity.split()) is None:
                raise RuntimeError(f"sacctmgr add {entity} failed{self._log_tail('slurmdbd')}")
        for name in ("slurmctld", *self.shape.node_names):
            self._launch(name, *self._command(name))
        sinfo = ("sinfo", "--noheader", "--Node", "--format=%N %t")
        idle = {f"{node} idle" for node in self.shape.node_names}
        self._wait_for(
            "slurmctld", lambda: set((self._ask("slurmctld", *sinfo) or "").splitlines()) == idle
        )

    def _command(self, name: str) -> tuple[str, ...]:
        """That starts one of Slurm's daemons."""
        return ("slurmd", "-D", "-N", name) if name in self.shape.node_names else (name, "-D")

    def _launch(self, name: str, *command: str) -> subprocess.Popen[bytes]:
        with (self.directory / f"{name}.log").open("ab") as log:
            self._daemons[name] = subprocess.Popen(
                command,
                cwd=self.directory / "daemons",
                env=self._own_environment(),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,  # Ctrl-C is for the one who started the cluster
            )
        return self._daemons[name]

    def _ask(self, daemon: str, *command: str) -> str | None:
        """The answer of a client, or None; its complaints go to the log of the daemon it asks."""
        environment = self._own_environment()
        with (self.directory / f"{daemon}.log").open("ab") as log:
            done = subprocess.run(
                command, env=environment, stdout=subprocess.PIPE, stderr=log, text=True, timeout=60
            )
        return None if done.returncode else done.stdout

    def _answers(self, question: Sequence[str]) -> bool:
        return self._ask("slurmctld", *question) is not None

    def _own_environment(self) -> dict[str, str]:
        foreign = (
            "SLURM",
            "SBATCH",
            "SRUN",
            "SALLOC",
            "SACCT",
            "SINFO",
            "SQUEUE",
            "MYSQL",
            "MARIADB",
        )
        inherited = {
            name: value for name, value in os.environ.items() if not name.startswith(foreign)
        }
        # MYSQL_UNIX_PORT tells slurmdbd's client library where the database's socket is.
        own = {"PATH": PATH, "MYSQL_UNIX_PORT": f"{self.directory}/mariadb.socket"}
        return inherited | own | self.environment

    def _wait_for(self, name: str, ready: Callable[[], bool], seconds: float = 120) -> None:
        def ready_or_dead() -> bool:
            for each, process in self._daemons.items():
                if process.poll():
                    raise RuntimeError(
                        f"{each} ended with status {process.returncode}{self._log_tail(each)}"
                    )
            return ready()

        if not _becomes_true(ready_or_dead, seconds):
            raise TimeoutError(f"{name} is not ready after {seconds} s{self._log_tail(name)}")

    def _log_tail(self, name: str) -> str:
        lines = (self.directory / f"{name}.log").read_text(errors="replace").splitlines()
        return "\n".join((f"; the end of its log, {name}.log:", *lines[-40:]))


def _becomes_true(condition: Callable[[], bool], seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True


def _ancestors(process: int) -> list[int]:
    found = []
    while process > 1:
        with suppress(OSError):
            process = int(Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[1])
            found.append(process)
            continue
        break
    return found


def _is_stepd(process: int) -> bool:
    with suppress(OSError):
        return Path(f"/proc/{process}/cmdline").read_bytes().startswith(b"slurmstepd")
    return False


def missing() -> list[str]:
    """The Debian packages of which a program is absent."""
    plugin = any(Path("/usr/lib").glob("*/slurm*/accounting_storage_mysql.so"))
    absent = [
        name
        for name, programs in PACKAGES.items()
        if not all(shutil.which(p, path=PATH) for p in programs)
    ]
    return absent if plugin else [*absent, "slurm-wlm-mysql-plugin"]


def install() -> None:
    packages = [*PACKAGES, "slurm-wlm-mysql-plugin"]
    if os.geteuid() != 0 or not shutil.which("apt-get"):
        sys.exit(f"Install these packages, as root: {' '.join(packages)}")
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    policy = Path("/usr/sbin/policy-rc.d")
    ours = not policy.exists()
    if ours:  # the cluster starts daemons of its own: those of the packages should stay down
        policy.write_text("#!/bin/sh\nexit 101\n")
        policy.chmod(0o755)
    try:
        for command in (["update"], ["install", "--yes", "--no-install-recommends", *packages]):
            subprocess.run(["apt-get", *command], env=environment, check=True)
    finally:
        if ours:
            policy.unlink()


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("start", help="start a cluster in the background and print how to use it")
    stop = commands.add_parser("stop", help="end a cluster and its jobs, and remove its directory")
    stop.add_argument("directory", type=Path)
    commands.add_parser("missing", help="print the packages to install; fail if there are any")
    commands.add_parser("install", help="install these packages with apt-get")
    arguments = parser.parse_args()
    try:
        if arguments.command == "start":
            cluster = Cluster()
            cluster.start()
            program = shlex.join([sys.executable, str(Path(__file__).resolve())])
            print(USAGE.format(program=program, directory=cluster.directory), end="")
        elif arguments.command == "stop":
            Cluster(arguments.directory).stop()
        elif arguments.command == "missing":
            for package in (absent := missing()):
                print(package)
            sys.exit(bool(absent))
        else:
            install()
    except (OSError, RuntimeError, subprocess.SubprocessError) as error:
        sys.exit(f"{parser.prog}: {error}")
    except KeyboardInterrupt:
        sys.exit(130)


if __name__ == "__main__":
    main()
