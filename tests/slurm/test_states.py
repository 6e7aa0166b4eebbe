"""What Slurm, the table, the record and the waiting command say of a run, in each state that it can be in."""

import re
import subprocess
import threading
from collections.abc import Callable

from faults import Sweep
from jobs import slurm, wait_until
from test_submission import HELD


class Sides:
    """A sweep of one run, looked at from four sides."""

    def __init__(self, sweep: Sweep, command: "subprocess.Popen[str]") -> None:
        self.sweep = sweep
        self.lines: list[str] = []
        assert command.stdout
        threading.Thread(target=self.lines.extend, args=(command.stdout,), daemon=True).start()

    def agree(self, slurm: str, table: str, record: str, view: str) -> None:
        """By and by; what is dear to ask comes last."""
        wait_until(lambda: self.sweep.states[0] == record, seconds=120)
        wait_until(lambda: self.view() == view, seconds=120)
        wait_until(lambda: self.slurm() == slurm, seconds=120)
        assert (self.table(), self.sweep.states[0], self.view()) == (table, record, view)

    def slurm(self) -> str:
        query = ("--noheader", "--states=all", "--array", f"--jobs={self.sweep.job}", "--format=%T")
        return slurm(self.sweep.project, "squeue", *query).strip()

    def table(self) -> str:
        shown = self.sweep.project.run("hpc", "status", self.sweep.directory).stdout
        (state,) = re.findall(r"^1 runs: 1 (.*)$", shown, re.MULTILINE)
        return str(state).upper()

    def view(self) -> str:
        """By the last line of the command's log that tells it."""
        pattern = r"(\d+) pending, (\d+) running, (\d+) done, (\d+) failed"
        numbers = re.findall(pattern, "".join(self.lines))
        names = ("PENDING", "RUNNING", "COMPLETED", "FAILED")
        return dict(zip(numbers[-1], names, strict=True)).get("1", "") if numbers else ""


def test_all_say_the_same(traced: Callable[..., Sweep]) -> None:
    """Where they cannot, each says what it knows: Slurm nothing of a stop, and a record nothing of the queue."""
    sweep = traced("+setup=hpc_batch", "epochs=60", HELD, pace=1)
    command = sweep.start()
    try:
        wait_until(lambda: sweep.job, command)
        sides, job = Sides(sweep, command), f"{sweep.job}_0"

        def control(verb: str) -> None:
            slurm(sweep.project, "scontrol", verb, job)

        sides.agree("PENDING", "PENDING", "", "PENDING")
        control("release")
        sides.agree("RUNNING", "RUNNING", "RUNNING", "RUNNING")
        control("suspend")
        sides.agree("SUSPENDED", "SUSPENDED", "RUNNING", "RUNNING")
        control("resume")
        sides.agree("RUNNING", "RUNNING", "RUNNING", "RUNNING")
        control("requeuehold")  # with a KILL
        wait_until(lambda: sides.view() == "PENDING", command)
        # It may have had the time to say that it stops.
        sides.agree("PENDING", "REQUEUED", sweep.states[0], "PENDING")
        control("release")
        sides.agree("RUNNING", "RUNNING", "RUNNING", "RUNNING")
        control("hold")  # when it is requeued
        slurm(sweep.project, "scancel", "--signal=USR2", job)
        sides.agree("PENDING", "REQUEUED", "STOPPED", "PENDING")
        control("release")
        sides.agree("RUNNING", "RUNNING", "RUNNING", "RUNNING")
        slurm(sweep.project, "scancel", job)
        assert command.wait(120) == 1
        sides.agree("CANCELLED", "CANCELLED", "CANCELLED", "RUNNING")  # its table says it
        assert "run 0 cancelled: CANCELLED" in "".join(sides.lines)
    finally:
        command.kill()
        command.wait()
