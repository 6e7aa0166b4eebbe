"""Finish what was generated. It never fails, because cookiecutter deletes a project whose hook does."""

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
from urllib.parse import quote

# In JSON three quotes never follow each other, so no answer can end this text.
ANSWERS = json.loads(r"""{{ cookiecutter | tojson }}""")
NAMES = ("_template", "python", "setup_commands", "library", "create_venv")
TEMPLATE, PYTHON, COMMANDS, LIBRARY, WANTED = (str(ANSWERS.get(n) or "").strip() for n in NAMES)
IS_COMMAND = bool(re.search(r"\s|(^|/)python[^/]*$", PYTHON))
VENV = ".venv" if IS_COMMAND else PYTHON  # what submits has one beside a command
# Without #!/bin/bash -l; and evaluated, so that a comment at their end does not swallow what follows.
COMMANDS = ANSWERS.get("__functions", "") + re.sub(r"\A#!.*\n?", "", COMMANDS)
PROJECT = Path.cwd()
CRUFT = "_output_dir" not in ANSWERS  # which cookiecutter's own command always adds
CD = f"cd {shlex.quote(str(PROJECT))}"
MESSAGE = f"Start {ANSWERS['project_name']} from hpc-hydra-template"
COMMIT = f"git commit --message {shlex.quote(MESSAGE)}"
START = f"git init && git add --all && {COMMIT}"
PREPARE = [f"eval {shlex.quote(COMMANDS)}", CD] if COMMANDS else []
CHECK = """python3 -c 'import sys; sys.exit(sys.version_info < (3, 10) and "python3 is %s, but 3.10 or \
newer is needed: setup_commands can load one" % sys.version.split()[0])'"""
UV = "UV_SYSTEM_CERTS=1 UV_NATIVE_TLS=1 uv"  # a proxy's certificates; older ones know the second
PLAIN = "hpc-hydra[results,wandb]>=0.2"  # as pyproject.toml has it so far
FOLDER = "    # A folder of yours; once published: hpc-hydra[results,wandb] @ git+https://...\n"
# Which in a git hook name another repository.
OTHERS = "GIT_(DIR|INDEX|WORK|OBJECT|COMMON|PREFIX)"
ENV = {name: value for name, value in os.environ.items() if not re.match(OTHERS, name)}


def say(text: str) -> None:
    """Print at once; a reader who is gone costs nothing but the text."""
    with contextlib.suppress(OSError):
        os.write(1, f"{text}\n".encode(sys.getfilesystemencoding(), "backslashreplace"))


def git(*arguments: str) -> tuple[str, str]:
    """What git prints, and the last line of its complaint, blank if it did its work."""
    try:
        done = subprocess.run(
            ["git", *arguments], capture_output=True, text=True, timeout=60, input="", env=ENV
        )
    except (OSError, subprocess.SubprocessError) as error:
        return "", str(error)
    complaint = (done.stderr.strip() or "no reason").splitlines()[-1] if done.returncode else ""
    return done.stdout.strip(), complaint


def name_library() -> str:
    """Write into pyproject.toml where the library comes from; what there is to say of it."""
    try:
        wanted, said = LIBRARY or f"hpc-hydra @ {source()}", ""
        wanted = re.sub(r"(?i)^(hpc[-_.]hydra)(?!\[)", r"\1[results,wandb]", wanted)
    except Exception as error:
        wanted, said = PLAIN, f", since where the template came from is not known: {error}"
    line = FOLDER * ("file://" in wanted) + f"    {json.dumps(wanted)},\n"
    file = Path("pyproject.toml")
    file.write_text(file.read_text("utf-8").replace(f'    "{PLAIN}",\n', line), "utf-8")
    return f"The library: {wanted}{said}"


def source() -> str:
    """Where the template came from, as pip and uv write it."""
    for base in (os.environ.get("PWD", ""), ANSWERS.get("_output_dir", "")):
        path = Path(base, TEMPLATE)
        if path.is_absolute() and path.exists() and not CRUFT:
            return (path.resolve() if ".." in path.parts else path).as_uri()
    if TEMPLATE.lower().endswith(".zip"):
        return TEMPLATE
    url, commit = TEMPLATE, ANSWERS.get("_commit", "")
    if not CRUFT:  # from the clone, or the copy of it that the questions were asked in
        clone = f"--git-dir={ANSWERS['_repo_dir']}/.git"
        url = git(clone, "config", "remote.origin.url")[0]
        commit = git(clone, "rev-parse", "HEAD")[0]
    url = Path(url).as_uri() if url.startswith("/") else url
    url = re.sub(r"^([^:/]+):(?!//)/?", r"ssh://\1/", url)  # git@host:path
    url = re.sub("^(https?://)[^/]*@", r"\1", url)  # without a token, which is not for all to read
    if "://" not in url or not commit:
        raise ValueError(f"{TEMPLATE} at commit {commit or 'unknown'}")
    return f"git+{quote(url, safe=':/@%+~')}@{commit}"


def repository() -> tuple[str, list[str]]:
    """Commit everything, if git allows it: what became of that, and the commands that are left."""
    if git("--version")[1]:
        return "git is not installed: no repository was made.", []
    if not git("rev-parse", "--is-inside-work-tree")[1]:
        return "It lies in a git repository already: commit it there.", []
    if CRUFT:
        return "The first commit is left to you, since cruft has yet to add its file.", [START]
    if complaint := git("-c", "init.defaultBranch=main", "init")[1] or git("add", "--all")[1]:
        return f"git did not make a repository here: {complaint}", [START]
    if complaint := git("commit", "--quiet", "--message", MESSAGE)[1]:
        reason = "set user.name and user.email" if git("var", "GIT_AUTHOR_IDENT")[1] else complaint
        return f"It is a git repository without a commit: {reason}", [COMMIT]
    return "It is a git repository with a first commit.", []


def venv_in_shell() -> tuple[str, list[str]]:
    """The environment's folder as a word of the shell, and the variables in it that are not set."""
    path = re.sub(r"^~(?=/|$)", "$HOME", VENV)
    names = re.findall(r"\$\{?([A-Za-z_][A-Za-z0-9_]*)", path)
    if unset := [name for name in names if not os.environ.get(name)]:
        return f'"{path}"', unset
    return shlex.quote(str(PROJECT / os.path.expandvars(path))), []


def installation(venv: str) -> list[str]:
    """The commands that make the virtual environment, if there is to be one, and install into it."""
    if not VENV:
        return ["python3 -m pip install --editable '.[dev]'"]
    pip = f"{venv}/bin/python -m pip install"
    commands = [f"python3 -m venv {venv}", f"{pip} --editable '.[dev]'"]
    if "git+file:" in Path("pyproject.toml").read_text("utf-8"):  # which older ones refuse
        commands.insert(1, f"{pip} 'pip>=24.1'")
    if shutil.which("uv"):
        make = f'uv venv --allow-existing --python "$(command -v python3)" {venv}'
        commands = [make, f"{UV} pip install --python {venv}/bin/python pip --editable '.[dev]'"]
    return [*commands, f"{PYTHON} -m pip install --editable ."] if IS_COMMAND else commands


def install(venv: str, unset: list[str], commands: list[str]) -> tuple[str, list[str]]:
    """Run the commands: what became of that, and those that are left."""
    if IS_COMMAND or not VENV:
        return (
            "No virtual environment was made, as jobs start Python in another way. Then:",
            commands,
        )
    if unset:
        return f"python needs variables that are not set: {', '.join(unset)}. Then:", commands
    folder = Path(*shlex.split(venv))
    if os.path.lexists(str(folder)) and not (folder.is_dir() and not any(folder.iterdir())):
        return f"{folder} was there before and is left alone. To install into it:", commands[1:]
    say(f"Making the virtual environment {folder} and installing into it:")
    script = ["bash", "-c", " && ".join([*PREPARE, CHECK, *commands])]
    status = subprocess.run(script, stdin=subprocess.DEVNULL, env=ENV).returncode
    if status or not (folder / "bin" / "python").exists():
        return f"The virtual environment failed (exit status {status}). To repeat it:", commands
    return f"The virtual environment {folder} is ready.", []


def finish(venv: str, unset: list[str]) -> list[str]:
    """Do what can be done, say what became of it; the commands that are left."""
    git_left, left, outcome = [START], installation(venv), ""
    try:
        said, git_left = repository()
        say(said)
        if WANTED.lower() in ("yes", "y", "true"):
            outcome, left = install(venv, unset, left)
    except (Exception, KeyboardInterrupt) as error:
        outcome = f"{'Interrupted' if isinstance(error, KeyboardInterrupt) else error}; to go on:"
    if outcome:
        say("\n  ".join([outcome, " && ".join([CD, *PREPARE, *left])] if left else [outcome]))
    return [*git_left, *filter(None, [COMMANDS]), *left]


def main(library: str) -> None:
    """Finish the project and number the next steps."""
    say(f"\n{ANSWERS['project_name']} is in {PROJECT}.\n{library}")
    venv, unset = venv_in_shell()
    command = f"python -m {ANSWERS['__package']}"
    steps = [
        CD,
        *finish(venv, unset),
        *([f"source {venv}/bin/activate"] if VENV else []),
        "pytest",
        "hpc doctor" if shutil.which("sbatch") else f"{command} +setup=local lr=0.1,0.01",
        f"{command} +setup=hpc_debug",
    ]
    lines = [f"  {n}. ".ljust(5) + step.replace("\n", "\n     ") for n, step in enumerate(steps, 1)]
    say("\nNext:\n" + "\n".join(lines) + f"\n{ANSWERS.get('__warnings', '')}")


# `cruft update` and `cruft diff` generate into a directory of tempfile's below the temporary one and take
# whatever is there for the template's; the others, `cruft create` too, generate for good.
TEMPORARY = re.escape(str(Path(tempfile.gettempdir()).resolve())) + "/tmp[a-z0-9_]{8}/"
try:
    library = name_library()
    if not (CRUFT and re.match(TEMPORARY, f"{PROJECT}/")):
        main(library)
except BaseException as error:  # such as a second Ctrl-C
    say(f"The files are complete; the rest was not done: {error!r}")
finally:
    os._exit(0)
