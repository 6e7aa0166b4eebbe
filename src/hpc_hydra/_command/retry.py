"""`hpc retry`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from .. import _records as records
from . import completion
from .recorded import Command
from .sweeps import RUNS, YES, agreed, fail, listed, named, refuse_foreign, run_of


def retry(
    words: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="SWEEP|NAME=VALUE",
            help="The sweep, and overrides to change: a parameter that all runs have alike, or hydra.*.",
            autocompletion=completion.sweeps,
        ),
    ] = None,
    run: Annotated[list[int] | None, RUNS] = None,
    redo: Annotated[
        bool, typer.Option("--redo", help="Complete runs too, and all of them from the start.")
    ] = False,
    yes: Annotated[bool, YES] = False,
) -> None:
    """Submit what did not complete once more.

    It is the recorded command, in its folder, and shown first. Runs go on from their checkpoints, with the
    code as it is now.

    \b
    hpc retry                           what is left of your newest sweep
    hpc retry fig1 hydra.launcher.timeout_min=600
    hpc retry fig1 --run 3 --redo       run 3 from the start; what it left is kept in .../earlier
    hpc retry fig1 epochs=20            more of the same: all runs go on, complete ones too
    """
    from .._overrides import directory_override

    words = words or []
    named_first = bool(words) and ("=" not in words[0] or Path(words[0]).is_dir())
    directory = named(words[0] if named_first else None)
    overrides = words[named_first:]
    if wrong := [word for word in overrides if "=" not in word]:
        fail(f"{wrong[0]}: neither the sweep, which comes first, nor an override, NAME=VALUE.")
    refuse_foreign(directory)
    last = records.last_submission(directory)
    command = Command.of(directory, last)
    changed = [records.key_of(each) for each in overrides if not records.hydras_own(each)]
    if changed and run:
        fail("Other values are for all runs of a sweep: leave out --run, or make a new sweep.")
    for number in run or []:
        run_of(directory, str(number))
    states = records.states(directory)
    runs = [each for each in states if not run or each["number"] in run]
    # A run that is over waits for the others of its job before it is submitted again.
    busy = {each["job_id"] for each in states if each["state"] in records.UNDER_WAY}
    under_way = [each["number"] for each in runs if each["job_id"] in busy]
    todo = [
        each["number"] for each in runs
        if each["number"] not in under_way
        and (redo or changed or each["state"] != "COMPLETED"
             or not (directory / str(each["number"])).exists())
    ]  # fmt: skip
    if changed and under_way:
        fail(
            f"Still running with the old values: {listed(under_way)}. Wait for them, or hpc cancel.",
            1,
        )
    print(f"{directory}: {records.counts(runs)}")
    total = 0 if run else last.get("total", 0)  # None: the sweeper decides by the results
    never = (total or 0) - len(states)
    if never > 0:
        print(f"{never} more, of later batches, were never submitted")
    if not todo and never <= 0 and total is not None:
        jobs = f"the jobs of {listed(under_way)} are under way" if under_way else ""
        print(f"Nothing to do: {jobs or 'all are complete. From the start again: --redo'}.")
        return
    command.add(*overrides)
    command.add(directory_override("hydra.sweep.dir", directory))
    if run:
        command.add(f"hydra.launcher.only_runs=[{','.join(map(str, run))}]")
    if redo:
        command.add("hydra.launcher.redo=true")
    if changed:
        command.add(f"hydra.launcher.may_change=[{','.join(changed)}]")
    each = "each " if len(todo) > 1 else ""
    how = f"from the start; what it has left moves to {directory}/earlier" if redo else (
        "with the new values, from its last checkpoint" if changed else "from its last checkpoint"
    )  # fmt: skip
    rest = "what its sweeper still asks for" if total is None else "those"
    what = f"{listed(todo)}, {each}{how}" if todo else rest
    print(f"Will submit {what}, with\n    {command.shell()}", flush=True)
    agreed("Go on?", yes)
    command.execute()
