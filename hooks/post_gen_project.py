"""Make the new project a git repository and say what to do next; never fail."""

import json
import re
import subprocess
from pathlib import Path

# In JSON three quotes never follow each other, so no answer can end this text.
ANSWERS = json.loads(r"""{{ cookiecutter | tojson }}""")


def git(*arguments: str) -> str | None:
    """What git printed, or None if it failed or is not there."""
    command = ["git", *arguments]
    try:
        return subprocess.run(
            command,
            capture_output=True,
            text=True,
            check=True,
            timeout=60,
            stdin=subprocess.DEVNULL,
        ).stdout
    except (OSError, subprocess.SubprocessError):
        return None


def first_commit() -> str:
    """Commit everything, if git allows it; a sentence on what became of that."""
    if git("--version") is None:
        return "git is not installed: no repository was made."
    if git("rev-parse", "--is-inside-work-tree") is not None:
        return "It lies in a git repository already: add it there."
    if git("-c", "init.defaultBranch=main", "init") is None or git("add", "--all") is None:
        return "git did not make a repository here: try `git init`."
    message = f"Start {ANSWERS['project_name']} from hpc-hydra-template"
    if git("commit", "--quiet", "--message", message) is None:
        return (
            "It is a git repository without a commit: set user.name and user.email, "
            f"then `git commit -m '{message}'`."
        )
    return "It is a git repository with a first commit."


def next_steps() -> str:
    """From here to the first job."""
    venv = (ANSWERS["venv_path"] or "").strip()
    path = f'"{venv}"' if re.search(r"[^\w./~-]", venv) else venv
    setup = (ANSWERS["setup_commands"] or "").strip()
    environment = [setup] if setup else []
    if venv:
        environment += [f"python3 -m venv {path}", f"source {path}/bin/activate"]
    package = ANSWERS["__package"]
    commands = [
        f"cd {Path.cwd().name}",
        *environment,
        "pip install -e '.[dev]'",
        "pytest",
        f"python -m {package} +setup=local lr=0.1,0.01          # on this machine",
        f"python -m {package} +setup=hpc_debug lr=0.1,0.01      # the first job",
    ]
    return "\n".join(f"  {number}. {command}" for number, command in enumerate(commands, 1))


if __name__ == "__main__":
    print(
        f"\n{ANSWERS['project_name']} is in {Path.cwd()}. {first_commit()}\n\nNext:\n{next_steps()}\n"
    )
