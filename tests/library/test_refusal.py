"""What is said beside sbatch's own words, by what Slurm tells of the site."""

import pytest

from hpc_hydra._launch import refusal
from hpc_hydra._launch.refusal import Refused

# As sbatch explains every limit of the accounting.
POLICY = "\nJob violates accounting/QOS policy (job submit limit, user's size and/or time limits)"
FEWER = "put several runs into each, with hydra.launcher.runs_per_job"


@pytest.mark.parametrize(
    ("text", "remedy"),
    [
        (f"AssocMaxSubmitJobLimit{POLICY}", f"{FEWER}=3 for example"),
        (f"QOSGrpSubmitJobsLimit{POLICY}", f"{FEWER}=3 for example"),
        (POLICY, f"{FEWER}=3 for example"),
        ("Slurm temporarily unable to accept job, sleeping and retrying", f"{FEWER}=3 for example"),
        (f"QOSMaxWallDurationPerJobLimit{POLICY}", "timeout_min; the limits of the partitions: cpu=1:00:00, old=2:00"),
        ("Requested time limit is invalid (missing or exceeds some limit)", "cpu=1:00:00, old=2:00"),
        (f"QOSMaxCpuPerUserLimit{POLICY}", "or less memory; `sacctmgr show qos` has the limits"),
        ("Required partition not available (inactive or drain)", "the partitions that are up: cpu"),
        (
            "Invalid account or account/partition combination specified",
            "the partitions that are up: cpu; your accounts: none that Slurm knows of, ask the site",
        ),
        ("Invalid qos specification", "your QOS: long, normal"),
        ("Invalid feature specification", "specification"),
    ],
)  # fmt: skip
def test_the_mend_fits_the_fault(text: str, remedy: str, monkeypatch: pytest.MonkeyPatch) -> None:
    answers = {
        "format=maxsubmitjobs,defaultqos": "4|normal\n", "format=account": "", "format=qos": "normal,long\n",
        "--format=%R=%a": "cpu=up\nold=inact\n", "--format=%R=%l": "cpu=1:00:00\nold=2:00\n",
    }  # fmt: skip
    monkeypatch.setattr(refusal, "answer", lambda *command: answers.get(command[-1]))
    assert Refused(text).explained(10, None).endswith(remedy)
