"""What is done to sweeps, one thing after another by a seed, and several at a time."""

import os
import random
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from cluster import Cluster
from faults import Sweep
from jobs import record, runs_of, slurm, supervisors_of
from running import environment, run
from test_limits_and_preemption import preempt

SIGNALS = ("USR1", "USR2", "CONT", "TERM", "HUP")
HANGING = ("squeue", "scontrol", "sacct", "sbatch")
FOR_ALL = ("do_preempt", "do_reboot_a_node", "do_restart_a_daemon", "do_let_a_command_hang_or_fail")
HANG = '#!/bin/sh\ntest ! -e "$0.hangs" || sleep 5\ntest ! -e "$0.fails" || exit 1\nPATH="${PATH#*:}" exec %s "$@"\n'


@dataclass
class Chaos:
    """Sweeps whose owners repeat their commands, and what is done to them."""

    seed: int
    cluster: Cluster
    folder: Path  # that all can enter
    disk: Path | None = None  # a small one, on which some sweeps lie
    sweeps: list[Sweep] = field(default_factory=list)
    commands: dict[int, "subprocess.Popen[str]"] = field(default_factory=dict)
    outputs: list[str] = field(default_factory=list)  # of commands that nobody ended
    done: Counter[str] = field(default_factory=Counter)
    _undo: list[tuple[float, Callable[[], object]]] = field(default_factory=list)
    _struck: set[int] = field(default_factory=set)  # commands that were ended

    def __post_init__(self) -> None:
        self.bin = self.folder / "bin"
        self.bin.mkdir()
        for name in HANGING:
            (self.bin / name).write_text(HANG % name)
            (self.bin / name).chmod(0o755)
        self.faults = sorted(name for name in dir(self) if name.startswith("do_"))
        self.number = 0

    @property
    def variables(self) -> dict[str, str]:
        """Of the commands: what they start is known by them."""
        return {"PATH": f"{self.bin}{os.pathsep}{os.environ['PATH']}", "CHAOS": str(self.folder)}

    def begin(self, sweeps: list[Sweep]) -> None:
        """Attend to these from now on."""
        self.sweeps, self.commands = sweeps, {}

    def attend(self) -> bool:
        """Repeat each command that has ended before its sweep is complete; whether all are."""
        over = 0
        for number, sweep in enumerate(self.sweeps):
            command = self.commands.get(number)
            if command and command.poll() is None:
                continue
            if command and command.stdout and not command.stdout.closed:
                output = command.communicate()[0]
                if command.pid not in self._struck:
                    self.outputs.append(output)
            if command and command.returncode == 0:
                over += 1
                continue
            self.commands[number] = sweep.start()
        return over == len(self.sweeps)

    def strike(self) -> None:
        """Do one thing, to one sweep or to the cluster. What it is depends on how many were before, and not on
        what came of these."""
        self.number += 1
        self.chance = random.Random(f"{self.seed} {self.number}")
        sweep = self.chance.choice(self.sweeps)
        # Those that all sweeps wait for come less often: else nothing else finds a run under way.
        order = {
            name: self.chance.random() * (1 if name in FOR_ALL else 0.5) for name in self.faults
        }
        for name in sorted(order, key=order.__getitem__):
            with suppress(ProcessLookupError, LookupError):  # there is none, or no more
                getattr(self, name)(sweep)
                self.done[name.removeprefix("do_").replace("_", " ")] += 1
                return

    def settle(self) -> None:
        """Undo what has lasted long enough."""
        due = [each for each in self._undo if each[0] < time.monotonic()]
        self._undo = [each for each in self._undo if each not in due]
        for _, undo in due:
            undo()

    def settle_all(self) -> None:
        """Undo everything at once."""
        while self._undo:
            self._undo.pop(0)[1]()

    def is_over(self) -> bool:
        """Whether all sweeps are complete, and no job is left; what somebody's hold or suspension kept, goes on."""
        jobs = self.jobs()
        kept = [("resume", job) for job, state, _, _ in jobs if state == "SUSPENDED"]
        kept += [("release", job) for job, _, reason, _ in jobs if "held" in reason.lower()]
        for command in kept:
            run("scontrol", *command, cwd=self.folder, **self.cluster.environment)
        return self.attend() and not jobs

    def for_seconds(self, seconds: float, undo: Callable[[], object]) -> None:
        """Let what was done last for so long."""
        self._undo.append((time.monotonic() + seconds, undo))

    def element(self, sweep: Sweep) -> str:
        """A job of the sweep; of a local one there is none."""
        runs = record(sweep.directory / "sweep.json").get("runs", [])
        jobs = [each["job_id"] for each in runs]
        return str(self.chance.choice([job for job in jobs if job and "_" in job]))

    def ask(self, *command: str) -> None:
        """A command of Slurm's, which may find that there is no such job just then, or wait for a node."""
        if "slurmctld" in self.cluster.down:
            raise LookupError(command)
        null = subprocess.DEVNULL
        asking = subprocess.Popen(
            command, env=environment(self.cluster.environment), stdin=null, stdout=null, stderr=null
        )

        def end() -> None:
            asking.kill()
            asking.wait()

        self.for_seconds(10, end)

    def processes(self) -> Iterator[tuple[int, str]]:
        """Of the commands, their jobs, and what these have started: with their names."""
        for path in Path("/proc").glob("[0-9]*"):
            with suppress(OSError):
                variables = (path / "environ").read_bytes().split(b"\0")
                if f"CHAOS={self.folder}".encode() in variables:
                    yield int(path.name), (path / "comm").read_text(errors="replace").strip()

    def do_kill_a_run(self, sweep: Sweep) -> None:
        os.kill(self.chance.choice(runs_of(sweep.directory)), signal.SIGKILL)

    def do_kill_a_supervisor(self, sweep: Sweep) -> None:
        os.kill(self.chance.choice([*supervisors_of(sweep.directory).values()]), signal.SIGKILL)

    def do_kill_any_process(self, sweep: Sweep) -> None:
        process, _ = self.chance.choice([*self.processes()])
        self._struck.add(process)
        os.kill(process, signal.SIGKILL)

    def do_kill_the_service_of_wandb(self, sweep: Sweep) -> None:
        services = [process for process, name in self.processes() if name == "wandb-core"]
        os.kill(self.chance.choice(services), signal.SIGKILL)

    def do_fill_the_disk(self, sweep: Sweep) -> None:
        if self.disk is None or (self.disk / "filler").exists():
            raise LookupError
        room = os.statvfs(self.disk)
        left = self.chance.choice([0, 1, 8])  # blocks
        filler = self.disk / "filler"
        try:
            with filler.open("wb") as file:
                os.posix_fallocate(file.fileno(), 0, max(room.f_bavail - left, 1) * room.f_frsize)
        except OSError:  # a run was quicker to take some of it
            filler.unlink()
            raise LookupError from None
        self.for_seconds(self.chance.uniform(1, 6), filler.unlink)

    def do_signal_a_job(self, sweep: Sweep) -> None:
        name = self.chance.choice(SIGNALS)
        self.ask("scancel", f"--signal={name}", self.element(sweep))

    def do_scancel(self, sweep: Sweep) -> None:
        self.ask("scancel", self.element(sweep))

    def do_requeue(self, sweep: Sweep) -> None:
        self.ask("scontrol", "requeue", self.element(sweep))

    def do_hold_and_release(self, sweep: Sweep) -> None:
        self._do_and_undo("requeuehold", "release", self.element(sweep))

    def do_suspend_and_resume(self, sweep: Sweep) -> None:
        self._do_and_undo("suspend", "resume", self.element(sweep))

    def _do_and_undo(self, do: str, undo: str, job: str) -> None:
        self.ask("scontrol", do, job)

        def end() -> None:
            try:
                self.ask("scontrol", undo, job)
            except LookupError:  # the controller is away
                self.for_seconds(1, end)

        self.for_seconds(2, end)

    def do_preempt(self, sweep: Sweep) -> None:
        if "slurmctld" in self.cluster.down:
            raise LookupError
        preempt(sweep)

    def do_restart_a_daemon(self, sweep: Sweep) -> None:
        daemons = ["slurmctld", "slurmdbd", *self.cluster.shape.node_names]
        name = self.chance.choice([each for each in daemons if each not in self.cluster.down])
        # The controller writes down what it was told within five seconds, or after TERM.
        self.cluster.kill(name, number=signal.SIGTERM)
        self.for_seconds(
            self.chance.uniform(0, 3), lambda: self.cluster.restart(*self.cluster.down)
        )

    def do_reboot_a_node(self, sweep: Sweep) -> None:
        """All on it ends, Slurm's own processes of the jobs too."""
        nodes = {*self.cluster.shape.node_names} - {*self.cluster.down}
        node = self.chance.choice(sorted(nodes))
        self.cluster.kill(node)
        self.cluster.kill_jobs_of(node)

        def come_back() -> None:
            self.cluster.restart(*self.cluster.down)
            # Of a machine that has been up all the time Slurm does not see that the node was not.
            for state in (("state=down", "reason=rebooted"), ("state=resume",)):
                command = ("scontrol", "update", f"nodename={node}", *state)
                run(*command, cwd=self.folder, **self.cluster.environment)

        self.for_seconds(self.chance.uniform(0, 3), come_back)

    def do_let_a_command_hang_or_fail(self, sweep: Sweep) -> None:
        flag = self.bin / f"{self.chance.choice(HANGING)}.{self.chance.choice(['hangs', 'fails'])}"
        flag.touch()
        self.for_seconds(3, lambda: flag.unlink(missing_ok=True))

    def do_end_a_command(self, sweep: Sweep) -> None:
        command = self.commands[self.sweeps.index(sweep)]
        if command.poll() is not None:
            raise LookupError
        self._struck.add(command.pid)
        kind = self.chance.choice([signal.SIGINT, signal.SIGKILL, signal.SIGHUP, signal.SIGTERM])
        command.send_signal(kind)

    def do_attach_twice(self, sweep: Sweep) -> None:
        second = sweep.start()

        def end() -> None:
            second.kill()
            second.communicate()

        self.for_seconds(2, end)

    def jobs(self) -> list[list[str]]:
        """Those of the sweeps: id, state, reason, script."""
        query = ("squeue", "--noheader", "--array", "--format=%i|%T|%r|%o")
        lines = slurm(self.sweeps[0].project, *query).splitlines()
        places = tuple(f"{sweep.directory}/" for sweep in self.sweeps)
        jobs = [line.split("|", 3) for line in lines]
        return [job for job in jobs if job[3].startswith(places)]
