"""Those of the library's tests in which Hydra has a part pass with every Hydra that it promises: here the oldest one
and the newest candidate; the newest release is that of the tests' own environment."""

import sysconfig
from pathlib import Path

import pytest
from running import TEMPLATE, run, virtual_environment

WHAT = (
    "command", "composing", "hydra_names", "job_script", "launcher", "overrides", "records", "running", "site",
    "yaml_app",
)  # fmt: skip
# What starts many processes and shows nothing more of a Hydra: test_running.py compares a run's names and directories
# with those of that Hydra's own, and test_yaml_app.py has sweeps that fail, are repeated and not waited for.
COVERED = (
    "test_launcher.py::TestIntegration",
    "test_command.py::test_the_command_again_does_what_is_left",
    "test_command.py::test_a_run_that_is_requeued_then_stopped_ends_with_the_same_result",
    "test_command.py::test_no_run_goes_on_beside_the_one_that_takes_its_place",
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
        python, "-m", "pytest", "-q", "-p", "no:cacheprovider", f"--basetemp={tmp_path}/tests",
        *(f"tests/library/test_{name}.py" for name in WHAT),
        *(f"--deselect=tests/library/{name}" for name in COVERED),
        cwd=TEMPLATE,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
