"""What a run does when Slurm signals it: one of two policies, `SIGNAL_POLICY` in cluster.py by default.

Slurm sends USR2 some time before the time limit (`hydra.launcher.signal_delay_s`), and CONT and TERM
when it preempts or cancels a job; USR1 and HUP come from people and from sites.
"""

from contextlib import AbstractContextManager
from enum import Enum
from signal import SIGCONT, SIGHUP, SIGTERM, SIGUSR1, SIGUSR2

from hpc_hydra import ignoring, stopping


class Policy(Enum):
    """Chosen on the command line with ``signal_policy=``."""

    checkpoint = "checkpoint"
    ignore = "ignore"


def handled(policy: Policy, warning_s: float) -> AbstractContextManager[None]:
    """Handle signals inside of the block: USR2 comes ``warning_s`` seconds before the time limit."""
    if policy is Policy.ignore:
        # They do nothing: for clusters that send them for reasons of their own. It costs the requeueing:
        # a run that is to end before its time ends by KILL, after Slurm's KillWait (30 s by default).
        return ignoring(SIGUSR1, SIGUSR2, SIGCONT, SIGTERM, SIGHUP)
    # They only set a flag. The task asks `stop_requested()` where it can be interrupted, saves a
    # checkpoint and returns; the job is requeued, unless somebody cancelled it, and goes on from there.
    # After these seconds that happens without the task, and costs what it did since its last checkpoint.
    return stopping({SIGUSR2: max(warning_s - 10, 0), SIGTERM: 20, SIGUSR1: 20, SIGHUP: 20})
