"""The library's tests pass with every Hydra that it promises: here the oldest one and the newest candidate;
the newest release is that of the tests' own environment."""

from pathlib import Path

import pytest
from running import TEMPLATE, run, virtual_environment

# What Hydra has no part in.
OTHERS = (
    "attempts", "checkpoints", "files", "floors", "hpc_clean", "hpc_sync", "hpc_watch", "metrics", "plot", "ranks",
    "report", "results", "signals", "source", "tracking", "waiting", "watch", "wheel",
)  # fmt: skip
NEEDED = ("hydra-zen", "numpy", "pytest", "pytest-timeout", "uv", "wandb")
# With the stock launcher and the OmegaConf that go with it.
CANDIDATE = ("hydra-core>=1.4.0rc3", "hydra-submitit-launcher>=1.4.0rc3", "omegaconf>=2.4.1rc1")


@pytest.mark.parametrize("hydra", [("hydra-core==1.3.2",), CANDIDATE], ids=" ".join)
def test_library(hydra: tuple[str, ...], tmp_path: Path) -> None:
    overrides = tmp_path / "overrides.txt"
    overrides.write_text("\n".join(each for each in hydra if each.startswith("hydra")))
    wanted: tuple[str | Path, ...] = (
        "--override",
        overrides,
        "--editable",
        TEMPLATE,
        *hydra,
        *NEEDED,
    )
    python = virtual_environment(tmp_path / "venv", *wanted)
    done = run(
        python, "-m", "pytest", "-q", "-p", "no:cacheprovider", f"--basetemp={tmp_path}/tests", "tests/library",
        *(f"--ignore=tests/library/test_{name}.py" for name in OTHERS),
        cwd=TEMPLATE, PYTHONPYCACHEPREFIX=f"{tmp_path}/pycache",
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
