"""`hpc rerun`."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from .. import _records as records
from .recorded import Command, place_of_app, submission_of
from .sweeps import RUN, fail, refuse_foreign, run_named

# What of Hydra's own a run depends on, not only its sweep.
OF_THE_CONFIG = ("hydra.job.", "hydra.searchpath=")


def rerun(
    words: Annotated[list[str], RUN],
    here: Annotated[
        bool, typer.Option("--here", help="Execute it, instead of printing it.")
    ] = False,
) -> None:
    """One run on this machine, with its source.

    That is the copy of the code that it had when it was submitted. It goes to a new directory, so the sweep stays as it is.

    \b
    hpc rerun 3                  prints it: to be changed, or for a debugger
    hpc rerun fig1 3 --here      executes it
    """
    from .._overrides import directory_override

    directory, run = run_named(words)
    if here:
        refuse_foreign(directory)
    submission = submission_of(directory, run)
    if not submission:
        fail(f"run {run['number']} was not submitted by a command that is recorded.")
    command = Command.of(directory, submission)
    _with_source(command, directory, submission)
    app = place_of_app(command.words) + 1
    swept = {*submission.get("overrides", []), "-m", "--multirun"}
    kept = [
        word for word in command.words[app:]
        if word not in swept and (not records.hydras_own(word) or word.startswith(OF_THE_CONFIG))
    ]  # fmt: skip
    own = [each for each in run["overrides"] if not records.hydras_own(each)]
    folders = records.candidates(directory / "rerun" / str(run["number"]))
    free = next(folder for folder in folders if not folder.exists())
    command.words = [*command.words[:app], *kept]
    command.add(*own, "hydra.mode=RUN", directory_override("hydra.run.dir", free))
    print(command.shell(), flush=True)
    if here:
        command.execute()


def _with_source(command: Command, directory: Path, submission: dict[str, Any]) -> None:
    """Let it find the copy of the source, which looks like the repository."""
    source = submission.get("source")
    if not source or not (directory / source).is_dir():
        commit = submission.get("git_commit")
        known = f"; it was commit {commit}" if commit else ""
        print(f"There is no copy of the source, so it is that of now{known}.", file=sys.stderr)
        return
    copy, top = directory / source, Path(submission["source_of"])
    paths = (os.path.normpath(copy / root) for root in submission["source_roots"])
    command.variables["PYTHONPATH"] = os.pathsep.join(paths)
    app = place_of_app(command.words)
    script = Path(os.path.normpath(command.cwd / command.words[app]))
    if script.is_relative_to(top) and script.is_file():
        command.words[app] = str(copy / script.relative_to(top))
    if command.cwd.is_relative_to(top):
        command.cwd = copy / command.cwd.relative_to(top)
