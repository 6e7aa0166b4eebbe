"""Records: what became of every run, in files that people and programs can read without Slurm.

`run.json` in each run's directory, `sweep.json` in the sweep's. Both are written atomically, and name
the version of their format and of the library that wrote them. While a sweep is being submitted, its
`submitted.jsonl` has what Slurm took since `sweep.json` was written, a line for each job array: so the
work is linear in the runs, however many arrays they are.
"""

from __future__ import annotations

import getpass
import json
import logging
import os
import re
import socket
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from datetime import datetime
from functools import cache
from itertools import count, takewhile
from pathlib import Path
from typing import Any

from . import _metrics as metrics
from . import _squeue as squeue
from ._commands import local_jobs
from ._files import atomically, foreign_owner, write_atomically

RUN, SWEEP, SUBMITTED = "run.json", "sweep.json", "submitted.jsonl"
RUNS = ' "runs": ['  # the line in `sweep.json` with which they begin, after all else
FORMAT = 1
SOURCE = re.compile(r"source(_\d+)?")  # as `claim` names copies of it
LONGEST = 400  # characters of somebody's text in a table
# Of an error or a log: a ruled line, or a hint at --help.
SAYS_NOTHING = re.compile(r"[\W_]*$|Try .*help")
CANCELLED = "CANCELLED by hpc cancel"
ENDED = ("CANCELLED", "COMPLETED", "FAILED", "OUT_OF_MEMORY", "TIMEOUT")
# What Slurm adds to that; one that is STOPPED is to go on.
ENDED_EARLY = ("CANCELLED", "FAILED", "LOST", "OUT_OF_MEMORY", "STOPPED", "TIMEOUT")
UNDER_WAY = ("PENDING", "REQUEUED", "RUNNING", "SUSPENDED")

log = logging.getLogger(__name__)

#: In a job: which submission its runs belong to, and which code they run.
origin: dict[str, Any] | None = None


def now() -> str:
    """Local time with its offset, to the second."""
    return datetime.now().astimezone().isoformat(timespec="seconds")


def claim(directory: Path) -> Path:
    """Make ``directory``; if it exists, ``directory_2`` or the next free one, so that two sweeps of the
    same second share none.

    If its parent is a colleague's who lets nobody else in, such as that of a day in a folder which a lab
    shares, it is made in one beside that, with the user's name: ``2026-01-31_ada``.

    Raises:
        OSError: it cannot be made.
    """
    parent = directory.parent
    try:
        parent.mkdir(parents=True, exist_ok=True)
        for candidate in candidates(directory):
            with suppress(FileExistsError):
                candidate.mkdir()
                return candidate
    except PermissionError:
        if not (parent.exists() and foreign_owner(parent.stat())):
            raise
    return claim(parent.with_name(f"{parent.name}_{getpass.getuser()}") / directory.name)


def candidates(path: Path) -> Iterator[Path]:
    """``path``, ``path_2``, ``path_3`` and so on."""
    yield path
    yield from (path.with_name(f"{path.name}_{number}") for number in count(2))


class DamagedRecord(ValueError):
    """The record of a sweep cannot be read; the message names the file."""


# What whoever reads the record of a sweep counts on.
OF_SWEEP = {"cluster", "start", "overrides", "submissions", "runs"}


def read(path: Path) -> dict[str, Any]:
    """The record at ``path``; empty if there is none, or if it is a run's and the machine died when it was made.

    Raises:
        DamagedRecord: it is a sweep's, and is damaged, or of another format. A run's is taken for none then.
    """
    of_sweep = path.name == SWEEP
    try:
        text = path.read_text(encoding="utf-8", errors="replace").strip("\0")
        record = json.loads(text) if text or of_sweep else {}
        if not isinstance(record, dict):
            raise ValueError(f"no record, but {text[:20]}")
        if record.get("format", FORMAT) == FORMAT:
            if of_sweep and (missing := OF_SWEEP - record.keys()):
                raise ValueError(f"it has no {missing.pop()}")
            return record
        known = f"whose format hpc-hydra {library_version()} does not know"
        why, remedy = f"of hpc-hydra {record.get('library')}, {known}", "Install that one."
    except FileNotFoundError:
        return {}
    except ValueError as error:
        why, remedy = f"damaged: {error}", "Put a copy back, or move it away."
    if of_sweep:
        raise DamagedRecord(f"{path} is {why}. {remedy}")
    _warn(f"{path} is {why}; it is taken for none")
    return {}


@cache
def _warn(text: str) -> None:
    log.warning(text)


def write(path: Path, record: Mapping[str, Any], durable: bool = True) -> None:
    """Write ``record``: numpy's and torch's scalars as numbers, what else JSON does not know as its text."""
    write_atomically(path, _text(record) + "\n", durable)


def _text(record: Mapping[str, Any]) -> str:
    header = {"format": FORMAT, "library": library_version()}
    return json.dumps({**record, **header}, indent=1, default=_plain)


@cache
def library_version() -> str:
    """That of the installed hpc-hydra."""
    from importlib.metadata import version  # slow, and of no use to --help

    return version("hpc-hydra")


def of_json(value: Any) -> Any:
    """``value`` with texts as keys; its type where JSON cannot hold it at all."""
    try:
        plain = mapped(value, lambda each: each, lambda key: str(_plain(key)))
        json.dumps(plain, default=_plain)
    except Exception:  # it contains itself; it has more digits than Python prints
        return f"a {type(value).__name__}"
    return plain


def mapped(
    data: Any, leaf: Callable[[Any], Any], key: Callable[[Any], Any] = lambda each: each
) -> Any:
    """``data`` with what ``leaf`` makes of each value in its mappings and lists, and ``key`` of each key."""
    if isinstance(data, Mapping):
        return {key(name): mapped(each, leaf, key) for name, each in data.items()}
    if isinstance(data, (list, tuple)):
        return [mapped(each, leaf, key) for each in data]
    return leaf(data)


def _plain(value: Any) -> Any:
    number = metrics.plain(value)
    return str(value) if number is value else number


def record_sweep(
    directory: Path,
    cluster: str,
    overrides: Sequence[str],
    runs: Iterable[Mapping[str, Any]],
    submission: Mapping[str, Any] | None = None,
    sweep: dict[str, Any] | None = None,
) -> None:
    """Put ``runs`` (number, overrides, job_id, log, ranks, submission) into the `sweep.json` of
    ``directory``, and the ``submission`` that some of them belong to.

    Args:
        cluster: where the jobs are: "slurm" or "local".
        overrides: those of the whole sweep.
        sweep: what `read_sweep` gave to a caller that has kept all others from the directory since; it is
            brought up to date but for ``runs``, which that caller has.
    """
    sweep = read_sweep(directory) if sweep is None else sweep
    if submission or not sweep:
        _remember(directory)
    if not sweep:
        sweep |= {"start": now(), "submissions": [], "runs": []}
    if submission:
        numbered = {each["submission"]: each for each in [*sweep["submissions"], submission]}
        sweep["submissions"] = list(numbered.values())
        sweep["slurm_cluster"] = squeue.cluster() if cluster == "slurm" else None
    rows = _replaced(sweep["runs"], runs)
    sweep["overrides"] = list(overrides)  # some may have changed: a submission keeps its own
    about = {name: value for name, value in sweep.items() if name != "runs"}
    head = _text({**about, "cluster": cluster, "host": socket.gethostname()}).removesuffix("\n}")
    with atomically(directory / SWEEP) as file:
        # A line for each run, and never the text of all of them in memory.
        file.write(f"{head},\n{RUNS}".encode())
        for place, row in enumerate(rows):
            file.write(f"{',' if place else ''}\n  {json.dumps(row)}".encode())
        file.write(b"\n ]\n}\n")
    (directory / SUBMITTED).unlink(missing_ok=True)


def note_jobs(directory: Path, runs: Iterable[Mapping[str, Any]]) -> None:
    """Add the jobs of ``runs`` to what `sweep.json` says, which `record_sweep` writes down there later."""
    with (directory / SUBMITTED).open("a") as file:
        file.write(json.dumps(list(runs)) + "\n")
        file.flush()
        os.fsync(file.fileno())


def read_sweep(directory: Path) -> dict[str, Any]:
    """The `sweep.json` of ``directory``, and what was submitted since it was written; empty if there is none."""
    noted: list[Mapping[str, Any]] = []
    try:
        with suppress(FileNotFoundError):
            for line in (directory / SUBMITTED).read_bytes().splitlines(keepends=True):
                # Of one that was not written to its end the launcher still knows the job, by its script.
                noted += json.loads(line) if line.endswith(b"\n") else []
    except ValueError as error:
        raise DamagedRecord(f"{directory / SUBMITTED} is damaged: {error}. Move it away.") from error  # fmt: skip
    sweep = read(directory / SWEEP)
    if sweep and noted:
        sweep["runs"] = _replaced(sweep["runs"], noted)
    return sweep


def last_submission(directory: Path) -> dict[str, Any]:
    """That of the sweep in ``directory``, whose runs are not read for it; empty if there is none.

    Raises:
        DamagedRecord: as `read` does.
    """
    try:
        with (directory / SWEEP).open(encoding="utf-8") as file:
            head = "".join(takewhile(lambda line: line != f"{RUNS}\n", file))
        record = json.loads(head.removesuffix(",\n") + "}")
    except (OSError, ValueError):  # there is none, or somebody has edited it
        record = read(directory / SWEEP)
    submission: dict[str, Any] = (record.get("submissions") or [{}])[-1]
    return submission


def _replaced(
    rows: Iterable[Mapping[str, Any]], new: Iterable[Mapping[str, Any]]
) -> list[Mapping[str, Any]]:
    """``rows``, of which those of the same number as a ``new`` one are that one, by their numbers."""
    numbered = {row["number"]: row for row in rows}
    numbered.update((row["number"], row) for row in new)
    return [numbered[number] for number in sorted(numbered)]


def index() -> Path:
    """The user's list of sweeps: the directory of each on a line, the newest last."""
    state = os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state"
    return Path(state, "hpc-hydra", "sweeps")


def _remember(directory: Path) -> None:
    if ".." in directory.parts:  # as in `hpc retry ../fig1`; it would be there twice
        directory = directory.resolve()
    if str(directory) in remembered():  # else it is new, or was moved
        return
    with suppress(OSError, RuntimeError):  # a home that is missing or full
        index().parent.mkdir(parents=True, exist_ok=True)
        with index().open("ab") as file:
            file.write(os.fsencode(directory) + b"\n")


def remembered() -> list[str]:
    """The directories of the user's sweeps, the newest first, also those that are gone."""
    with suppress(OSError, RuntimeError):
        return list(dict.fromkeys(map(os.fsdecode, reversed(index().read_bytes().splitlines()))))
    return []


def known_sweeps() -> Iterator[Path]:
    """The user's that are still there, the newest first."""
    return filter(is_sweep, map(Path, remembered()))


def is_sweep(directory: Path) -> bool:
    """Whether there is one; where nobody may look any more, there is none."""
    return os.access(directory / SWEEP, os.F_OK)


def newest_sweep() -> Path | None:
    """The one that the user submitted last, of those that are still there."""
    return next(known_sweeps(), None)


def folder_of(directory: Path, number: int | str) -> Path:
    """That of a run of the sweep in ``directory``; of one alone, the same."""
    folder = directory / str(number)
    return folder if folder.is_dir() or (directory / SWEEP).exists() else directory


def record_end(
    directory: Path, overrides: Sequence[str], job_id: str, reason: str, state: str = "",
    used: Mapping[str, float] | None = None, durable: bool = True, **more: Any,
) -> None:  # fmt: skip
    """Note in `run.json` why a run ended that could not do so itself, in the ``state`` that follows from
    the reason. What is known of its end already stays, but what a signal stopped may have ended since.

    Args:
        used: by its last attempt, of resources.
        durable: even if the machine dies a moment later.
        more: to be recorded with it.
    """
    state = state or state_of(reason)
    record = read(directory / RUN)
    known = record.get("state") if record.get("job_id") == job_id else None
    # Of several ranks one may fail when the first one has completed, or before all stop.
    changes = "failed" in more if known == "COMPLETED" else (known, state) == ("FAILED", "STOPPED")
    if known == state or (known in ENDED and not changes):
        return
    if known == "STOPPED" and state != "FAILED":
        reason = f"{reason}, after {record['error']}"
    end = {"overrides": list(overrides), "job_id": job_id, "state": state, "end": now(), **more}
    end_attempt(record, state, used or {})
    directory.mkdir(parents=True, exist_ok=True)
    ended = {**record, **(origin or {}), **end, "result": None, "error": reason}
    write(directory / RUN, ended, durable)


def rank_that_failed(directory: Path) -> int:
    """The rank whose failure the record of the run in ``directory`` has; 0 if it has none."""
    record = read(directory / RUN)
    number: int = record.get("failed", {}).get("rank", 0) if record.get("state") == "FAILED" else 0
    return number


def end_attempt(record: Mapping[str, Any], state: str, used: Mapping[str, float]) -> None:
    """Note in the ``record`` of a run how its last attempt has ended, if that is not known yet."""
    attempts: list[dict[str, Any]] = record.get("attempts", [])
    if attempts and "end" not in attempts[-1]:
        attempts[-1] |= {"state": state, "end": now(), **used}


def counts(records: Iterable[Mapping[str, Any]]) -> str:
    """How many are in each state: ``2 completed, 1 failed``."""
    numbers = Counter(record["state"].lower() for record in records)
    return ", ".join(f"{number} {state}" for state, number in numbers.items())


def early_end(record: Mapping[str, Any]) -> str:
    """``failed: ValueError: …`` of a run that ended before its time, with the last line of its error; blank of
    any other."""
    if record["state"] not in ENDED_EARLY:
        return ""
    return f"{record['state'].lower()}: {last_line(record.get('error') or '')}"


def last_line(text: str) -> str:
    """The line of an error that names it, or the last one of a log that says something: that of an ExceptionGroup
    is ruled."""
    raised = text.rpartition("Traceback (most recent call last):\n")[2]
    # A message may have lines of its own: the second one has the cause if the first ends with a colon, as Hydra's does of
    # what `instantiate` calls.
    if raised != text and (named := re.search(r"^\S(.*:\n\s*)?.+", raised, re.MULTILINE)):
        return one_line(re.sub(r"\n\s*", " ", named[0]))
    lines = (line.strip(" |") for line in reversed(text.splitlines()))
    return one_line(next((line for line in lines if not SAYS_NOTHING.match(line)), ""))


def one_line(text: str) -> str:
    """As much of ``text`` as a table or a message has room for, its beginning and its end, with nothing in it that a
    terminal obeys."""
    if len(text) > LONGEST:
        text = f"{text[: LONGEST // 2]}…{text[-LONGEST // 2 :]}"
    return "".join(each if each.isprintable() else ascii(each)[1:-1] for each in text)


def running_s(record: Mapping[str, Any]) -> float | None:
    """Seconds that a run ran, without the time between its attempts, until now if it still does; None if
    that is not known."""
    found = []
    attempts = record.get("attempts") or [record]
    for each in attempts:
        goes_on = each is attempts[-1] and record.get("state") in ("RUNNING", "SUSPENDED")
        end = now() if goes_on else each.get("end")
        if "wall_s" in each:
            found.append(float(each["wall_s"]))
        elif end and each.get("start"):
            begun = datetime.fromisoformat(each["start"])
            # The clock of the node may be ahead.
            found.append(max((datetime.fromisoformat(end) - begun).total_seconds(), 0.0))
    return sum(found) if found else None


def has_ended(directory: Path, job_id: str | None) -> bool:
    """Whether the run in ``directory`` is over by its record, which is of this job."""
    record = read(directory / RUN)
    return record.get("state") in ENDED and record.get("job_id") == job_id


def reopen(directory: Path) -> None:
    """Let a run go on that is over, with other overrides; what it came to until now stays in `before`.

    Raises:
        OSError: it cannot be written.
    """
    if record := read(directory / RUN):
        kept = {name: record.get(name) for name in ("overrides", "state", "result", "end")}
        if kept["state"] == "RUNNING":  # nobody was there to note its end
            kept["state"] = "LOST"
        was = {"before": [*record.get("before", []), kept]}
        new = {"state": "STOPPED", "result": None, "error": "goes on with other overrides"}
        # There may be thousands, and each writes its own when it begins.
        write(directory / RUN, {**record, **new, **was}, durable=False)


def cancelled_path(folder: Path, number: int) -> Path:
    """The file in the folder of jobs that says that run ``number``, one of several of its job, is to end."""
    return folder / f"run_{number}_cancelled"


def state_of(end: str) -> str:
    """The state of a run whose job ended like this, in Slurm's words and perhaps some more."""
    word = end.partition(" ")[0].rstrip(":;,")
    return word if word in ("CANCELLED", "OUT_OF_MEMORY", "TIMEOUT") else "FAILED"


def said_at_end(path: Path) -> str:
    """What a job script says of its job, which ended before its runs; blank if it says nothing."""
    try:
        return path.read_text(errors="replace").strip()
    except OSError:
        return ""


def states(
    directory: Path,
    jobs: Callable[[int], Mapping[str, squeue.Job] | None] | None = None,
    only: str | None = None,
) -> list[dict[str, Any]]:
    """What is known of each run of the sweep in ``directory``, or ``only`` of the one with this number.

    Beside the states in `run.json`: NOT SUBMITTED; PENDING, not begun; REQUEUED, begun before and
    waiting to go on; LOST, still to do something by its record, but no longer in Slurm's queue, and
    Slurm does not know that it was cancelled. What waits has `reason` and `expected`, if Slurm says so.

    Args:
        jobs: asks Slurm for a user's jobs, if some runs are not over; by default `squeue.jobs`. Who asks about
            several sweeps has it remember the answers, also that there is none.
    """
    sweep = read_sweep(directory)
    if not sweep:  # of a launcher that writes none, or a single run
        paths = [directory / RUN, *directory.glob(f"[0-9]*/{RUN}")]
        there = [path for path in paths if path.exists()]
        found = [{"number": path.parent.name, "state": "UNKNOWN", **read(path)} for path in there]
        return sorted(found, key=lambda run: (len(str(run["number"])), str(run["number"])))
    runs, going_on, begun = [], [], {entry.name for entry in os.scandir(directory)}
    # Most jobs that go on have said nothing: one look at their folder tells it.
    ended = cache(lambda folder: {path.name for path in folder.glob("*_ended")})
    said = cache(said_at_end)  # several runs may have one job
    for row in sweep["runs"]:
        name = str(row["number"])
        if only not in (None, name):
            continue
        record = read(directory / name / RUN) if name in begun else {}
        if record.get("state") != "COMPLETED" and record.get("job_id") != row["job_id"]:
            record = {}  # of an earlier try
        state = "PENDING" if row["job_id"] else "NOT SUBMITTED"
        run = {"state": state, "log": None, **row, **record}
        runs.append(run)
        if run["state"] in ("PENDING", "RUNNING", "STOPPED"):
            word = (directory / (run["log"] or "none")).with_name(f"{run['job_id']}_ended")
            if word.name in ended(word.parent) and (end := said(word)):
                run |= {"state": state_of(end), "error": end}
            else:
                going_on.append(run)
    as_recorded = "of runs that have not ended this is as of their records"
    if sweep["cluster"] == "local" and going_on:
        if (host := sweep.get("host")) != socket.gethostname():
            _warn(f"{directory} has its runs on {host}: {as_recorded}")
            return runs
        alive = cache(local_jobs)
        for run in going_on:
            folder = (directory / (run["log"] or "none")).parent
            if run["state"] != "STOPPED" and run["log"] and run["job_id"] not in alive(folder):
                run |= {"state": "LOST", "error": "its process has ended"}
    if sweep["cluster"] == "slurm" and going_on:
        if squeue.is_elsewhere(place := sweep.get("slurm_cluster")):
            _warn(f"{directory} has its jobs on {place}: {as_recorded}")
            return runs
        owner = (directory / SWEEP).stat()
        queue = (jobs or squeue.jobs)(owner.st_uid)
        if queue is None:
            _warn(f"Slurm does not answer squeue here: {as_recorded}")
        if queue is None or (not queue and foreign_owner(owner)):  # a site may hide others' jobs
            return runs
        for run in going_on:
            _add_from_queue(run, queue.get(run["job_id"]), directory)
    return runs


def _add_from_queue(run: dict[str, Any], job: squeue.Job | None, directory: Path) -> None:
    if job and not squeue.is_of(job.script, (directory / run["log"]).parent):
        job = None
    if job is None or squeue.is_over(job.state):
        begun = run["state"] != "PENDING" or (directory / (run["log"] or "")).exists()
        word = job.state if job else squeue.GONE if begun else squeue.NEVER_BEGUN
        known = state_of(word)
        run |= {"state": "LOST" if known == "FAILED" else known, "error": word}
    elif squeue.waits(job.state):
        # Also one whose node died, or which was killed at once: no record says that it stopped.
        state = "PENDING" if run["state"] == "PENDING" else "REQUEUED"
        run |= {"state": state, "reason": job.reason, "expected": job.start}
    elif job.state == "SUSPENDED":
        run["state"] = job.state


def key_of(override: str) -> str:
    """What it is about: ``++model.lr=0.1`` model.lr."""
    return override.lstrip("+~").partition("=")[0]


def hydras_own(override: str) -> bool:
    """Whether it says how to run something, not what: Hydra's own ones, and the preset."""
    return override.startswith(("hydra.", "hydra/", "+setup="))


def shown(overrides: Sequence[str]) -> str:
    """Overrides without Hydra's own and the preset."""
    return " ".join(each for each in overrides if not hydras_own(each))
