"""submitit's Slurm executor, with job scripts from which any line can be left out.

The underscore keeps Hydra, which looks for plugins at every start, from importing submitit there.
"""

from __future__ import annotations

import copy
import uuid
from collections.abc import Sequence
from typing import Any

import submitit
from submitit.core.utils import DelayedSubmission, JobPaths


class SlurmExecutor(submitit.SlurmExecutor):
    """What differs from submitit's: a parameter that is None has no line in the job script, and
    `setup` may begin with the script's own first line."""

    def __init__(self, folder: str, max_num_timeout: int, **parameters: Any) -> None:
        """``parameters`` have the launcher's names."""
        super().__init__(folder, max_num_timeout)
        if parameters["mem_gb"] is None:
            del parameters["mem_gb"]
        # submitit's own wckey, "submitit", is unknown to a cluster that checks wckeys.
        self.update_parameters(wckey=None, **self._convert_parameters(parameters))

    def _num_tasks(self) -> int:
        """Ranks of a run: what srun is told, then what the job asks for."""
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

    def _internal_process_submissions(
        self, delayed_submissions: Sequence[DelayedSubmission]
    ) -> list[submitit.Job[Any]]:
        """As submitit's, whose array would not be submitted by this class."""
        folder = JobPaths.get_first_id_independent_folder(self.folder)
        folder.mkdir(parents=True, exist_ok=True)
        pickles = []
        for delayed in delayed_submissions:
            delayed.set_timeout(self.parameters["time"], self.max_num_timeout)
            pickles.append(folder / f"{uuid.uuid4().hex}.pkl")
            delayed.dump(pickles[-1])
        array = copy.copy(self)
        array.parameters = {**self.parameters, "map_count": len(pickles)}
        first = array._submit_command(self._submitit_command_str)
        jobs: list[submitit.Job[Any]] = [
            self.job_class(self.folder, f"{first.job_id}_{number}", range(first.num_tasks))
            for number in range(len(pickles))
        ]
        for job, path in zip(jobs, pickles, strict=True):
            job.paths.move_temporary_file(path, "submitted_pickle")
        return jobs
