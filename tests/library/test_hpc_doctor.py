"""`hpc doctor` where there is no cluster; the rest is tried on one."""

import json

import pytest

from hpc_hydra._command.doctor import is_longer

from .hpc_command import hpc
from .using import App


def test_without_slurm_no_job_could_run(yaml_app: App, monkeypatch: pytest.MonkeyPatch) -> None:
    ended = hpc("doctor", cwd=yaml_app.folder, PATH="/nowhere", WANDB_API_KEY="secret")
    assert ended.returncode == 1 and ended.stdout.startswith("bad  not here: sbatch, srun")
    assert "+setup=local" in ended.stdout.splitlines()[1] and "secret" not in ended.stdout
    (netrc := yaml_app.folder / "netrc").write_bytes(b"machine \xff\n")
    monkeypatch.setenv("NETRC", str(netrc))
    monkeypatch.setenv("WANDB_BASE_URL", "https://wandb.example.org:8080/")
    found = json.loads(hpc("doctor", "--json", cwd=yaml_app.folder, PATH="/nowhere").stdout)
    whats = [each["what"] for each in found]
    assert "git is not here" in whats
    assert "W&B: not logged in at wandb.example.org" in whats
    assert not [each for each in found if each["level"] != "ok" and not each["remedy"]]


@pytest.mark.parametrize(
    ("time", "limit", "expected"),
    [("90", "1:00:00", True), ("60", "1:00:00", False), ("2880", "1-12", True),
     ("2880", "2-00:00:00", False), ("90", "UNLIMITED", False), ("90", "", False), ("", "60", False)],
)  # fmt: skip
def test_a_time_above_the_limit_of_a_partition(time: str, limit: str, expected: bool) -> None:
    assert is_longer(time, limit) is expected
