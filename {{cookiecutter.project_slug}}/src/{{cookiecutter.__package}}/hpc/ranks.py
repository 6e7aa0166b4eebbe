"""Which of the processes of its job a process is."""

import os


def rank() -> int:
    """Number of this process among the job's task ranks: 0 for the one that writes, and outside of a job."""
    for variable in ("SUBMITIT_LOCAL_GLOBALID", "SLURM_PROCID"):
        if variable in os.environ:
            return int(os.environ[variable])
    return 0
