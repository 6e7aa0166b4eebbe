"""submitit's Slurm executor, with job scripts from which any line can be left out.

The underscore keeps Hydra, which looks for plugins at every start, from importing submitit there.
"""

from __future__ import annotations

import os
import re
import subprocess
from typing import Any

import submitit

# Of the job in which this process runs, as far as it is in one: no business of the jobs that it submits.
JOBS_OWN = re.compile(
    r"(SLURM_(?!CONF)|SRUN_|SUBMITIT_|PMIX?_|(CUDA|HIP|ROCR)_VISIBLE_DEVICES$|GPU_DEVICE)"
)


class Refused(Exception):
    """Slurm did not take a job; the text is sbatch's."""


class SlurmExecutor(submitit.SlurmExecutor):
    """What differs from submitit's: a parameter that is None has no line in the job script, and
    `setup` may begin with the script's own first line."""

    def __init__(
        self, folder: str, max_num_timeout: int, python: str | None, **parameters: Any
    ) -> None:
        """``parameters`` have the launcher's names."""
        super().__init__(folder, max_num_timeout, python=python)
        if parameters["mem_gb"] is None:
            del parameters["mem_gb"]
        parameters["exclusive"] = parameters["exclusive"] or None
        # submitit's own wckey, "submitit", is unknown to a cluster that checks wckeys.
        self.update_parameters(wckey=None, **self._convert_parameters(parameters))

    def _num_tasks(self) -> int:
        """Ranks of a job: what srun is told, then what the job asks for."""
        if not self.parameters["use_srun"]:
            return 1
        for argument in self.parameters["srun_args"] or []:
            if argument.startswith("--ntasks="):
                return int(argument.partition("=")[2])
        if ntasks := self.parameters["additional_parameters"].get("ntasks"):
            return int(ntasks)
        return (self.parameters["nodes"] or 1) * (self.parameters["ntasks_per_node"] or 1)

    def _make_submission_file_text(self, command: str, uid: str) -> str:
        lines = super()._make_submission_file_text(command, uid).split("\n")
        for name, value in self.parameters["additional_parameters"].items():
            if value is None:
                lines.remove(f"#SBATCH --{name.replace('_', '-')}=None")
        setup = self.parameters["setup"] or [""]
        if setup[0].startswith("#!"):
            lines.remove(setup[0])
            lines[0] = setup[0]
        return "\n".join(lines)

    def submit_jobs(self, command: str, jobs: int, parallel: int) -> str:
        """Submit an array of ``jobs`` that execute ``command``, of which ``parallel`` run at a time.

        Returns:
            The array's id. Its script is then in the folder, as ID_submission.sh.

        Raises:
            Refused: Slurm did not take it.
        """
        self.parameters |= {"map_count": jobs, "array_parallelism": parallel}
        script = self.folder / f".{os.getpid()}_submission.sh"
        script.write_text(self._make_submission_file_text(command, ""))
        environment = dict(os.environ)
        if "SLURM_JOB_ID" in environment:
            environment = {
                name: environment[name] for name in environment if not JOBS_OWN.match(name)
            }
        done = subprocess.run(
            ["sbatch", script], env=environment, capture_output=True, text=True,
            start_new_session=True,  # Ctrl-C leaves no job behind that is not recorded
        )  # fmt: skip
        if done.returncode != 0:
            script.unlink()
            raise Refused(done.stderr.strip() or f"sbatch ended with exit code {done.returncode}")
        job_id = self._get_job_id_from_submission_command(done.stdout)
        script.rename(self.folder / f"{job_id}_submission.sh")
        return job_id


def max_jobs_per_array() -> int:
    """What the cluster allows, one less than its MaxArraySize; Slurm's default where it does not say."""
    try:
        answer = subprocess.run(
            ["scontrol", "show", "config"], capture_output=True, text=True, timeout=20
        ).stdout
    except (OSError, subprocess.SubprocessError):
        answer = ""
    size = re.search(r"^MaxArraySize\s*=\s*(\d+)", answer, re.MULTILINE)
    return max(int(size[1]) - 1 if size else 1000, 1)
