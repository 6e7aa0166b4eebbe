"""The library's tests pass with every Hydra that it promises: here the oldest one and the newest candidate; the newest
release is that of the tests' own environment. In `make test` those in which Hydra has a part, in `make faults` all."""

from pathlib import Path

import pytest
from faults import ALL
from running import TEMPLATE, run, see_packages, virtual_environment

# Of a sweep one that fails, one without anything of the template, one whose logging the app chose, and of Hydra's own
# tests those whose sweeps differ most: what others show besides is the same with any Hydra.
OF_HYDRA = (
    "apps/test_command.py::test_help_starts_without_heavy_libraries",
    "apps/test_command.py::test_no_place_for_outputs",
    "apps/test_command.py::test_one_run_of_a_sweep_fails_and_the_others_do_not",
    "apps/test_launcher.py::TestLauncher::test_sweep_2_jobs",
    "apps/test_launcher.py::TestLauncher::test_sweep_2_optimizers",
    "apps/test_launcher.py::TestLauncher::test_sweep_with_custom_resolver",
    "apps/test_yaml_app.py::test_it_gets_records_the_table_and_an_honest_exit_code",
    "apps/test_yaml_app.py::test_logging_that_starts_a_thread_has_it_in_each_run",
    "library/test_composing.py",
    "library/test_hydra_names.py",
    "library/test_job_script.py",
    "library/test_overrides.py",
    "library/test_records.py",
    "library/test_running.py",
    "library/test_site.py",
)
WHAT = [f"tests/{each}" for each in (("apps", "library") if ALL else OF_HYDRA)]
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
