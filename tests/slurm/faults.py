"""A sweep that faults are done to, and what they cost it."""

from __future__ import annotations

import operator
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from jobs import job_of, record, wait_until
from running import Ended, Project

from hpc_hydra import read_metrics

#: Whether all is asked for, or what `make test` has time for.
ALL = os.environ.get("FAULTS") == "all"
HEADER = ("fault", "times", "runs", "steps lost", "runs lost", "verdict")
#: Metrics by epoch of the run with this seed, if nothing disturbs it.
Expected = dict[int, dict[int, dict[str, float]]]
SEEDS, EPOCHS = 4, 60
# The last digits depend on the number of threads, and several wait long for each other on a busy machine.
ONE_THREAD = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}


def make_undisturbed(project: Project, folder: Path) -> None:
    """Let the runs of the first seeds go on for as many epochs as any test wants."""
    call = f"task.train(models.mlp, seed=seed, epochs={EPOCHS}, output_dir='{folder}/%d' % seed)"
    program = f"from hpc_experiment import models, task\nfor seed in range({SEEDS}): {call}"
    done = project.run("python", "-c", program, **ONE_THREAD)
    assert done.returncode == 0, done.stderr


def read_undisturbed(folder: Path) -> Expected:
    """What these runs gave."""
    return {seed: read_metrics(folder / str(seed)) for seed in range(SEEDS)}


@dataclass
class Sweep:
    """One whose runs leave traces of their steps."""

    project: Project
    directory: Path
    overrides: tuple[str, ...]
    expected: Expected
    report: Callable[[list[str]], None]
    variables: dict[str, str] = field(default_factory=dict)
    probe: str = "probe_models.traced_mlp"
    same: Callable[[Any, Any], bool] = operator.eq

    def set_pace(self, seconds: float, of_other_ranks: float | None = None) -> None:
        """How much longer a step takes than it needs."""
        draft = self.traces / ".pace"
        other = seconds if of_other_ranks is None else of_other_ranks
        draft.write_text(f"{seconds} {other}")
        if self.project.user:
            shutil.chown(draft, self.project.user)
        draft.replace(self.traces / "pace")

    def command(self, *more: str) -> list[str]:
        return [
            *self.overrides, *more, f"model._target_={self.probe}",
            f"hydra.sweep.dir={self.directory}",
        ]  # fmt: skip

    def start(self, *more: str, cwd: Path | None = None) -> subprocess.Popen[str]:
        """The command, which goes on by itself."""
        return replace(self.project, cwd=cwd).start(*self.command(*more), **self.variables)

    @contextmanager
    def going_on(self, *more: str, step: int = 2) -> Iterator[subprocess.Popen[str]]:
        """Started, and all runs as far as ``step``; at the end of the block nobody waits any more."""
        process = self.start(*more)
        try:
            wait_until(
                lambda: self.runs and all(self.has_begun(step, number) for number in self.numbers),
                process,
            )
            yield process
        finally:
            process.kill()
            process.wait()

    def has_begun(self, step: int, number: int) -> bool:
        return max(self.steps(number), default=0) >= step

    def has_restarted(self, before: int) -> bool:
        return self.restarts[0] > before

    def repeat(self, *more: str) -> Ended:
        """The command once more, to its end."""
        return self.project.run(
            "python", "-m", "hpc_experiment", *self.command(*more), **self.variables
        )

    @property
    def traces(self) -> Path:
        """Where its runs note their steps."""
        return Path(self.variables.get("TRACES", self.directory))

    @property
    def job(self) -> str:
        return job_of(self.directory)

    @property
    def numbers(self) -> list[int]:
        return [run["number"] for run in record(self.directory / "sweep.json").get("runs", [])]

    @property
    def runs(self) -> list[dict[str, Any]]:
        """The records of the runs."""
        return [record(self.directory / str(number) / "run.json") for number in self.numbers]

    @property
    def states(self) -> list[str]:
        return [run.get("state", "") for run in self.runs]

    @property
    def restarts(self) -> list[int]:
        return [run.get("restarts", 0) for run in self.runs]

    def log(self, number: int) -> str:
        log = record(self.directory / "sweep.json")["runs"][number]["log"]
        return Path(self.directory, log).read_text(errors="replace")

    def steps(self, number: int, rank: int = 0, word: str = "begin") -> list[int]:
        """Steps that a rank of run ``number`` has begun, or ended, in that order."""
        path = self.traces / str(number) / f"steps_{rank}"
        lines = path.read_text().splitlines() if path.exists() else []
        return [int(line.split()[1]) for line in lines if line.startswith(word)]

    def steps_lost(self) -> int:
        """Steps that had to be done once more."""
        begun = [self.steps(number) for number in self.numbers]
        return sum(len(steps) - len(set(steps)) for steps in begun)

    def lost(self) -> list[int]:
        """The runs that have not completed, or with other metrics than one that nothing disturbed."""
        lost = []
        for number, run in zip(self.numbers, self.runs, strict=True):
            named = dict(override.split("=") for override in run["overrides"] if "=" in override)
            whole = self.expected[int(named.get("seed", 0))]
            expected = {epoch: whole[epoch] for epoch in range(1, int(named["epochs"]) + 1)}
            metrics = read_metrics(self.directory / str(number))
            if run["state"] != "COMPLETED" or not self.same(metrics, expected):
                lost.append(number)
        return lost

    def tell(self, fault: str, times: int, steps_may_be_lost: int = 0) -> None:
        """Put the row of ``fault`` into the table, after all runs should have completed.

        Args:
            steps_may_be_lost: those after the last checkpoint: at most one for each kill of a run.
        """
        lost = self.lost()
        good = not lost and self.steps_lost() <= steps_may_be_lost
        numbers = (times, len(self.runs), self.steps_lost(), len(lost))
        self.report([fault, *map(str, numbers), "good" if good else "BAD"])
        assert not lost
        assert self.steps_lost() <= steps_may_be_lost


def table(rows: list[list[str]]) -> list[str]:
    """``rows`` in Markdown; those of the same fault are added up."""
    added: dict[str, list[str]] = {}
    for fault, *numbers, verdict in rows:
        *before, so_far = added.get(fault, ["0"] * len(numbers) + [verdict])
        sums = [str(int(one) + int(other)) for one, other in zip(before, numbers, strict=True)]
        added[fault] = [*sums, min(verdict, so_far)]  # BAD before good
    lines = [HEADER, ["---"] * len(HEADER), *([fault, *rest] for fault, rest in added.items())]
    return [f"| {' | '.join(line)} |" for line in lines]
