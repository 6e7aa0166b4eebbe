"""`hpc doctor` where there is no cluster; the rest is tried on one."""

import json

import pytest

from hpc_hydra._command.surroundings import seconds

from .hpc_command import hpc
from .using import App


def test_without_slurm_no_job_could_run(yaml_app: App) -> None:
    ended = hpc("doctor", cwd=yaml_app.folder, PATH="/nowhere", WANDB_API_KEY="secret")
    assert ended.returncode == 1 and ended.stdout.startswith("bad  not here: sbatch, srun")
    assert "+setup=local" in ended.stdout.splitlines()[1] and "secret" not in ended.stdout
    found = json.loads(hpc("doctor", "--json", cwd=yaml_app.folder, PATH="/nowhere").stdout)
    assert any(each["what"] == "git is not here" for each in found)
    assert not [each for each in found if each["level"] != "ok" and not each["remedy"]]


@pytest.mark.parametrize(
    ("limit", "expected"),
    [("30", 1800), ("5:30", 330), ("1:00:00", 3600), ("2-00:00:00", 172800), ("1-12", 129600),
     ("UNLIMITED", None), ("", None)],
)  # fmt: skip
def test_time_limits_as_slurm_writes_them(limit: str, expected: int | None) -> None:
    assert seconds(limit) == expected
