"""What the generator does after the files: repository, virtual environment, next steps; whatever fails,
the files stay, and what is said can be typed."""

import os
import re
import signal
import subprocess
from contextlib import suppress
from pathlib import Path

import pytest
import yaml
from running import (
    LIGHT,
    TEMPLATE,
    TOOLS,
    Ended,
    Project,
    cookiecutter,
    environment,
    home,
    path_with,
    run,
)
from test_generation import published
from test_pre_prompt import old_pythons

HOSTILE = "v-é'n'v;(touch,x)&*#"


def next_steps(said: str) -> list[str]:
    return re.findall(r"^  \d+\. (.*)$", said, re.MULTILINE)


def to_repeat(said: str) -> str:
    """The one command line that finishes what could not be done."""
    (line,) = re.findall(r"^  (cd .*)$", said, re.MULTILINE)
    return str(line)


def in_bash(*commands: str, cwd: Path, **variables: str) -> Ended:
    return run("bash", "-c", " && ".join(commands), cwd=cwd, **variables)


def command(folder: Path, name: str, script: str) -> None:
    """A program in place of another one."""
    program = folder / name
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)


def is_complete(project: Path) -> bool:
    """Every file is there and committed."""
    committed = run("git", "ls-files", cwd=project).stdout.splitlines()
    clean = run("git", "status", "--porcelain", cwd=project).stdout == ""
    return clean and "README.md" in committed and (project / "pyproject.toml").exists()


def test_installed_with_pip(tmp_path: Path) -> None:
    project, path = Project(tmp_path / "hpc-experiment"), path_with(tmp_path / "bin", "git")
    # With the packages of one extra only: pip takes its time for each, and uv installs all of them for other tests.
    library = f"library=hpc-hydra[wandb] @ file://{TEMPLATE}"
    ended = cookiecutter(
        "--no-input", TEMPLATE, "create_venv=yes", library,
        cwd=tmp_path, PATH=path, PIP_NO_COMPILE="no",  # which is how one says yes
    )  # fmt: skip
    assert ended.returncode == 0, ended.stderr
    assert "Installing collected packages" in ended.stdout  # progress is shown
    assert "It is a git repository with a first commit." in ended.stdout
    assert is_complete(project.path)
    cd, source, *others = next_steps(ended.stdout)
    assert [cd, source] == [f"cd {project.path}", f"source {project.path}/.venv/bin/activate"]
    assert [step.split("  ")[0] for step in others] == [
        "pytest",
        "python -m hpc_experiment +setup=local lr=0.1,0.01",
        "python -m hpc_experiment +setup=hpc_debug",
    ]
    typed = in_bash(cd, source, "command -v pytest", cwd=Path("/"))
    assert typed.stdout == f"{project.path}/.venv/bin/pytest\n"


def test_installed_with_uv_after_a_failure(tmp_path: Path) -> None:
    """No network at first; then the line that was given is typed. The site's Python is used."""
    path = path_with(tmp_path / "bin", "git", TOOLS / "uv")
    site = Path(path_with(tmp_path / "it's the site's"))
    command(site, "python3", f': >{tmp_path}/used; exec {tmp_path}/bin/python3 "$@"')
    setup = f'export PATH="{site}:$PATH"; # a comment'
    given = ["create_venv=yes", f"python={HOSTILE}", f"setup_commands={setup}"]
    offline = {"UV_OFFLINE": "1", "UV_CACHE_DIR": f"{tmp_path}/empty"}
    done = cookiecutter("--no-input", TEMPLATE, *given, cwd=tmp_path, PATH=path, **offline)
    project = tmp_path / "hpc-experiment"
    assert done.returncode == 0, done.stderr
    assert "The virtual environment failed (exit status 1). To repeat it:" in done.stdout
    assert (tmp_path / "used").exists()
    assert is_complete(project)
    assert not (project / "x").exists()

    repeated = in_bash(to_repeat(done.stdout), cwd=tmp_path, PATH=path)
    assert repeated.returncode == 0, repeated.stderr
    cd, prepare, *again, source, _, _, _ = next_steps(done.stdout)
    assert prepare == setup
    assert [step.split()[:2] for step in again] == [
        ["uv", "venv"],
        ["UV_SYSTEM_CERTS=1", "UV_NATIVE_TLS=1"],
    ]
    python = "python -c 'import hpc_experiment' && python -m pip --version"
    typed = in_bash(f"{cd}\n{prepare}\n{source}", python, cwd=tmp_path)
    assert typed.returncode == 0, typed.stderr
    assert is_complete(project)


def test_on_a_login_node_nothing_is_trained(tmp_path: Path) -> None:
    """Where there is Slurm, the step before the first job is to look whether it could run."""
    path = path_with(tmp_path / "bin", "git")
    command(tmp_path / "bin", "sbatch", ":")
    done = cookiecutter("--no-input", LIGHT, "create_venv=no", cwd=tmp_path, PATH=path)
    last = ["hpc doctor", "python -m hpc_experiment +setup=hpc_debug"]
    assert next_steps(done.stdout)[-2:] == last


def test_venv_that_fails(tmp_path: Path) -> None:
    """As where Debian's python3-venv is not installed, or the disk is full."""
    path = path_with(tmp_path / "bin", "git")
    fails = 'if [ "$2" = venv ]; then printf "<%s>" "$@"; exit 3; fi'
    command(tmp_path / "bin", "python3", f'{fails}; exec {TOOLS}/python3 "$@"')
    given = ["create_venv=yes", f"python={HOSTILE}"]
    done = cookiecutter("--no-input", LIGHT, *given, cwd=tmp_path, PATH=path)
    project = tmp_path / "hpc-experiment"
    assert done.returncode == 0, done.stderr
    assert f"<-m><venv><{project}/{HOSTILE}>" in done.stdout
    assert "The virtual environment failed (exit status 3). To repeat it:" in done.stdout
    assert to_repeat(done.stdout).endswith("/bin/python -m pip install --editable '.[dev]'")
    assert is_complete(project)


@pytest.mark.parametrize(
    ("answer", "asked"),
    [
        ("yes", True),
        (" Yes", True),
        ("y", True),
        (True, True),
        ("no", False),
        (False, False),
        ("", False),
        (None, True),
    ],
)
def test_answers_of_every_kind(answer: object, asked: bool, tmp_path: Path) -> None:
    """A file with a lab's answers has `create_venv: yes`, which is a boolean."""
    path = path_with(tmp_path / "bin", "git")
    command(tmp_path / "bin", "uv", 'echo "uv $*"')
    given = {} if answer is None else {"create_venv": answer}  # it is asked for by default
    answers = tmp_path / "lab.yaml"
    answers.write_text(yaml.safe_dump({"default_context": given}))
    done = cookiecutter("--no-input", "--config-file", answers, LIGHT, cwd=tmp_path, PATH=path)
    assert done.returncode == 0, done.stderr
    venv = tmp_path / "hpc-experiment" / ".venv"
    make = f'uv venv --allow-existing --python "$(command -v python3)" {venv}'
    install = f"UV_SYSTEM_CERTS=1 UV_NATIVE_TLS=1 uv pip install --python {venv}/bin/python pip --editable '.[dev]'"
    assert (f"\nuv venv --allow-existing --python {path}/python3 {venv}\n" in done.stdout) == asked
    assert next_steps(done.stdout)[1:3] == [make, install]  # this uv makes nothing


@pytest.mark.parametrize(
    ("answers", "said"),
    [
        ({"setup_commands": "module load nothing"}, "failed (exit status 127). To repeat it:"),
        ({"setup_commands": "exit 0"}, "failed (exit status 0). To repeat it:"),
        ({"python": " "}, "  2. python3 -m pip install --editable '.[dev]'"),
        (
            {"python": " "},
            "No virtual environment was made, as jobs start Python in another way. Then:",
        ),
    ],
)
def test_nothing_can_be_made(answers: dict[str, str], said: str, tmp_path: Path) -> None:
    path = path_with(tmp_path / "bin", "git")
    given = [f"{name}={answer}" for name, answer in answers.items()]
    done = cookiecutter("--no-input", LIGHT, "create_venv=yes", *given, cwd=tmp_path, PATH=path)
    assert done.returncode == 0, done.stderr
    assert said in done.stdout
    assert is_complete(tmp_path / "hpc-experiment")
    assert not list(tmp_path.glob("**/pyvenv.cfg"))


@pytest.mark.parametrize(
    "python",
    [
        "./select_gpu .venv/bin/python",
        "apptainer exec --nv $WORK/x.sif python",
        "bash -c 'source /ext3/env.sh; exec python \"$@\"' bash",
    ],
)
def test_a_command_that_starts_python(python: str, tmp_path: Path) -> None:
    """What it starts is not ours to make: it is said what to type, on the terminal and in the README."""
    path = path_with(tmp_path / "bin", "git")
    done = cookiecutter("--no-input", LIGHT, f"python={python}", cwd=tmp_path, PATH=path)
    assert (done.returncode, done.stderr) == (0, "")
    assert (
        "No virtual environment was made, as jobs start Python in another way. Then:" in done.stdout
    )
    assert to_repeat(done.stdout).endswith(f" && {python} -m pip install --editable .")
    project = tmp_path / "hpc-experiment"
    steps = next_steps(done.stdout)
    assert steps[1:5] == [
        f"python3 -m venv {project}/.venv",
        f"{project}/.venv/bin/python -m pip install --editable '.[dev]'",
        f"{python} -m pip install --editable .",
        f"source {project}/.venv/bin/activate",
    ]
    typed = [
        'python3 -m venv ".venv"', 'source ".venv/bin/activate"', 'pip install -e ".[dev]"',
        f"{python} -m pip install -e .", "pytest",
    ]  # fmt: skip
    readme = (project / "README.md").read_text()
    assert "\n".join(f"    {line}" for line in typed) in readme
    assert is_complete(project)
    assert not (project / ".venv").exists()


def test_commands_for_one_kind_of_job_are_typed_as_in_the_first_one(tmp_path: Path) -> None:
    path = path_with(tmp_path / "bin", "git")
    commands = "on_gpu echo cuda; on_cpu echo gcc"
    for gpus, loaded in (("4", "cuda"), ("0", "gcc")):
        given = [f"setup_commands={commands}", f"gpus_per_node={gpus}", "create_venv=no"]
        done = cookiecutter("--no-input", "-f", LIGHT, *given, cwd=tmp_path, PATH=path)
        assert done.returncode == 0, done.stderr
        said = done.stdout.partition("  2. ")[2].partition("  3. ")[0]
        readme = (tmp_path / "hpc-experiment" / "README.md").read_text()
        first = readme[readme.index("    on_") :].partition("    python3 ")[0]
        for lines in (said, first):
            assert run("bash", "-c", lines, cwd=tmp_path).stdout == f"{loaded}\n"


def test_a_variable_that_is_not_set(tmp_path: Path) -> None:
    path = path_with(tmp_path / "bin", "git")
    command(tmp_path / "bin", "uv", 'printf "<%s>" "$@"')
    given = ["create_venv=yes", "python=$NOWHERE/it's-mine"]
    done = cookiecutter("--no-input", LIGHT, *given, cwd=tmp_path, PATH=path)
    assert "variables that are not set: NOWHERE. Then:" in done.stdout
    assert is_complete(tmp_path / "hpc-experiment")
    typed = in_bash(to_repeat(done.stdout), cwd=tmp_path, PATH=path, NOWHERE="/some where")
    assert f"<{path}/python3></some where/it's-mine>" in typed.stdout
    assert "<--python></some where/it's-mine/bin/python><pip><--editable>" in typed.stdout


def test_variables_and_home(tmp_path: Path) -> None:
    path = path_with(tmp_path / "bin", "git")
    for answer, folder in (("~/a", f"{tmp_path}/a"), ("${WORK}/b", "/work/b"), ("c", None)):
        given = [f"python={answer}", f"project_name={answer[-1]}x"]
        done = cookiecutter(
            "--no-input", LIGHT, *given, "create_venv=no", cwd=tmp_path, PATH=path, WORK="/work"
        )
        assert f"python3 -m venv {folder or tmp_path / 'cx' / 'c'}" in next_steps(done.stdout)


def test_a_folder_of_someone_else(tmp_path: Path) -> None:
    path = path_with(tmp_path / "bin", "git")
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "data").write_text("precious")
    given = ["create_venv=yes", f"python={mine}"]
    done = cookiecutter("--no-input", LIGHT, *given, cwd=tmp_path, PATH=path)
    assert f"{mine} was there before and is left alone. To install into it:" in done.stdout
    assert to_repeat(done.stdout) == (
        f"cd {tmp_path}/hpc-experiment && {mine}/bin/python -m pip install --editable '.[dev]'"
    )
    assert [(path.name, path.read_text()) for path in mine.iterdir()] == [("data", "precious")]


def test_an_old_python(tmp_path: Path) -> None:
    python = next(iter(old_pythons().values()), None)
    if python is None:
        pytest.skip("needs a Python 3.8 or 3.9: uv python install 3.9")
    path = path_with(tmp_path / "bin", "git")
    command(tmp_path / "bin", "python3", f'exec {python} "$@"')
    done = cookiecutter("--no-input", TEMPLATE, "create_venv=yes", cwd=tmp_path, PATH=path)
    assert done.returncode == 0
    assert re.search(r"python3 is 3\.[89]\.\d+, but 3\.10 or newer is needed", done.stderr)
    assert is_complete(tmp_path / "hpc-experiment")
    assert not (tmp_path / "hpc-experiment" / ".venv").exists()


def test_an_old_pip_is_replaced_where_the_repository_is_on_this_machine(tmp_path: Path) -> None:
    """To pip 23.2, which comes with Python 3.11, git+file:///… is no URL."""
    path = path_with(tmp_path / "bin", "git")
    template = published(tmp_path)
    newer = f"{tmp_path}/hpc-experiment/.venv/bin/python -m pip install 'pip>=24.1'"
    for address, wanted in ((f"file://{template}", True), (str(template), False)):
        done = cookiecutter("--no-input", "-f", address, "create_venv=no", cwd=tmp_path, PATH=path)
        assert done.returncode == 0, done.stderr
        assert (newer in next_steps(done.stdout)) == wanted


def test_interrupted(tmp_path: Path) -> None:
    """Ctrl-C while it installs, as a terminal sends it: to all processes."""
    path = path_with(tmp_path / "bin", "git", "sleep")
    command(tmp_path / "bin", "uv", "echo begun; exec sleep 300")
    process = subprocess.Popen(
        [TOOLS / "cookiecutter", "--no-input", LIGHT, "create_venv=yes"],
        cwd=tmp_path,
        env=environment({**home(tmp_path), "PATH": path}),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    assert process.stdout
    try:
        assert any(line == "begun\n" for line in process.stdout)
        os.killpg(process.pid, signal.SIGINT)
        said, _ = process.communicate(timeout=60)
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
    project = tmp_path / "hpc-experiment"
    assert "Interrupted; to go on:" in said
    assert to_repeat(said).startswith(f"cd {project} && uv venv ")
    words = [step.split()[:2] for step in next_steps(said)[:3]]
    assert words == [["cd", str(project)], ["uv", "venv"], ["UV_SYSTEM_CERTS=1", "UV_NATIVE_TLS=1"]]
    assert "Traceback" not in said
    assert is_complete(project)


def test_without_git(tmp_path: Path) -> None:
    path = path_with(tmp_path / "bin")
    done = cookiecutter("--no-input", LIGHT, "create_venv=no", cwd=tmp_path, PATH=path)
    assert done.returncode == 0, done.stderr
    assert "git is not installed: no repository was made." in done.stdout
    assert not any("git " in step for step in next_steps(done.stdout))
    assert not (tmp_path / "hpc-experiment" / ".git").exists()


def test_the_commit_that_is_left_can_be_typed(tmp_path: Path) -> None:
    anonymous = tmp_path / "gitconfig"
    anonymous.write_text("[user]\n\tuseConfigOnly = true\n")
    name = 'Zoë\'s "nets" $(touch x)'
    given = [f"project_name={name}", "project_slug=nets"]
    done = cookiecutter(
        "--no-input",
        LIGHT,
        *given,
        "create_venv=no",
        cwd=tmp_path,
        GIT_CONFIG_GLOBAL=str(anonymous),
    )
    assert "without a commit: set user.name and user.email" in done.stdout
    cd, commit, *_ = next_steps(done.stdout)
    typed = in_bash(cd, commit, cwd=tmp_path)
    assert typed.returncode == 0, typed.stderr
    log = run("git", "log", "--format=%s", cwd=tmp_path / "nets").stdout
    assert log == f"Start {name} from hpc-hydra-template\n"
    assert is_complete(tmp_path / "nets")


def test_in_a_repository_nothing_is_committed(tmp_path: Path) -> None:
    assert run("git", "init", "--quiet", cwd=tmp_path).returncode == 0
    done = cookiecutter("--no-input", LIGHT, "create_venv=no", cwd=tmp_path)
    assert "It lies in a git repository already: commit it there." in done.stdout
    assert not (tmp_path / "hpc-experiment" / ".git").exists()
    assert run("git", "ls-files", cwd=tmp_path).stdout == ""


def test_nobody_reads_what_is_said(tmp_path: Path) -> None:
    """`cookiecutter … | head -1`: the pipe is closed before the hook prints."""
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run(
        [TOOLS / "cookiecutter", "--no-input", LIGHT, "create_venv=no"],
        cwd=tmp_path,
        env=environment(home(tmp_path)),
        stdout=writer,
    )
    os.close(writer)
    assert done.returncode == 0
    assert is_complete(tmp_path / "hpc-experiment")
