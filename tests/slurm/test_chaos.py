"""Everything that may happen to jobs, at random and several at a time: `make chaos MINUTES=20`.

A failing seed can be repeated: `make chaos SEED=123456`. The order of what is done is the same then; the moments
at which it meets the runs are not.
"""

import json
import os
import random
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from cluster import Cluster
from faults import Sweep
from jobs import record, runs_of, slurm, supervisors_of, wait_until
from running import run
from test_limits_and_preemption import preempt

Traced = Callable[..., Sweep]
MINUTES = float(os.environ.get("MINUTES", 0.25))
SEED = int(os.environ.get("SEED", random.randrange(10**6)))
RANKS = ("hydra.launcher.nodes=2", "hydra.launcher.tasks_per_node=2")
SHAPES = {
    "alone": ("+setup=hpc_batch", "seed=0", "epochs=60"),
    "packed": (
        "+setup=hpc_batch", "seed=0,1", "epochs=59,60", "hydra.launcher.runs_per_job=4",
        "hydra.launcher.tasks_per_node=2",
    ),
    "ranks": ("+setup=hpc_batch", "seed=2", "epochs=60", *RANKS),
    "local": ("+setup=local", "seed=3", "epochs=60"),
}  # fmt: skip
SIGNALS = ("USR1", "USR2", "CONT", "TERM", "HUP")
HANGING = ("squeue", "scontrol", "sacct", "sbatch")
HANG = '#!/bin/sh\ntest ! -e "$0.hangs" || sleep 5\ntest ! -e "$0.fails" || exit 1\nPATH="${PATH#*:}" exec %s "$@"\n'


@dataclass
class Chaos:
    """Sweeps whose owner repeats their commands, and what is done to them."""

    sweeps: list[Sweep]
    cluster: Cluster
    bin: Path
    chance: random.Random
    commands: dict[int, "subprocess.Popen[str]"] = field(default_factory=dict)
    outputs: list[str] = field(default_factory=list)
    done: Counter[str] = field(default_factory=Counter)

    def begin(self, sweeps: list[Sweep]) -> None:
        """Attend to these from now on."""
        self.sweeps, self.commands = sweeps, {}

    def has_left_no_job(self) -> bool:
        queue = slurm(self.sweeps[0].project, "squeue", "--noheader", "--format=%F").split()
        return not {sweep.job for sweep in self.sweeps} & {*queue}

    def attend(self) -> bool:
        """Repeat each command that has ended before its sweep is complete; whether all are."""
        over = 0
        for number, sweep in enumerate(self.sweeps):
            command = self.commands.get(number)
            if command and command.poll() is None:
                continue
            if command and command.returncode == 0:
                over += 1
                continue
            if command and command.stdout:
                self.outputs.append(command.stdout.read())
            self.commands[number] = sweep.start()
        return over == len(self.sweeps)

    def strike(self) -> None:
        """Do one thing, to one sweep or to the cluster."""
        sweep = self.chance.choice(self.sweeps)
        faults = sorted(name for name in dir(self) if name.startswith("do_"))
        name = self.chance.choice(faults)
        with suppress(ProcessLookupError, IndexError):  # there is none, or no more
            getattr(self, name)(sweep)
            self.done[name.removeprefix("do_").replace("_", " ")] += 1

    def element(self, sweep: Sweep) -> str:
        """A job of the sweep; of a local one there is none."""
        jobs = [run["job_id"] for run in record(sweep.directory / "sweep.json").get("runs", [])]
        return str(self.chance.choice([job for job in jobs if job and "_" in job]))

    def ask(self, *command: str) -> None:
        """A command of Slurm's, which may find that there is no such job just then."""
        run(*command, cwd=self.bin, **self.cluster.environment)

    def do_kill_a_run(self, sweep: Sweep) -> None:
        os.kill(self.chance.choice(runs_of(sweep.directory)), signal.SIGKILL)

    def do_kill_a_supervisor(self, sweep: Sweep) -> None:
        os.kill(self.chance.choice([*supervisors_of(sweep.directory).values()]), signal.SIGKILL)

    def do_signal_a_job(self, sweep: Sweep) -> None:
        name = self.chance.choice(SIGNALS)
        self.ask("scancel", f"--signal={name}", self.element(sweep))

    def do_scancel(self, sweep: Sweep) -> None:
        self.ask("scancel", self.element(sweep))

    def do_requeue(self, sweep: Sweep) -> None:
        self.ask("scontrol", "requeue", self.element(sweep))

    def do_hold_and_release(self, sweep: Sweep) -> None:
        job = self.element(sweep)
        self.ask("scontrol", "requeuehold", job)
        time.sleep(2)
        self.ask("scontrol", "release", job)

    def do_suspend_and_resume(self, sweep: Sweep) -> None:
        job = self.element(sweep)
        self.ask("scontrol", "suspend", job)
        time.sleep(2)
        self.ask("scontrol", "resume", job)

    def do_preempt(self, sweep: Sweep) -> None:
        if "slurmctld" not in self.cluster.down:
            preempt(sweep)

    def do_restart_a_daemon(self, sweep: Sweep) -> None:
        name = self.chance.choice(["slurmctld", "slurmdbd", *self.cluster.shape.node_names])
        # The controller writes down what it was told within five seconds, or after TERM.
        self.cluster.kill(name, number=signal.SIGTERM)
        time.sleep(self.chance.uniform(0, 3))
        self.cluster.restart(name)

    def do_let_a_command_hang_or_fail(self, sweep: Sweep) -> None:
        flag = self.bin / f"{self.chance.choice(HANGING)}.{self.chance.choice(['hangs', 'fails'])}"
        flag.touch()
        time.sleep(3)
        flag.unlink()

    def do_end_a_command(self, sweep: Sweep) -> None:
        number = self.sweeps.index(sweep)
        kind = self.chance.choice([signal.SIGINT, signal.SIGKILL, signal.SIGHUP, signal.SIGTERM])
        self.commands[number].send_signal(kind)

    def do_attach_twice(self, sweep: Sweep) -> None:
        second = sweep.start()
        time.sleep(2)
        second.kill()
        second.communicate()


@pytest.mark.timeout(3600)
def test_chaos(traced: Traced, cluster: Cluster, tmp_path: Path) -> None:
    """Each run completes exactly once, with the metrics of one that nothing disturbed; no step before its newest
    checkpoint is done twice; nothing is torn; no process and no job is left; records and Slurm agree."""
    print("seed:", SEED)
    programs = tmp_path / "bin"
    programs.mkdir()
    for name in HANGING:
        (programs / name).write_text(HANG % name)
        (programs / name).chmod(0o755)
    path = f"{programs}{os.pathsep}{os.environ['PATH']}"
    chaos = Chaos([], cluster, programs, random.Random(SEED))
    deadline = time.monotonic() + 60 * MINUTES
    number = 0
    while number == 0 or time.monotonic() < deadline:  # with new sweeps, when all are complete
        number += 1
        chaos.begin(
            [
                traced(*shape, name=f"{name}{number}", pace=0.5, PATH=path)
                for name, shape in SHAPES.items()
            ]
        )
        try:
            while time.monotonic() < deadline and not chaos.attend():
                time.sleep(chaos.chance.uniform(0, 3))
                chaos.strike()
            print(sum(chaos.done.values()), "faults:", dict(chaos.done), flush=True)
            for sweep in chaos.sweeps:
                sweep.set_pace(0)
            wait_until(chaos.attend, seconds=600)
        finally:
            for command in chaos.commands.values():
                command.kill()
        for sweep in chaos.sweeps:
            check(sweep)
        wait_until(chaos.has_left_no_job)


def check(sweep: Sweep) -> None:
    """What is to hold of a sweep afterwards."""
    assert sweep.states == ["COMPLETED"] * len(sweep.numbers)
    assert sweep.lost() == []
    for number in sweep.numbers:
        saved = 0
        for line in (sweep.directory / str(number) / "steps_0").read_text().splitlines():
            word, step = line.split()
            if word == "end":
                saved = max(saved, int(step) - 1)  # the checkpoint after it may be lost
            else:
                assert int(step) > saved, (number, line)
    for path in sweep.directory.glob("**/*.json"):
        json.loads(path.read_text())
    wait_until(lambda: not runs_of(sweep.directory))
    table = sweep.project.run("hpc", "status", sweep.directory)
    assert f"{len(sweep.numbers)} completed" in table.stdout
