"""Sweeps on this machine, for want of a cluster."""

from __future__ import annotations

import os
import shlex
import signal
import socket
import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from .. import _signals as signals
from .._commands import local_jobs
from .._job.submission import Run
from .._ranks import gpus_here
from .._recording import LauncherError
from .launcher import Launcher


class LocalLauncher(Launcher):
    """Runs on this machine, with no more processes than cores: each works off its share of the runs."""

    _EXECUTOR = "local"
    _CANCEL = "kill"
    _ASK_EVERY_S = 1
    _GONE = "its process has ended"
    _started = False

    def _check(self) -> None:
        super()._check()
        if self.params["nodes"] > 1:
            raise LauncherError("hydra.launcher.nodes: this machine is one node")

    def _submit(self, left: list[Run], runs: list[Run]) -> None:
        from submitit.local.local import start_controller

        from .._job.worker import printing_to, share_of

        cpus, ranks = self.params["cpus_per_task"] or 1, self.params["tasks_per_node"]
        cores = getattr(os, "sched_getaffinity", lambda _: range(os.cpu_count() or 1))(0)
        places = max(len(cores) // (cpus * ranks), 1)
        gpus = gpus_here()[: self.params["gpus_per_node"]]
        if gpus and places > (fit := max(len(gpus) // ranks, 1)):
            places = fit
            print(
                f"{fit} at a time, for {len(gpus)} GPUs; hydra.launcher.gpus_per_node=0 is for runs that use none",
                file=sys.stderr,
            )
        jobs = [left[place::places] for place in range(min(places, len(left)))]
        submission, work = self._prepare(jobs, runs, shared=False, ranks=ranks, signal_delay_s=30)
        # Numerical libraries start a thread for each core of the machine unless told otherwise.
        threads = os.environ.get("OMP_NUM_THREADS", cpus)
        variables = [f"PYTHONPATH={self._python_path()}", f"OMP_NUM_THREADS={threads}"]
        self._started = True
        # Ctrl-C is for the waiting process, and of a closed terminal the runs learn themselves: submitit's, of which
        # they are to be told, has to live until they have saved. What is started inherits what is ignored.
        with signals.ignoring(signal.SIGINT, signal.SIGHUP):
            for number, job in enumerate(jobs):
                command = self._command(shlex.quote(sys.executable), submission, number)
                with printing_to(Path(os.devnull)):  # whoever reads our output does not wait for it
                    process = start_controller(
                        self.folder,
                        f"env {shlex.join(variables)} {command}",
                        tasks_per_node=ranks,
                        cuda_devices=",".join(share_of(gpus, number, places) if gpus else []),
                        timeout_min=self.params["timeout_min"],
                        stderr_to_stdout=self.params["stderr_to_stdout"],
                    )
                # Of a process before that had this number, as they come again in containers.
                (self.folder / f"{process.pid}_attempt").unlink(missing_ok=True)
                self._assign({str(process.pid): job}, work)

    def _under_way(self, just_completed: bool = True) -> set[str]:
        host = self._earlier.sweep.get("host", socket.gethostname())
        if host != socket.gethostname():
            raise LauncherError(
                f"the runs of {self.directory} were started on {host}: go on there; or, if nothing of "
                'them is left there, remove "host" from sweep.json'
            )
        return local_jobs(self.folder)

    def _states(self) -> Mapping[str, tuple[str, str]]:
        return dict.fromkeys(local_jobs(self.folder), ("RUNNING", ""))

    def _on_interrupt(self, runs: list[Run]) -> None:
        if not self._started:
            super()._on_interrupt(runs)
            return
        print("\nStopping the runs; they save what they can.", file=sys.stderr)
        for process in local_jobs(self.folder):
            with suppress(ProcessLookupError):  # it has just ended
                os.kill(int(process), signal.SIGTERM)  # submitit passes it on
        deadline = time.monotonic() + signals.TERM_GRACE_S + signals.HAND_OVER_S
        with suppress(KeyboardInterrupt):  # who asks again waits no longer
            while time.monotonic() < deadline and local_jobs(self.folder):
                time.sleep(0.2)
        if local_jobs(self.folder):
            kill = f"pkill -KILL -f {shlex.quote(str(self.folder))}"
            print(f"Some go on; end them with\n    {kill}", file=sys.stderr)
        print(
            f"To go on from there, repeat the command with\n    {self._sweep_dir()}",
            file=sys.stderr,
        )
