"""The library's tests pass with every Hydra that it promises: here the oldest one and the newest candidate;
the newest release is that of the tests' own environment."""

import sysconfig
from pathlib import Path

import pytest
from running import TEMPLATE, run, virtual_environment

# What Hydra has no part in.
OTHERS = (
    "attempts", "checkpoints", "files", "floors", "hpc_act", "hpc_clean", "hpc_sync", "hpc_watch", "metrics", "plot",
    "ranks", "report", "results", "signals", "source", "submission", "tracking", "waiting", "watch", "wheel",
)  # fmt: skip
# What starts many processes and shows nothing more of a Hydra: test_running.py compares a run's names and directories
# with those of that Hydra's own, and test_yaml_app.py has sweeps that fail, are repeated and not waited for.
COVERED = (
    "test_launcher.py::TestIntegration",
    "test_command.py::test_the_command_again_does_what_is_left",
    "test_command.py::test_a_run_that_is_requeued_then_stopped_ends_with_the_same_result",
    "test_command.py::test_who_reads_its_output_does_not_wait_for_the_runs",
    "test_command.py::test_runs_of_a_process_draw_numbers_of_their_own",
)
# With the stock launcher and the OmegaConf that go with it.
CANDIDATE = ("hydra-core>=1.4.0rc3", "hydra-submitit-launcher>=1.4.0rc3", "omegaconf>=2.4.1rc1")


@pytest.mark.parametrize("hydra", [("hydra-core==1.3.2",), CANDIDATE], ids=" ".join)
def test_library(hydra: tuple[str, ...], tmp_path: Path) -> None:
    """In an environment that has this Hydra before all that the tests' own one has."""
    python = virtual_environment(tmp_path / "venv", *hydra)
    (packages,) = tmp_path.glob("venv/lib/*/site-packages")
    others = f"import site; site.addsitedir({sysconfig.get_path('purelib')!r})\n"
    (packages / "others.pth").write_text(others)
    done = run(
        python, "-m", "pytest", "-q", "-p", "no:cacheprovider", f"--basetemp={tmp_path}/tests", "tests/library",
        *(f"--ignore=tests/library/test_{name}.py" for name in OTHERS),
        *(f"--deselect=tests/library/{name}" for name in COVERED),
        cwd=TEMPLATE, PYTHONPYCACHEPREFIX=f"{tmp_path}/pycache",
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
