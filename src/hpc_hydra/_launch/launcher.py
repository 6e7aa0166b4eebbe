"""What our launchers have in common: quick submission, records, and no result lost.

What differs from the stock ones: all runs of a submission share one file of what they have in common; a job may
hold several runs; a failed run fails its job, and leaves the results of the others alone; a sweep that
is under way can be waited for again, and one that has ended goes on with what is not complete.
"""

from __future__ import annotations

import gc
import logging
import os
import shlex
import signal
import sys
from abc import abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hydra.core.singleton import Singleton
from hydra.core.utils import JobReturn, JobStatus
from hydra_plugins.hydra_submitit_launcher import submitit_launcher as stock
from omegaconf import OmegaConf

from .. import _attempt as attempt
from .. import _records as records
from .._files import locked, writable_by_all
from .._hydra import Composer, config_folders, subdir_of
from .._job.submission import Result, Run, Work, log_name
from .._overrides import directory_override, typed_overrides
from .._recording import (
    LauncherError,
    RunFailed,
    pin_sweep,
    refuse_foreign,
    submission_record,
)
from .._source import Source
from .earlier import Earlier

if TYPE_CHECKING:
    from .waiting import Watch

log = logging.getLogger(__name__)

BY_NUMBER = "${hydra.job.num}"  # Hydra's own hydra.sweep.subdir
ALIKE = (
    "each run has %d ranks: processes that are to work on it together. If the task does not ask which one it is, all do "
    "the same: one with cpus_per_task would do"
)
LOCK_S = 30.0  # in which another command has submitted its runs


class Launcher(stock.BaseSubmititLauncher):
    """Submits, waits, records and tells; where jobs go, its subclasses know."""

    directory: Path  # of the sweep
    folder: Path  # of its jobs
    _CANCEL: str  # command that ends jobs
    _ASK_EVERY_S: float  # for their states
    _GONE: str  # what is said of one without a state
    total = 0  # of runs, in all batches, if the sweeper says it
    _roots: Sequence[str] = ()  # in the copy of the source, from which modules are imported
    _earlier: Earlier

    def __init__(self, **params: Any) -> None:
        # Where the stock launchers' default stands in a config: their folder is one job's, by its id.
        params["submitit_folder"] = params["submitit_folder"].removesuffix("/%j")
        super().__init__(**params)

    def launch(
        self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int
    ) -> Sequence[JobReturn]:
        """Submit a run for each list of overrides, wait for them and print the sweep's table.

        The ``return_value`` of a run that did not complete raises RunFailed.
        """
        if not job_overrides:
            raise LauncherError("no runs: one of the parameters is swept over no value at all")
        gc.freeze()  # what is there stays; to look for garbage in it takes a tenth of a submission
        folders = config_folders(self.hydra_context.config_loader)
        self.source = Source(self.task_function, folders)
        self.cwd = Path.cwd()  # later it may be gone
        self.directory = Path(self.config.hydra.sweep.dir).absolute()
        self.folder = Path(self.params["submitit_folder"]).absolute()
        if self.directory not in self.folder.parents:
            raise LauncherError(
                f"hydra.launcher.submitit_folder: {self.folder} is not below hydra.sweep.dir, {self.directory}; "
                "with a folder of jobs in common, sweeps would take the results of one another for their own"
            )
        refuse_foreign(self.directory, self.directory / records.SWEEP, self.folder)
        self._check()
        only = self.params["only_runs"] or ()
        if self.total and (unknown := [each for each in only if each not in range(self.total)]):
            raise LauncherError(
                f"hydra.launcher.only_runs: {unknown[0]} is none of {self.total} runs"
            )
        runs = [Run(number, list(own)) for number, own in enumerate(job_overrides, initial_job_idx)]
        pin_sweep(self.config, self.directory)
        self._refuse_shared_directories(runs)
        if self.params["test_only"]:
            self._test()
            sys.exit()
        self.folder.mkdir(parents=True, exist_ok=True)
        if "mode" in self.config.hydra.sweep:
            self.directory.chmod(int(str(self.config.hydra.sweep.mode), 8))
        if initial_job_idx == 0:
            self._warn_of_others()
        log.info("runs: %d, outputs in %s", len(runs), self.directory)
        try:
            with _interrupt_deferred():
                left = self._submit_what_is_left(runs)
            if not self.params["wait"]:
                print(self._how_to_go_on(runs), file=sys.stderr)
                if any(run.job_id is None for run in left):
                    sys.exit(1)
                return [_completed(run) for run in runs]
            return self._wait(runs)
        except KeyboardInterrupt:
            self._on_interrupt(runs)
            sys.exit(130)
        except PermissionError as error:
            raise LauncherError(str(error)) from error

    def _check(self) -> None:
        if not self.params["wait"] and (sweeper := self._sweeper()) not in ("hpc", "basic"):
            raise LauncherError(
                f"hydra.launcher.wait=false: the sweeper {sweeper} needs the results of its runs"
            )

    def _sweeper(self) -> str:
        return str(self.config.hydra.runtime.choices["hydra/sweeper"])

    def _test(self) -> None:
        """Say whether the jobs could be submitted.

        Raises:
            LauncherError: they could not.
        """
        print("runs on this machine")

    def _refuse_shared_directories(self, runs: list[Run]) -> None:
        """Raises:
        LauncherError: by a `hydra.sweep.subdir` two runs have one directory, or one inside of the other; or one has
            another one's number, or what the sweep itself has.
        """
        sweep: Any = OmegaConf.to_container(self.config.hydra.sweep, resolve=False)
        if sweep["subdir"] == BY_NUMBER:
            return
        composer = Composer(self.hydra_context.config_loader, self.config)
        places = [subdir_of(composer.compose(run.overrides), run.number) for run in runs]
        owners = {place: run.number for run, place in zip(runs, places, strict=True)}
        for run, place in zip(runs, places, strict=True):
            first = place.partition("/")[0]
            around = [owners[each] for each in map(str, Path(place).parents) if each in owners]
            if owners[place] != run.number:
                why = f"of runs {run.number} and {owners[place]}: each needs one of its own"
            elif first in ("jobs", "earlier", "rerun") or records.SOURCE.fullmatch(first):
                why = f"of run {run.number}, but {first} is the sweep's own"
            elif first in ("", ".", ".."):
                why = f"of run {run.number}, but has to lie below hydra.sweep.dir"
            elif around:
                why = f"of run {run.number}, inside of that of run {around[0]}"
            elif first.isdecimal() and place != str(run.number):
                why = f"of run {run.number}, though numbers are for the runs of these numbers: put a word before it"
            else:
                continue
            raise LauncherError(
                f"hydra.sweep.subdir={sweep['subdir']}: {place} would be the directory {why}"
            )

    def _warn_of_others(self) -> None:
        if folders := shlex.join(map(str, writable_by_all(self.folder, self.directory))):
            log.warning(
                "everyone can write to %s, and put there what your jobs would execute. To end that: "
                "chmod o-w %s (or chmod +t, if others are to make files there)", folders, folders,
            )  # fmt: skip

    # --- submission ------------------------------------------------------------------------------

    def _submit_what_is_left(self, runs: list[Run]) -> list[Run]:
        """Give ``runs`` the jobs that they have by the records. Submit those that an earlier call in this directory has
        not submitted, or that have ended without completing; return them. Slurm may have refused some."""
        overrides = typed_overrides(self.config)
        try:
            with locked(self.folder / "lock", LOCK_S):
                self._earlier = Earlier(
                    self.directory, self.folder, overrides, runs, self.params, self._EXECUTOR
                )
                self._adopt(runs)
                ours = self._earlier.sweep.get("cluster", self._EXECUTOR) == self._EXECUTOR
                states = [] if ours else [each["state"] for each in records.states(self.directory)]
                if going := sum(state in records.UNDER_WAY for state in states):
                    raise LauncherError(
                        f"{going} runs are under way with the other launcher: wait for them, or "
                        f"hpc cancel {shlex.quote(str(self.directory))}"
                    )
                left = self._earlier.make_way(runs, self._under_way if ours else None)
                if len(left) < len(runs):
                    log.info("%d to submit, the others are complete or under way", len(left))
                if left:
                    try:
                        self._submit(left, runs)
                    except OSError:  # a full disk, which may have no room for that either
                        with suppress(OSError):
                            refused = [run for run in left if run.job_id is None]
                            self._earlier.take_back(refused, left, runs)
                        raise
                if (self.directory / records.SUBMITTED).exists():
                    self._earlier.record(runs)
                return left
        except BlockingIOError as error:
            raise LauncherError(
                f"another command is submitting the runs of {self.directory}: repeat this in a moment"
            ) from error

    def _adopt(self, runs: list[Run]) -> None:
        """Give ``runs`` the jobs that are theirs, though no record says so."""

    @abstractmethod
    def _under_way(self, just_completed: bool = True) -> set[str]:
        """The jobs that may still give a result; one that has ``just_completed`` may, if it is not visible yet."""

    @abstractmethod
    def _submit(self, left: list[Run], runs: list[Run]) -> None:
        """Submit jobs for the runs that are ``left`` of ``runs``, and assign these to them."""

    @staticmethod
    def _command(python: str, submission: Path, first_job: int) -> str:
        """The shell command of the jobs whose array begins with job ``first_job`` of the submission."""
        module = "hpc_hydra._job.supervisor"
        return f"{python} -u -m {module} {shlex.quote(str(submission))} {first_job}"

    def _prepare(
        self, jobs: list[list[Run]], runs: list[Run], **parameters: Any
    ) -> tuple[Path, Work]:
        """Write what ``jobs`` have to do and what they need for it; return that file, and what is in it."""
        import cloudpickle

        number = len(list(self.folder.glob("submission_*.pkl")))
        path = self.folder / f"submission_{number}.pkl"
        submission = {
            "submission": number,
            "command": shlex.join(sys.orig_argv),
            "cwd": str(self.cwd),
            "python": sys.executable,
            "overrides": typed_overrides(self.config),
            "start": records.now(),
            "source": None,
            "total": self.total or (len(runs) if self._sweeper() == "basic" else None),
            **submission_record(self.source, self.folder, path.stem),
        }
        if submission["git_diff"]:
            submission["git_diff"] = os.path.relpath(path.with_suffix(".diff"), self.directory)
        copied = None
        if self.params["copy_source"] and self.source.files:
            folder = records.claim(self.directory / "source")
            self.source.copy(folder)
            top = self.source.top
            copied = str(top), str(folder)
            roots = [os.path.relpath(root, top) for root in self.source.roots]
            self._roots = [os.path.normpath(folder / root) for root in roots]
            submission["source"] = folder.name
            # What it is of, and the folders in it from which the app's modules are imported.
            submission["source_of"] = str(top)
            submission["source_roots"] = roots
        elif self.params["copy_source"] and self.source.is_in_repository():
            log.warning(
                "git lists no files of %s: jobs run the code that is there when they begin",
                self.source.root,
            )
        for job in jobs:
            for run in job:
                run.submission = number
        self._earlier.record(runs, submission)
        of_runs = ("submission", "source", "git_commit", "git_diff")
        work = Work(
            sweep_dir=str(self.directory),
            timeout_min=self.params["timeout_min"],
            process_per_run=self.params["process_per_run"],
            source=copied,
            roots=[*self._roots],
            origin={name: submission[name] for name in of_runs},
            **parameters,
        )
        common = (self.hydra_context, self.task_function, self.config, Singleton.get_state())
        todo = ([(run.number, run.overrides) for run in job] for job in jobs)
        work.write(path, cloudpickle.dumps(common), todo)
        if work.ranks > 1 and not work.shared:
            log.info(ALIKE, work.ranks)
        return path, work

    def _python_path(self) -> str:
        before = os.environ.get("PYTHONPATH")
        return os.pathsep.join(path for path in (*self._roots, before) if path)

    def _assign(self, jobs: Mapping[str, list[Run]], work: Work) -> None:
        """Note which runs the ``jobs``, by id, are to do."""
        folder = os.path.relpath(self.folder, self.directory)
        for job_id, job in jobs.items():
            alone = len(job) == 1 and not work.shared
            for run in job:
                run.job_id, run.ranks = job_id, 1 if work.shared else work.ranks
                run.log = f"{folder}/{log_name(job_id, run.number, 0, alone)}"
        records.note_jobs(self.directory, (vars(run) for job in jobs.values() for run in job))

    # --- waiting ---------------------------------------------------------------------------------

    def _wait(self, runs: list[Run]) -> list[JobReturn]:
        gc.unfreeze()
        gc.collect()  # what waiting needs finds room in that
        from .._table import print_table
        from .waiting import Queue, View, Watch, wait

        only = self.params["only_runs"]
        asked = [run for run in runs if only is None or run.number in only]
        jobs = {run.job_id for run in asked if run.job_id}
        watch = Watch(asked, self.folder, Queue(jobs, self._states, self._ASK_EVERY_S, self._GONE))
        try:
            with View(len(asked)) as view:
                wait(watch, view, self._give_up)
        except OSError as error:
            raise LauncherError(f"{error}{self._how_to_go_on(runs)}") from error
        results = {run.number: self._result(run, watch) for run in asked}
        print_table(self.directory)
        failed = [each for each in results.values() if each.status is JobStatus.FAILED]
        for each in failed:
            each._return_value = RunFailed(
                f"{len(failed)} of {len(runs)} runs did not complete, see the table above."
            )
        return [results.get(run.number) or _completed(run) for run in runs]

    def _result(self, run: Run, watch: Watch) -> Result:
        try:
            return Result(run.overrides, watch.results.get(run.number, []))
        except PermissionError:  # somebody else's
            raise
        except Exception as damage:
            log.warning("run %d: no result but that of run.json: %s", run.number, damage)
            record = records.read(self.directory / str(run.number) / records.RUN)
            result = Result(run.overrides, [])
            if record.get("state") == "COMPLETED":
                result.status, result._return_value = JobStatus.COMPLETED, record.get("result")
            return result

    def _give_up(self, run: Run, reason: str) -> None:
        """Record that a job has ended without a result, unless another command has submitted the run anew."""
        if attempt.is_superseded(self.folder, run.job_id):
            return
        directory = self.directory / str(run.number)
        try:
            records.record_end(directory, run.overrides, str(run.job_id), reason)
        except OSError as error:
            log.warning("run %d: no record of its end: %s", run.number, error)

    @abstractmethod
    def _states(self) -> Mapping[str, tuple[str, str]] | None:
        """The state of each job, in Slurm's words, and why it waits; None: nobody answers."""

    def _on_interrupt(self, runs: list[Run]) -> None:
        print(self._how_to_go_on(runs), file=sys.stderr)

    def _how_to_go_on(self, runs: list[Run]) -> str:
        name = shlex.quote(str(self.directory))
        once = ("hydra.sweep.dir", "hydra.launcher.wait", "hydra.launcher.redo")
        again = [word for word in sys.orig_argv if records.key_of(word) not in once]
        jobs = sorted({str(run.job_id).partition("_")[0] for run in runs if run.job_id})
        of_shell = Path(os.environ.get("PWD", self.cwd)).resolve()  # hpc retry goes elsewhere
        there = "" if of_shell == self.cwd else f"cd {shlex.quote(str(self.cwd))} && "
        go_on = "The jobs go on." if jobs else "It is not known whether there are jobs."
        return (
            f"\n{go_on}\n"
            f"    hpc status {name}  # how far they are\n"
            f"    hpc cancel {name}  # ends them, as does {self._CANCEL} {' '.join(jobs)}\n"
            f"    hpc retry {name}  # submits what did not complete\n"
            f"To wait for them again:\n    {there}{shlex.join(again)} {self._sweep_dir()}"
        )

    def _sweep_dir(self) -> str:
        """The override that chooses this sweep's directory, for the shell."""
        return shlex.quote(directory_override("hydra.sweep.dir", self.directory))


def _completed(run: Run) -> JobReturn:
    """What Hydra gets of one of which nobody waits for the result."""
    return JobReturn(run.overrides, status=JobStatus.COMPLETED)


@contextmanager
def _interrupt_deferred() -> Iterator[None]:
    """Ctrl-C takes effect at the end of the block, when what was submitted is recorded; a second one
    at once."""
    received: list[int] = []

    def note(number: int, frame: object) -> None:
        if received:
            raise KeyboardInterrupt
        received.append(number)
        print("Ending once the jobs are recorded; Ctrl-C again: at once", file=sys.stderr)

    before = signal.signal(signal.SIGINT, note)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
    if received:
        raise KeyboardInterrupt
