"""Which sweep is meant, and which run of it."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import Any, NoReturn

import typer

from .. import _records as records
from .. import _squeue as squeue
from .._files import foreign_owner
from .._metrics import newest_step, strict
from . import completion

SWEEP = typer.Argument(
    metavar="SWEEP",
    help="Its directory, or a part of it that is unique; by default your newest sweep.",
    show_default=False,
    autocompletion=completion.sweeps,
)
JSON = typer.Option("--json", help="Print JSON.")
YES = typer.Option("--yes", "-y", help="Do it without asking.")
RUN = typer.Argument(
    metavar="[SWEEP] RUN",
    help="The number of a run, after its sweep if that is not your newest.",
    autocompletion=completion.sweep_and_run,
)
RUNS = typer.Option(
    "--run", metavar="N", help="Only this run; several: --run 3 --run 5.",
    autocompletion=completion.runs,
)  # fmt: skip


def fail(message: str, code: int = 2) -> NoReturn:
    """End the command with ``message``; 2 is for what cannot be done as it was typed."""
    print(message, file=sys.stderr)
    raise typer.Exit(code)


def named(text: str | None) -> Path:
    """The directory of the sweep that ``text`` names: itself, or a unique part of that of a sweep of the
    user's. Without a name, the newest one. A run alone is found by its directory.

    Raises:
        typer.Exit: none is, or several are.
    """
    if text is None:
        return records.newest_sweep() or fail(
            "You have no sweep yet; hpc ls DIR finds those below DIR."
        )
    directory = Path(text).absolute()
    if directory.is_dir() and _has_runs(directory):
        return directory
    parts = Path(text).parts
    sweeps = [each for each in records.known_sweeps() if text in str(each)]
    found = [each for each in sweeps if each.parts[-len(parts) :] == parts] or sweeps
    if len(found) == 1:
        return found[0]
    if not found:
        fail(f"{text}: no sweep has that in the name of its directory. `hpc ls` lists yours.")
    more = f"\n    and {len(found) - 10} more" if len(found) > 10 else ""
    candidates = "".join(f"\n    {each}" for each in found[:10])
    fail(f"{text} may be each of{candidates}{more}")


def all_named(texts: Sequence[str] | None) -> list[Path]:
    """The directories of the sweeps that ``texts`` name, each once; without any the newest one's."""
    return [*dict.fromkeys(map(named, texts))] if texts else [named(None)]


def looked_at(sweeps: Iterable[Path]) -> Iterator[tuple[Path, list[dict[str, Any]]]]:
    """Each of these with what is known of its runs; of one that cannot be looked at, why. Slurm is asked once."""
    jobs = cache(squeue.jobs)
    for sweep in sweeps:
        try:
            runs = records.states(sweep, jobs)
        except (records.DamagedRecord, OSError) as error:
            print(error, file=sys.stderr)
        else:
            yield sweep, runs


def run_named(words: Sequence[str]) -> tuple[Path, dict[str, Any]]:
    """The sweep and what is known of the run that ``words`` name: ``[SWEEP] RUN``, or the run's directory.

    Raises:
        typer.Exit: there is none.
    """
    if len(words) > 2:
        fail("Name one sweep, and one run of it.")
    name, number = (words[0] if len(words) == 2 else None), words[-1]
    if name is None and not number.isdecimal():
        run = Path(number).absolute()
        if not (run / records.RUN).exists():
            fail(f"{number} is neither the number of a run nor its directory: {number} 0, perhaps?")
        directory = next(filter(records.is_sweep, run.parents), run)
        # Where runs have other names a link leads to each, by its number.
        numbers = (each for each in directory.iterdir() if each.name.isdecimal())
        number = next((each.name for each in numbers if each.samefile(run)), "")
        if not number:  # it is alone
            directory, number = run, run.name
    else:
        directory = named(name)
    return directory, run_of(directory, number)


def run_of(directory: Path, number: str) -> dict[str, Any]:
    """What is known of run ``number`` of the sweep in ``directory``.

    Raises:
        typer.Exit: there is no such run.
    """
    runs = records.states(directory, only=number)
    for run in runs:
        if str(run["number"]) == number:
            return run
    numbers = [run["number"] for run in records.read(directory / records.SWEEP).get("runs", runs)]
    if not numbers:
        fail(f"{directory} has no run {number}: nothing of it was submitted.")
    known = f"0 to {len(numbers) - 1}" if len(numbers) > 1 else ", ".join(map(str, numbers))
    fail(f"{directory} has no run {number}, but {known}.")


def told(directory: Path, run: dict[str, Any]) -> dict[str, Any]:
    """What programs, and `hpc show`, are told of a ``run``."""
    return {
        **run,
        "step": newest_step(records.folder_of(directory, run["number"])),
        "elapsed_s": records.running_s(run),
        "log": run.get("log") and str(directory / run["log"]),
    }


def refuse_foreign(directory: Path) -> None:
    """End the command if ``directory`` is somebody else's."""
    if owner := foreign_owner(directory.stat()):
        fail(f"{directory} belongs to {owner}, who alone can add to it.", 1)


def listed(numbers: Sequence[int]) -> str:
    """Runs in a sentence."""
    if len(numbers) > 10:
        return f"{len(numbers)} runs"
    return f"run{'s' * (len(numbers) > 1)} {', '.join(map(str, numbers))}"


def as_json(data: Any) -> None:
    """Print ``data`` for programs."""
    # JSON has no NaN: it is text here, as in `metrics.jsonl`.
    data = records.mapped(data, lambda each: strict(each) if isinstance(each, float) else each)
    print(json.dumps(data, indent=1, default=str))


def agreed(question: str, yes: bool) -> None:
    """Go on only if the user answers ``question`` with yes, or has said so before.

    Raises:
        typer.Exit: not so, or nobody is there to answer.
    """
    if yes:
        return
    if not (sys.stdin and sys.stdin.isatty() and sys.stdout.isatty()):  # `hpc cancel <&-`
        fail(f"{question} Nothing is done without --yes.")
    try:
        if not typer.confirm(question):
            raise typer.Exit(1)
    except typer.Abort:
        raise typer.Exit(130) from None


def _has_runs(directory: Path) -> bool:
    own = (directory / records.SWEEP, directory / records.RUN)
    return any(map(Path.exists, own)) or any(directory.glob(f"[0-9]*/{records.RUN}"))
