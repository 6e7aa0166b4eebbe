"""Before the questions: refuse what cannot work, and ask Slurm for the defaults.

cookiecutter runs this in a temporary copy of the template, whose cookiecutter.json it rewrites. Python 3.8
has to be able to parse it, in order to be told that it is too old.
"""

from __future__ import annotations

import argparse
import json
import os
import pwd
import re
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import NoReturn

SECONDS = 2.0  # for each of Slurm's commands, which are asked at a time
OUTPUT_BYTES = 4 * 1024**2
PROJECT = (120, 4096)  # files, and bytes in each: more than a project and its first commit need
NOT_HERE = "The defaults are not those of this cluster"
SCRATCH = ("SCRATCH", "WORK", "PSCRATCH", "MYSCRATCH", "CINECA_SCRATCH")


def main() -> None:
    if sys.version_info < (3, 10):  # noqa: UP036 - cookiecutter itself runs on older ones
        sys.exit(
            "hpc-hydra-template needs Python 3.10 or newer; cookiecutter runs on "
            f"{sys.version.split()[0]}. Load a newer one, e.g. `module load python/3.12`, "
            "and install cookiecutter there."
        )
    check_output_directory()
    check_answers()
    if os.environ.get("HPC_HYDRA_PLAIN_DEFAULTS"):
        return
    try:
        rewrite(Path("cookiecutter.json"))
    except Exception as error:  # whatever it is, the plain questions can be asked
        print(f"{NOT_HERE}: {error!r}", file=sys.stderr)


def check_output_directory() -> None:
    """End where no project can be written, before the questions; say nothing where that is not known."""
    try:
        command = os.fsdecode(Path(f"/proc/{os.getppid()}/cmdline").read_bytes()).split("\0")[:-1]
        here = os.environ.get("PWD", "")
        directory = output_directory(command, here if Path(here).is_dir() else "")
    except (OSError, ValueError):
        return
    place = next(each for each in (directory, *directory.parents) if os.access(each, os.F_OK))
    files, size = PROJECT
    try:
        with ExitStack() as stack:
            for _ in range(files):  # without names, so that none can be left
                file = stack.enter_context(tempfile.TemporaryFile(dir=place))
                file.write(os.urandom(size))
                file.flush()
    except OSError as error:
        fault = f"no project can be written to {place}: {error.strerror}"
        sys.exit(f"Nothing was generated: {fault}; choose another directory with --output-dir")


def check_answers() -> None:
    """End where cookiecutter would with a traceback: it evaluates answers that are not typed."""
    given = ""
    with suppress(OSError, ValueError, RuntimeError):
        given = Path(f"/proc/{os.getppid()}/cmdline").read_text(errors="replace")
        default = os.environ.get("COOKIECUTTER_CONFIG") or f"{Path.home()}/.cookiecutterrc"
        files = [default, *re.findall(r"\0--config-file[=\0]([^\0]*)", given)]
        given += Path(os.environ.get("PWD", ""), files[-1]).read_text(errors="replace")
    if "{#" in given:
        sys.exit(
            "An answer holds {#, a comment to cookiecutter; source a file that holds the command"
        )


class CommandLine(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise ValueError(message)


def output_directory(command: list[str], here: str) -> Path:
    """Where ``command`` makes the project, typed in the directory ``here``.

    Raises:
        ValueError: it is not cookiecutter's, or not clear.
    """
    # Before the program only the interpreter and its options.
    program = next((i for i, word in enumerate(command) if i and not word.startswith("-")), 0)
    if not program or Path(command[program]).name != "cookiecutter":
        raise ValueError(f"{command} is not cookiecutter's")
    parser = CommandLine(add_help=False, allow_abbrev=False)
    parser.add_argument("-o", "--output-dir", default=".")
    parser.add_argument("-c", "--checkout")
    for flag in "fsvl":  # may be written together: -fso DIR
        parser.add_argument(f"-{flag}", action="store_true")
    chosen, _ = parser.parse_known_args(command[program + 1 :])
    directory = Path(here, chosen.output_dir)
    if not directory.is_absolute():
        raise ValueError(f"{directory} is relative to a directory that is not known")
    return directory


def rewrite(path: Path) -> None:
    """Put the facts of this place into cookiecutter.json."""
    # Here, so that a fault in it costs no more than the defaults.
    from slurm_defaults import SACCTMGR, improve
    from slurm_nodes import SINFO, partitions

    questions = json.loads(path.read_text(encoding="utf-8"))
    questions["output_dir"] = scratch() or questions["output_dir"]
    limit_output()
    user = pwd.getpwuid(os.getuid()).pw_name
    table = ("--noheader", "--parsable2", "--readonly", "show", "user", user, "withassoc")
    answers = ask(
        ["sinfo", "--noheader", f"--format={SINFO}"],
        ["sacctmgr", *table, f"format={SACCTMGR}"],
        ["scontrol", "show", "config"],
    )
    if shutil.which("sinfo") and not partitions(answers[0]):
        print(f"{NOT_HERE}: sinfo names no partition; see to cluster.py later", file=sys.stderr)
    improve(questions, *answers)
    new = path.with_suffix(".new")
    new.write_text(json.dumps(questions, indent=2), encoding="utf-8")
    new.replace(path)


def scratch() -> str:
    """The output directory in the user's fast file system, or nothing."""
    for name in SCRATCH:
        path = os.environ.get(name, "")
        if path.startswith("/") and os.access(path, os.W_OK) and Path(path).is_dir():
            return f"${name}/{{{{ cookiecutter.project_slug }}}}"
    return ""


def limit_output() -> None:
    """Of every file that this process and its commands write."""
    _, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    soft = OUTPUT_BYTES if hard == resource.RLIM_INFINITY else min(OUTPUT_BYTES, hard)
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def ask(*commands: list[str]) -> list[str]:
    """What each command prints, all of them at a time; nothing of one that fails or is not there."""
    with ThreadPoolExecutor() as threads:
        return list(threads.map(answer, commands))


def answer(command: list[str]) -> str:
    """Into a file, since a pipe could be held open by what the command leaves behind."""
    variables = ("SINFO_", "SCONTROL_", "SLURM_TIME_FORMAT")  # would change what is printed
    kept = {name: value for name, value in os.environ.items() if not name.startswith(variables)}
    null = subprocess.DEVNULL
    with suppress(OSError), tempfile.TemporaryFile() as output:
        process = subprocess.Popen(
            command, env=kept, stdin=null, stdout=output, stderr=null, start_new_session=True
        )
        try:
            status = process.wait(SECONDS)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)  # with its children
            return ""
        output.seek(0)
        return "" if status else output.read().decode("ascii", "replace")
    return ""


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        sys.exit(130)
