"""Sweeps on Slurm: job arrays, whose elements have one run each or several."""

from __future__ import annotations

import logging
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hydra.utils import get_class
from omegaconf import DictConfig, OmegaConf

from .. import _records as records
from .. import _squeue as squeue
from .._job.submission import Run, Work
from .._overrides import typed_overrides
from .._recording import LauncherError
from .._signals import WARNING
from .._source import Source
from .config import CommonConf
from .gpus import GPUS
from .job_script import environment, guarded, job_of, submit, text_of
from .launcher import Launcher
from .refusal import Refused

log = logging.getLogger(__name__)

SILENT = (
    "Slurm does not answer squeue, so it is not known which runs are under way; try again later."
)
SHORTEST_DELAY_S = 20
# Fields that sbatch knows by another name, and those that are no options of it.
NAMES = {
    "name": "job_name",
    "timeout_min": "time",
    "mem_gb": "mem",
    "tasks_per_node": "ntasks_per_node",
}
OWN = {
    "additional_parameters", "array_parallelism", "gpus", "gpus_of_node", "max_num_timeout", "python",
    "runs_per_job", "setup", "signal_delay_s", "srun_args", "use_srun", *vars(CommonConf()),
}  # fmt: skip


class SlurmLauncher(Launcher):
    """Submits a sweep as job arrays."""

    _EXECUTOR = "slurm"
    _CANCEL = "scancel"
    _ASK_EVERY_S = 30
    _GONE = squeue.GONE

    def _check(self) -> None:
        super()._check()
        if self.params["runs_per_job"] < 1:
            raise LauncherError("hydra.launcher.runs_per_job: one at least")
        if shutil.which("sbatch") is None or shutil.which("srun") is None:
            raise LauncherError(
                "Slurm's sbatch and srun are not here: type this on a login node of the cluster, or choose "
                "this machine, with hydra/launcher=hpc_local (in a generated repository +setup=local)"
            )
        self._check_request()
        if command := self.params["python"]:
            try:
                python = Path(re.sub(r"\\([$`])", r"\1", shlex.split(command)[0]))
            except ValueError as error:
                raise LauncherError(
                    f"hydra.launcher.python: {error} in {command}, which is a command of the shell: put "
                    "a backslash before each odd character"
                ) from error
            if python.is_absolute() and not python.exists():
                raise LauncherError(
                    f"{python} does not exist: make the virtual environment that the jobs are to run "
                    "in, or correct PYTHON in cluster.py, or hydra.launcher.python"
                )
            here = Path(sys.executable).parent
            if python.is_absolute() and python.parent.resolve() != here.resolve():
                log.warning("jobs run with %s, this command with %s", python, sys.executable)

    def _ranks(self) -> int:
        """Of a job: what srun is told, then what the job asks for."""
        if not self.params["use_srun"]:
            return 1
        for argument in self.params["srun_args"] or []:
            if argument.startswith("--ntasks="):
                return int(argument.partition("=")[2])
        if ntasks := (self.params["additional_parameters"] or {}).get("ntasks"):
            return int(ntasks)
        return (self.params["nodes"] or 1) * (self.params["tasks_per_node"] or 1)

    def _script(self, submission: Path, first: int = 0, jobs: int = 0, parallel: int = 1) -> str:
        """That of an array of ``jobs``, of which ``parallel`` run at a time, from the ``first`` one of the submission;
        or of a job alone."""
        folder = str(Path(self.params["submitit_folder"]).absolute())
        together = self.params["runs_per_job"] == 1
        setup = [*(self.params["setup"] or [])]
        first_line = setup.pop(0) if setup[:1] and setup[0].startswith("#!") else "#!/bin/bash"
        if python_path := self._python_path():
            setup.append(f"export PYTHONPATH={shlex.quote(python_path)}")
        python = self.params["python"] or shlex.quote(sys.executable)
        timeouts = self.params["max_num_timeout"]
        log = f"{folder}/{'%A_%a' if jobs else '%j'}_%t_log"
        streams = {"output": f"{log}.out", "error": f"{log}.err"}
        if self.params["stderr_to_stdout"]:
            del streams["error"]
        options = {NAMES.get(name, name): self.params[name] for name in {*self.params} - OWN}
        if mem := options["mem"]:
            options["mem"] = f"{int(mem)}GB" if mem == int(mem) else f"{int(mem * 1024)}MB"
        options |= {name: path.replace("%t", "0") for name, path in streams.items()}
        options |= {
            "array": f"0-{jobs - 1}%{min(jobs, parallel)}" if jobs else None,
            "exclusive": self.params["exclusive"] or None,
            "open-mode": "append",
            "signal": f"{WARNING.name.removeprefix('SIG')}@{self._signal_delay_s()}",
            **(self.params["additional_parameters"] or {}),
        }
        command = self._command(python, submission, first)
        if self.params["use_srun"]:
            arguments = [word for name, path in streams.items() for word in (f"--{name}", path)]
            if self._ranks() > 1:
                # Ranks that share a run would wait for one that fails; where runs share a job, a rank may.
                arguments += [f"--kill-on-bad-exit={int(together)}", "--wait=0"]
            arguments += self.params["srun_args"] or []
            command = f"{shlex.join(['srun', '--unbuffered', *arguments])} {command}"
        setup = guarded(setup, folder, python, self.source, together, timeouts)
        return text_of(options, first_line, setup, command)

    def _check_request(self) -> None:
        """Raises:
        LauncherError: sbatch, squeue or the launcher itself would not do what is asked for. That is so if there is a
            number of GPUs, or a type, and nothing in the request follows from it.
        """
        additional = self.params["additional_parameters"] or {}
        if "clusters" in additional or "SBATCH_CLUSTERS" in os.environ:
            raise LauncherError(
                "clusters=NAME: squeue would not see jobs on another cluster. Leave it out, and "
                "`export SLURM_CLUSTERS=NAME`, which all of Slurm's commands obey"
            )
        folder = str(Path(self.params["submitit_folder"]).absolute())
        if re.search(r"[%\\]", folder):
            raise LauncherError(
                f"{folder}: sbatch gives % and \\ in the names of logs a meaning; "
                "choose another hydra.sweep.dir=, or leave hydra.launcher.submitit_folder as it is"
            )
        if self.params["gpus"] is None and self.params["gpus_of_node"] is not None:
            raise LauncherError(
                "+gpu= chooses among GPUs: choose a launcher that asks for some, such as +setup=hpc_gpu"
            )
        typed = map(records.key_of, typed_overrides(self.config, "hydra"))
        request = OmegaConf.to_container(self.config.hydra.launcher, resolve=False)
        if "hydra.launcher.gpus" in typed and GPUS not in str(request):
            raise LauncherError(
                "hydra.launcher.gpus: this launcher asks for no GPUs by that number; choose one that does, "
                "such as +setup=hpc_gpu, or set hydra.launcher.gres or gpus_per_node"
            )

    def _signal_delay_s(self) -> int:
        """As long before the time limit as is asked for; of a short limit an eighth, so that the warning,
        which may come a minute early, does not come at once."""
        limit_s = int(self.params["timeout_min"]) * 60
        return min(int(self.params["signal_delay_s"]), max((limit_s - 60) // 8, SHORTEST_DELAY_S))

    def _test(self) -> None:
        script = self.job_script()
        print(script, flush=True)
        sbatch = ["sbatch", "--test-only"]
        ended = subprocess.run(
            sbatch, input=script, env=environment(script), capture_output=True, text=True
        )
        if ended.returncode:
            reason = Refused(ended.stderr.strip()).explained(1, self.params["qos"])
            raise LauncherError(f"Slurm would not take the job: {reason}")
        print(ended.stderr.strip())

    def job_script(self) -> str:
        """That of a single run, whatever the task."""
        self.source = Source(getattr(self, "task_function", None))
        self._check_request()
        return self._script(Path("SUBMISSION"))

    def _submit(self, left: list[Run], runs: list[Run]) -> None:
        per_job, delay_s = self.params["runs_per_job"], self._signal_delay_s()
        jobs = [left[first : first + per_job] for first in range(0, len(left), per_job)]
        if delay_s != self.params["signal_delay_s"]:
            log.info("runs are warned %d s before their short time limit", delay_s)
        submission, work = self._prepare(
            jobs, runs, shared=per_job > 1, ranks=self._ranks(), signal_delay_s=delay_s
        )
        # What the cluster allows is one less than its MaxArraySize; Slurm's default where it does not say.
        at_most = max(int(squeue.settings().get("MaxArraySize", 1001)) - 1, 1)
        arrays = -(-len(jobs) // at_most)
        for array in range(arrays):
            first, end = (len(jobs) * number // arrays for number in (array, array + 1))
            parallel = max(self.params["array_parallelism"] // arrays, 1)
            script = self.folder / f".{submission.stem}_{first}-{end}.sh"
            try:
                job_id = submit(self._script(submission, first, end - first, parallel), script)
            except Refused as refusal:
                refused = [run for run in left if run.job_id is None]
                if not script.exists():  # else it is not known whether Slurm has taken the job
                    self._earlier.take_back(refused, left, runs)
                reason = refusal.explained(len(left), self.params["qos"])
                if refused == left:
                    raise LauncherError(f"Slurm did not take the job: {reason}") from refusal
                log.error(
                    "Slurm took %d of %d runs: %s\nWhen it takes more, repeat the command with "
                    "%s", len(left) - len(refused), len(left), reason, self._sweep_dir(),
                )  # fmt: skip
                return
            self._note(jobs[first:end], job_id, work, script)

    def _note(self, jobs: list[list[Run]], job_id: str, work: Work, script: Path) -> None:
        """Record that ``jobs`` are the elements of array ``job_id``."""
        self._assign({f"{job_id}_{element}": job for element, job in enumerate(jobs)}, work)
        script.rename(self.folder / f"{job_id}_submission.sh")
        log.info("submitted as Slurm job %s", job_id)

    def _adopt(self, runs: list[Run]) -> None:
        """Give ``runs`` the jobs that Slurm took from a command that was killed before it noted them."""
        numbered = {run.number: run for run in runs}
        for script in self.folder.glob(".submission_*.sh"):
            answer, job_id = job_of(script)
            if not answer:
                raise LauncherError(SILENT)
            if job_id is None:
                script.unlink()
                continue
            name, _, elements = script.stem[1:].rpartition("_")
            first, end = map(int, elements.split("-"))
            work, _, todos = Work.read(self.folder / f"{name}.pkl", first, end)
            if any(number not in numbered for job in todos for number, _ in job):
                continue  # of another batch of the sweeper
            jobs = [[numbered[number] for number, _ in job] for job in todos]
            self._note(jobs, job_id, work, script)

    def _under_way(self, just_completed: bool = True) -> set[str]:
        if squeue.is_elsewhere(name := self._earlier.sweep.get("slurm_cluster")):
            raise LauncherError(
                f"{self.directory} has jobs on the cluster {name}, of which the queue here tells nothing: "
                "type this there, or choose another hydra.sweep.dir="
            )
        jobs = squeue.jobs()
        if jobs is None:
            raise LauncherError(SILENT)
        # The result of a job that has just completed may not be visible here yet.
        return {
            name for name, job in jobs.items()
            if (job.state == "COMPLETED" and just_completed) or not squeue.is_over(job.state)
            if squeue.is_of(job.script, self.folder)
        }  # fmt: skip

    def _states(self) -> Mapping[str, tuple[str, str]] | None:
        return squeue.states_and_reasons()


def job_script(config: DictConfig) -> str:
    """The job script of a sweep of one run.

    Args:
        config: composed with its hydra node, ``compose(…, return_hydra_config=True)``.

    Raises:
        LauncherError: such a job cannot be submitted; the message says why.
        ValueError: the launcher of ``config`` is none of Slurm.
    """
    parameters: Any = OmegaConf.to_container(config.hydra.launcher, resolve=True)
    launcher = get_class(parameters.pop("_target_"))
    if not issubclass(launcher, SlurmLauncher):
        raise ValueError(f"{launcher.__name__} writes no job script")
    made = launcher(**parameters)
    made.config = config
    return made.job_script()
