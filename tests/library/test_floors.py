"""The library's floors: what lies lower can be understood, used and tested without what lies above."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import hpc_hydra

LIBRARY = Path(hpc_hydra.__file__).parent
FLOORS = [
    {"_commands"},
    {"_files", "_squeue", "_ranks", "_paths", "_attempt", "_resources"},
    {"_signals", "_metrics"},
    {"checkpoints"},
    {"pytorch"},
    {"_records", "_advice"},
    {"_results"},
    {"_plot", "_report"},
    {"_overrides", "_source"},
    {"_hydra"},
    {"_tracking"},
    {"_recording"},
    {"_table"},
    {"_job"},
    {"_launch"},
    {"_site"},
    {"_command"},
    {"__init__", "__main__", "hydra_plugins"},
]
HEIGHT = {name: height for height, floor in enumerate(FLOORS) for name in floor}
FILES = sorted([*LIBRARY.rglob("*.py"), *(LIBRARY.parent / "hydra_plugins").rglob("*.py")])


def name_of(file: Path) -> str:
    """The dotted name of a module."""
    parts = list(file.relative_to(LIBRARY.parent).with_suffix("").parts)
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def floor_of(module: str) -> str:
    """``hpc_hydra._job.worker`` is on that of ``_job``."""
    top, _, below = module.partition(".")
    return below.partition(".")[0] or "__init__" if top == "hpc_hydra" else top


def imported(file: Path) -> Iterator[str]:
    """The names of modules that a file imports anywhere, in functions too, and of what it takes from them."""
    package = name_of(file) if file.name == "__init__.py" else name_of(file).rpartition(".")[0]
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = package.split(".")[: len(package.split(".")) + 1 - node.level]
            base = ".".join(
                [*(above if node.level else []), *([node.module] if node.module else [])]
            )
            modules = [f"{base}.{alias.name}" for alias in node.names]
            # Of a module of ours the folder or the file, of others the name too.
            yield from (each if base == "hpc_hydra" or floor_of(base) not in HEIGHT else base
                        for each in modules)  # fmt: skip


def test_each_module_has_its_floor() -> None:
    assert {floor_of(name_of(file)) for file in FILES} == set(HEIGHT)


@pytest.mark.parametrize("file", FILES, ids=name_of)
def test_imports_run_downwards(file: Path) -> None:
    own = floor_of(name_of(file))
    used = {floor_of(name) for name in imported(file) if name.partition(".")[0] == "hpc_hydra"}
    # Within a folder its modules import one another.
    inside = {own} if own.startswith("_") and file.parent != LIBRARY else set()
    wrong = {name for name in used - inside if HEIGHT[name] >= HEIGHT[own]}
    assert not wrong


def test_what_a_task_uses_needs_no_hydra() -> None:
    """In a notebook, in a program without Hydra, and to read records in no time."""
    for file in FILES:
        if HEIGHT[floor_of(name_of(file))] < HEIGHT["_overrides"]:
            known = {name.partition(".")[0] for name in imported(file)}
            assert not known & {"hydra", "hydra_plugins", "omegaconf", "submitit"}, file
    program = """
import sys, hpc_hydra
heavy = {"cloudpickle", "hydra", "hydra_zen", "matplotlib", "numpy", "omegaconf", "pandas", "rich", "submitit", "torch", "wandb"}
print(heavy & {*sys.modules})
"""
    assert subprocess.check_output([sys.executable, "-c", program], text=True) == "set()\n"


def test_each_public_name_is_there() -> None:
    """Also those that are imported when they are asked for; and on its page, which nothing else keeps up to date."""
    page = (LIBRARY.parents[1] / "docs" / "python.md").read_text()
    for name in hpc_hydra.__all__:
        assert getattr(hpc_hydra, name) is not None
        assert f"`{name}" in page
    with pytest.raises(AttributeError, match="no attribute nonsense"):
        _ = hpc_hydra.nonsense


def test_what_is_hydras_own_stands_in_one_file() -> None:
    """So that a new version of Hydra is a matter of one file."""
    for file in FILES:
        if file.name == "_hydra.py":
            continue
        names = list(imported(file))
        assert not [name for name in names if name.startswith("hydra._internal")], file
        private = [name for name in names if name.startswith("hydra.") and "._" in name]
        assert not private, file
        hydras = {
            name.rpartition(".")[2] for name in names if name.startswith(("hydra.", "hydra_pl"))
        }
        for node in ast.walk(ast.parse(file.read_text())):
            for target in node.targets if isinstance(node, ast.Assign) else []:
                if isinstance(target, ast.Attribute) and isinstance(target.value, ast.Name):
                    assert target.value.id not in hydras, f"{file}, line {target.lineno}"
