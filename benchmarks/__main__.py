"""What the launcher costs, beside what else there is: all measured in one run, on a throwaway cluster.

    make bench                          # everything
    make bench BENCH='submit help'      # some of it

Prints a table in Markdown, and leaves it in $CACHE/bench.md; nothing else is left. It needs root and
Slurm's packages, as the tests on Slurm do.
"""

from __future__ import annotations

import argparse
import os
import platform
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import date
from pathlib import Path

import by_hand
import help
import load
import packing
import submit
import waiting
from cluster import Cluster, missing
from measuring import Failed, Place, Row, tell
from running import TEMPLATE, TOOLS, Project, cookiecutter, run

PARTS: dict[str, Callable[[Place], list[Row]]] = {
    "submit": submit.measure,
    "packing": packing.measure,
    "help": help.measure,
    "waiting": waiting.measure,
    "by_hand": by_hand.measure,
    "load": load.measure,
}
HYDRA = "hydra-core>=1.3.2,<1.4"  # as the repository's
PARSL = "parsl>=2026.10.26"
PACKAGES = ("hydra-core", "submitit", "hydra-submitit-launcher", "parsl")
HEAD = Row("what", "ours", "stock", "others", "ratio", "goal")
CACHE = Path(os.environ.get("CACHE") or Path.home() / ".cache" / "hpc-hydra-template")


@contextmanager
def place() -> Iterator[Place]:
    """An installed repository and a cluster; nothing is left of either."""
    with tempfile.TemporaryDirectory(prefix="bench-") as name, Cluster() as cluster:
        folder = Path(name).resolve()
        tell("generate a repository and install it")
        ended = cookiecutter("--no-input", TEMPLATE, "create_venv=no", cwd=folder)
        if ended.returncode:
            raise Failed(ended.stderr)
        path = folder / "hpc-experiment"
        _install(path / ".venv", "--editable", str(path), PARSL)
        _install(folder / "bare", HYDRA)
        project = Project(path, cluster.environment)
        yield Place(folder, project, folder / "bare" / "bin" / "python")


def _install(environment: Path, *packages: str) -> None:
    uv = TOOLS / "uv"
    python = str(environment / "bin" / "python")
    for command in (
        ("venv", "--python", sys.executable, str(environment)),
        ("pip", "install", "--compile-bytecode", "--python", python, *packages),
    ):
        ended = run(uv, "--quiet", *command, cwd=environment.parent)
        if ended.returncode:
            raise Failed(ended.stderr)


def circumstances(place: Place) -> str:
    """When, on what machine and with which versions."""
    code = (
        "from importlib.metadata import version\n"
        f"print(', '.join(f'{{name}} {{version(name)}}' for name in {PACKAGES}))"
    )
    versions = place.answer(place.python, "-c", code).strip()
    slurm = place.answer("sbatch", "--version").strip()
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9
    cores = len(os.sched_getaffinity(0))
    return (
        f"{date.today()}, {cores} cores, {memory:.0f} GB, load {os.getloadavg()[0]:.1f} before; "
        f"Python {platform.python_version()}, {slurm}, {versions}.\n"
    )


def bench(parts: list[str]) -> bool:
    """Print the table and keep it; return whether everything could be measured."""
    began = time.monotonic()
    complete = True
    with place() as here:
        lines = [circumstances(here), str(HEAD), "|---" * len(vars(HEAD)) + "|"]
        for part in parts:
            try:
                lines += map(str, PARTS[part](here))
            except Failed as failure:
                tell(f"{part}: {failure}")
                complete = False
                here.cancel_all()
    file = CACHE / "bench.md"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("\n".join([*lines, ""]))
    tell(f"{(time.monotonic() - began) / 60:.0f} min; the table is in {file}")
    print(file.read_text(), end="")
    return complete


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="benchmarks", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "parts", nargs="*", default="all", choices=[*PARTS, "all"], help="what to measure"
    )
    chosen = parser.parse_args().parts
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # cleans up as Ctrl-C does
    if absent := missing():
        sys.exit(
            f"bench: not installed: {' '.join(absent)}; python3 tests/slurm/cluster.py install"
        )
    try:
        complete = bench([part for part in PARTS if part in chosen or "all" in chosen])
    except (OSError, RuntimeError, Failed) as error:
        sys.exit(f"bench: {error}")
    except KeyboardInterrupt:
        sys.exit(130)
    sys.exit(not complete)


if __name__ == "__main__":
    main()
