"""The library's tests pass with every Hydra that it promises: here the oldest one and the newest candidate; the newest
release is that of the tests' own environment. In `make test` those in which Hydra has a part, in `make faults` all."""

from pathlib import Path

import pytest
from faults import ALL
from running import TEMPLATE, run, see_packages, virtual_environment

# Of a sweep one that fails, one without anything of the template, one whose logging the app chose, and of Hydra's own
# tests those whose sweeps differ most: what others show besides is the same with any Hydra.
OF_HYDRA = {
    "apps": (
        "command.py::test_help_starts_without_heavy_libraries",
        "command.py::test_no_place_for_outputs",
        "command.py::test_one_run_of_a_sweep_fails_and_the_others_do_not",
        "launcher.py::TestLauncher::test_sweep_2_jobs",
        "launcher.py::TestLauncher::test_sweep_2_optimizers",
        "launcher.py::TestLauncher::test_sweep_with_custom_resolver",
        "yaml_app.py::test_it_gets_records_the_table_and_an_honest_exit_code",
        "yaml_app.py::test_logging_that_starts_a_thread_has_it_in_each_run",
    ),
    "library": (
        "composing.py", "hydra_names.py", "job_script.py", "overrides.py", "records.py", "running.py", "site.py",
    ),
}  # fmt: skip
WHAT = [
    *(f"tests/{folder}" for folder in OF_HYDRA if ALL),
    *(f"tests/{folder}/test_{each}" for folder in OF_HYDRA if not ALL for each in OF_HYDRA[folder]),
]
# With the stock launcher and the OmegaConf that go with it.
CANDIDATE = ("hydra-core>=1.4.0rc3", "hydra-submitit-launcher>=1.4.0rc3", "omegaconf>=2.4.1rc1")


@pytest.mark.timeout(1800)  # all of them, beside what else goes on
@pytest.mark.parametrize("hydra", [("hydra-core==1.3.2",), CANDIDATE], ids=" ".join)
def test_library(hydra: tuple[str, ...], tmp_path: Path) -> None:
    """In an environment that has this Hydra before all that the tests' own one has."""
    python = virtual_environment(tmp_path / "venv", *hydra)
    see_packages(tmp_path / "venv")
    done = run(
        python, "-m", "pytest", "-q", "-p", "no:cacheprovider", f"--basetemp={tmp_path}/tests",
        *WHAT,
        cwd=TEMPLATE,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
