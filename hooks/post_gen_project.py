"""Finish what was generated: a git repository, a virtual environment if wanted, the next steps.

It never fails, because cookiecutter deletes a project whose hook does.
"""

# ruff: noqa: E402, PTH100, PTH120
from __future__ import annotations

import os
import sys

# cookiecutter runs a copy of this in the temporary folder, from which, being everybody's, nothing is imported.
sys.path = [folder for folder in sys.path if folder != os.path.dirname(os.path.abspath(__file__))]

import contextlib
import json
import re
import shlex
import shutil
import subprocess
import tempfile
from pathlib import Path

# In JSON three quotes never follow each other, so no answer can end this text.
ANSWERS = json.loads(r"""{{ cookiecutter | tojson }}""")
VENV, COMMANDS, WANTED = (
    str(ANSWERS.get(name) or "").strip() for name in ("venv_path", "setup_commands", "create_venv")
)
# A first line such as #!/bin/bash -l is for the job script only.
COMMANDS = COMMANDS.partition("\n")[2] if COMMANDS.startswith("#!") else COMMANDS
SETUP = [COMMANDS] if COMMANDS else []
PROJECT = Path.cwd()
CRUFT = "_output_dir" not in ANSWERS  # which cookiecutter's own command always adds
CD = f"cd {shlex.quote(str(PROJECT))}"
MESSAGE = f"Start {ANSWERS['project_name']} from hpc-hydra-template"
COMMIT = f"git commit --message {shlex.quote(MESSAGE)}"
START = f"git init && git add --all && {COMMIT}"
# Evaluated, so that a comment or a semicolon at their end does not swallow what follows.
PREPARE = [step for commands in SETUP for step in (f"eval {shlex.quote(commands)}", CD)]
CHECK = """python3 -c 'import sys; sys.exit(sys.version_info < (3, 10) and "python3 is %s, but 3.10 or \
newer is needed: setup_commands can load one" % sys.version.split()[0])'"""
ADD = "add to pyproject.toml what the template's README says of repositories that exist"


def say(text: str) -> None:
    """Print at once; a reader who is gone costs nothing but the text."""
    with contextlib.suppress(OSError):
        os.write(1, f"{text}\n".encode(sys.getfilesystemencoding(), "backslashreplace"))


def git(*arguments: str) -> str:
    """The last line of git's complaint; nothing if it did its work."""
    command = ["git", *arguments]
    # Variables such as GIT_DIR and GIT_INDEX_FILE, set in a git hook for example, name another repository.
    own = ("GIT_AUTHOR", "GIT_COMMITTER", "GIT_CONFIG")
    env = {k: v for k, v in os.environ.items() if not k.startswith("GIT_") or k.startswith(own)}
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=60, input="", env=env
        )
    except (OSError, subprocess.SubprocessError) as error:
        return str(error)
    return "" if done.returncode == 0 else (done.stderr.strip() or "no reason").splitlines()[-1]


def repository() -> tuple[str, list[str]]:
    """Commit everything, if git allows it: what became of that, and the commands that are left."""
    if git("--version"):
        return "git is not installed: no repository was made.", []
    if not git("rev-parse", "--is-inside-work-tree"):
        return "It lies in a git repository already: commit it there.", []
    if CRUFT:
        return "The first commit is left to you, since cruft has yet to add its file.", [START]
    complaint = git("-c", "init.defaultBranch=main", "init") or git("add", "--all")
    if complaint:
        return f"git did not make a repository here: {complaint}", [START]
    complaint = git("commit", "--quiet", "--message", MESSAGE)
    if complaint:
        reason = "set user.name and user.email" if git("var", "GIT_AUTHOR_IDENT") else complaint
        return f"It is a git repository without a commit: {reason}", [COMMIT]
    return "It is a git repository with a first commit.", []


def venv_in_shell() -> tuple[str, list[str]]:
    """venv_path as a word of the shell, and the variables in it that are not set."""
    path = re.sub(r"^~(?=/|$)", "$HOME", VENV)
    name = "([A-Za-z_][A-Za-z0-9_]*)"
    variable = r"\$(?:" + name + r"|\{" + name + r"\})"
    unset = [a or b for a, b in re.findall(variable, path) if not os.environ.get(a or b)]
    if unset:
        escaped = re.sub(r'([\\"`]|\$(?![A-Za-z_{]))', r"\\\1", path)
        return f'"{escaped}"', unset
    resolved = re.sub(variable, lambda match: os.environ[match[1] or match[2]], path)
    return shlex.quote(str(PROJECT / resolved)), []


def installation(venv: str) -> list[str]:
    """The commands that make the virtual environment, if there is to be one, and install into it."""
    if not VENV:
        return ["pip install --editable '.[dev]'"]
    if shutil.which("uv"):
        make = f'uv venv --allow-existing --python "$(command -v python3)" {venv}'
        return [make, f"uv pip install --python {venv}/bin/python --editable '.[dev]'"]
    return [f"python3 -m venv {venv}", f"{venv}/bin/python -m pip install --editable '.[dev]'"]


def install(venv: str, unset: list[str], commands: list[str]) -> tuple[str, list[str]]:
    """Run the commands: what became of that, and those that are left."""
    if not VENV:
        return "venv_path is blank: there is no virtual environment to make.", []
    if unset:
        return f"venv_path needs variables that are not set: {', '.join(unset)}. Then:", commands
    if own_pyproject():
        return f"Nothing was installed; {ADD}, then:", commands
    folder = Path(*shlex.split(venv))
    if os.path.lexists(str(folder)) and not (folder.is_dir() and not any(folder.iterdir())):
        return f"{folder} was there before and is left alone. To install into it:", commands[1:]
    say(f"Making the virtual environment {folder} and installing into it:")
    script = " && ".join([*PREPARE, CHECK, *commands])
    status = subprocess.run(["bash", "-c", script], stdin=subprocess.DEVNULL).returncode
    if status or not (folder / "bin" / "python").exists():
        return f"The virtual environment failed (exit status {status}). To repeat it:", commands
    return f"The virtual environment {folder} is ready.", []


def own_pyproject() -> bool:
    """Whether pyproject.toml was there before."""
    return "hydra-zen" not in Path("pyproject.toml").read_text(encoding="utf-8")


def finish(venv: str, unset: list[str]) -> list[str]:
    """Do what can be done, say what became of it; the commands that are left."""
    commands, git_left = installation(venv), [START]
    try:
        outcome, git_left = repository()
        say(outcome)
        if WANTED.lower() not in ("yes", "y", "true"):
            return [*git_left, *([ADD] if own_pyproject() else []), *SETUP, *commands]
        outcome, left = install(venv, unset, commands)
    except (Exception, KeyboardInterrupt) as error:
        outcome = f"{'Interrupted' if isinstance(error, KeyboardInterrupt) else error}; to go on:"
        left, line = commands, [CD, *git_left, *PREPARE, *commands]
    else:
        line = [CD, *PREPARE, *left]
    say("\n  ".join([outcome, " && ".join(line)] if left else [outcome]))
    return [*git_left, *SETUP, *left, *([] if VENV else commands)]


def main() -> None:
    """Finish the project and number the next steps."""
    say(f"\n{ANSWERS['project_name']} is in {PROJECT}.")
    venv, unset = venv_in_shell()
    command = f"python -m {ANSWERS['__package']}"
    steps = [
        CD,
        *finish(venv, unset),
        *([f"source {venv}/bin/activate"] if VENV else []),
        "pytest",
        f"{command} +setup=local lr=0.1,0.01          # on this machine",
        f"{command} +setup=hpc_debug lr=0.1,0.01      # the first job",
    ]
    lines = [f"  {n}. ".ljust(5) + step.replace("\n", "\n     ") for n, step in enumerate(steps, 1)]
    say("\nNext:\n" + "\n".join(lines) + "\n")


def only_compared() -> bool:
    """`cruft update` and `cruft diff` generate into a directory of tempfile's below the temporary one
    and take whatever is there for the template's; the others, `cruft create` too, generate for good."""
    temporary = Path(tempfile.gettempdir()).resolve()
    if not CRUFT or temporary not in PROJECT.parents:
        return False
    return bool(re.fullmatch(r"tmp[a-z0-9_]{8}", PROJECT.relative_to(temporary).parts[0]))


if __name__ == "__main__":
    try:
        if not only_compared():
            main()
    except BaseException as error:  # such as a second Ctrl-C
        say(f"The files are complete; the rest was not done: {error!r}")
    finally:
        os._exit(0)
