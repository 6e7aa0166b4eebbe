"""What `pip install` gets."""

import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).parents[2]


def test_a_wheel_has_the_library_and_its_plugin_and_nothing_else(tmp_path: Path) -> None:
    uv = shutil.which("uv", path=str(Path(sys.executable).parent)) or shutil.which("uv")
    if uv is None:
        pytest.skip("needs uv")
    # Of a copy: what builds it may leave files behind.
    source = tmp_path / "source"
    source.mkdir()
    for name in (
        "pyproject.toml",
        "README.md",
        "LICENSE",
        "CHANGELOG.md",
        "{{cookiecutter.project_slug}}",
    ):
        (source / name).symlink_to(CHECKOUT / name)
    shutil.copytree(CHECKOUT / "src", source / "src", ignore=shutil.ignore_patterns("__pycache__"))
    build = [uv, "build", "--quiet", "--wheel", "--python", sys.executable, "--out-dir", "."]
    ended = subprocess.run([*build, source], cwd=tmp_path, capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr
    (wheel,) = tmp_path.glob("hpc_hydra-*-py3-none-any.whl")
    names = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
    there = (path for path in (source / "src").rglob("*") if path.is_file())
    assert names == {str(path.relative_to(source / "src")) for path in there}
    assert {"hpc_hydra/py.typed", "hydra_plugins/hpc_hydra/__init__.py"} < names
    # Others have plugins there too.
    assert "hydra_plugins/__init__.py" not in names
