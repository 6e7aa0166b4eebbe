"""`hpc doctor`."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from .. import _records as records
from .. import _squeue as squeue
from . import surroundings
from .surroundings import Finding
from .sweeps import JSON, as_json

TRY_FOR_S = 120
COLORS = {"ok": "green", "note": "yellow", "bad": "red"}


def doctor(
    words: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="APP|OVERRIDE",
            help="A module or a script with Hydra, and what it needs to be composed; by default the one below src/.",
        ),
    ] = None,
    job: Annotated[
        bool,
        typer.Option("--job", help="Also whether Python starts in a job: it costs a short one."),
    ] = False,
    json: Annotated[bool, JSON] = False,
) -> None:
    """Whether jobs could run, and what to do if not.

    Before the first one, and when something is odd. Exit code 1: no job, or not that of each preset.

    \b
    hpc doctor                   in the repository of the app
    hpc doctor app.py x=1 --job
    """
    found = []
    for finding in _findings(words or [], job):
        found.append(finding)
        if not json:
            _print(finding)
    if json:
        as_json([asdict(finding) for finding in found])
    raise typer.Exit(int(any(finding.level == "bad" for finding in found)))


def _findings(words: Sequence[str], job: bool) -> Iterator[Finding]:
    here = Path.cwd()
    of_slurm = list(surroundings.slurm())
    yield from of_slurm
    yield from surroundings.room(here, "this folder")
    newest = records.newest_sweep()
    if newest and not newest.is_relative_to(here):
        yield from surroundings.room(newest.parent, "where your newest sweep is")
    if not here.is_relative_to(Path.home()):
        yield from surroundings.room(Path.home(), "home")
    yield from surroundings.identities(here)
    if of_slurm[0].level == "ok":
        yield from _of_app(words, job)


def _print(finding: Finding) -> None:
    typer.secho(f"{finding.level:<4} ", fg=COLORS[finding.level], nl=False)
    print(finding.what.replace("\n", "\n     "))
    if finding.remedy:
        print(f"     -> {finding.remedy}", flush=True)


def _of_app(words: Sequence[str], job: bool) -> Iterator[Finding]:
    packages = [path.parent.name for path in Path.cwd().glob("src/*/__main__.py")]
    if not words and len(packages) != 1:
        yield Finding("note", "no app is known here, so no job script was tried",
                      "hpc doctor my_package, or hpc doctor app.py")  # fmt: skip
        return
    app = [*(words or packages)]
    app = app if app[0].endswith(".py") else ["-m", *app]
    name = " ".join(app)
    shown = _run(*app, "--help")
    if shown.returncode:
        yield Finding("bad", f"{name} --help: {_end(shown)}", "correct it, or name another app")
        return
    found = re.search("^setup: (.+)$", shown.stdout, re.MULTILINE)
    presets = found[1].split(", ") if found else [""]
    limits = surroundings.partitions()
    scripts = {}
    # Where compute nodes see it too.
    folder = Path(tempfile.mkdtemp(prefix=".hpc-doctor-", dir=Path.cwd()))
    try:
        for preset in presets:
            chosen = [f"+setup={preset}"] if preset else []
            asked = ("hydra.launcher.test_only=true", f"hydra.sweep.dir='{folder}'")
            tried = _run(*app, *chosen, *asked, "--multirun")
            what = f"preset {preset}" if preset else name
            if "override 'hydra.launcher.test_only'" in tried.stderr:
                yield Finding("note", f"{what}: its launcher is none of hpc-hydra's, so no job script was tried",
                              "put hydra/launcher=hpc_slurm after it")  # fmt: skip
                continue
            if tried.returncode:
                remedy = "correct it in cluster.py, or override hydra.launcher.*"
                yield Finding("bad", f"{what}: {_end(tried)}", remedy)
                continue
            if "#SBATCH" in tried.stdout:
                scripts[preset] = tried.stdout
            yield from _of_script(what, tried.stdout, limits)
        if job and scripts:
            preset = next((each for each in scripts if "debug" in each), next(iter(scripts)))
            yield _in_a_job(preset, scripts[preset], folder)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _run(*words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, *words]
    try:
        return subprocess.run(
            command, capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=TRY_FOR_S
        )
    except subprocess.TimeoutExpired as error:
        return subprocess.CompletedProcess(command, 1, "", str(error))


def _end(ended: subprocess.CompletedProcess[str]) -> str:
    """What is left to say of a command that failed."""
    return "\n".join((ended.stderr.strip() or ended.stdout.strip()).splitlines()[-3:])


def _of_script(what: str, output: str, limits: dict[str, dict[str, str]]) -> Iterator[Finding]:
    options = dict(re.findall(r"^#SBATCH --([\w-]+)=(\S+)$", output, re.MULTILINE))
    if not options:
        yield Finding("ok", f"{what}: {output.strip().splitlines()[-1]}")
        return
    for name in options.get("partition", "").split(","):
        state = limits.get(name, {}).get("State", "UP")
        if state != "UP":  # likewise
            yield Finding("bad", f"{what}: partition {name} is {state}",
                          "choose another one, or ask the site")  # fmt: skip
            return
        limit = limits.get(name, {}).get("MaxTime", "")
        # A site may take it, and let it wait for ever.
        if is_longer(options.get("time", ""), limit):
            yield Finding("bad", f"{what}: time={options['time']} is above the limit of partition {name}, "
                          f"{limit}", "hydra.launcher.timeout_min=, or time= in cluster.py")  # fmt: skip
            return
    begins = re.search(r"^sbatch: Job \d+ (to start .*)$", output, re.MULTILINE)
    yield Finding("ok", f"{what}: {begins[1] if begins else 'sbatch would take it'}")


def is_longer(time: str, limit: str) -> bool:
    """Whether a job's ``time`` is above a partition's ``limit``, both as Slurm writes them."""
    from .._site import minutes

    try:
        return minutes(time) > minutes(limit)
    except ValueError:  # UNLIMITED, or not said
        return False


def _wait_for(job_id: str) -> None:
    """Until it has ended; or end it, if nobody waits any more."""
    print(f"     waits for job {job_id}; Ctrl-C ends it", file=sys.stderr)
    try:
        while (queue := squeue.jobs()) is None or (
            job_id in queue and not squeue.is_over(queue[job_id].state)
        ):
            time.sleep(1)
    except BaseException:
        subprocess.run(["scancel", job_id], capture_output=True)
        raise


def _in_a_job(preset: str, output: str, folder: Path) -> Finding:
    """Whether the job's Python starts on a compute node, and has what it needs."""
    script = re.sub(r"(?<= -m hpc_hydra\._job\.)supervisor SUBMISSION 0$", "look",
                    output, flags=re.MULTILINE)  # fmt: skip
    script = script[: script.rindex("sbatch: ")] if "sbatch: " in script else script
    (folder / "jobs").mkdir(parents=True, exist_ok=True)
    from .._launch.job_script import TAKEN, environment

    sbatch, variables = ("sbatch", "--array=0", "--time=5"), environment(script)
    ended = subprocess.run(sbatch, input=script, env=variables, capture_output=True, text=True)
    if taken := TAKEN.search(ended.stdout):
        _wait_for(f"{taken[1]}_0")
    paths = sorted((folder / "jobs").glob("*.out"))
    logs = "".join(path.read_text(errors="replace") for path in paths)
    what = f"a job of preset {preset}" if preset else "a job"
    if started := re.search("^started (.*)$", logs, re.MULTILINE):
        said = f"{what} has started {started[1]}"
        seen = re.search("^PyTorch .* sees ([0-9]+) of ([0-9]+) GPUs$", logs, re.MULTILINE)
        if seen and int(seen[1]) < int(seen[2]):
            return Finding("bad", f"{said}; {seen[0]}",
                           "install a build of PyTorch for no newer CUDA than nvidia-smi names there, or for its ROCm")  # fmt: skip
        return Finding("ok", f"{said}; {seen[0]}" if seen else said)
    said = "\n".join((logs.strip() or ended.stderr.strip()).splitlines()[-3:])
    return Finding("bad", f"{what} did not start Python: {said or 'it left no log'}",
                   "see SETUP_COMMANDS and PYTHON in cluster.py, or hydra.launcher.setup and python")  # fmt: skip
