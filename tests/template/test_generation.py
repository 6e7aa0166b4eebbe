"""cookiecutter as its users call it: what is generated, and what is refused."""

import json
import re
import sys
from pathlib import Path

import pytest
import yaml
from running import LIGHT, TEMPLATE, cookiecutter, light_copy, run

PROJECT = "hpc-experiment"
QUESTIONS = json.loads((TEMPLATE / "cookiecutter.json").read_text())
DEFAULTS = {name: answer for name, answer in QUESTIONS.items() if not name.startswith("_")}
DEFAULTS["project_slug"] = PROJECT
PLAIN_FACTS = {
    "GPU_PARTITION": "gpu",
    "GPUS_PER_NODE": 4,
    "GPU_REQUEST": "gres=gpu:{n}",
    "GPU_TYPES": {},
    "CPU_PARTITION": "cpu",
    "ACCOUNT": "",
    "GPU_SBATCH": "",
    "CPU_SBATCH": "",
    "SETUP_COMMANDS": "",
    "PYTHON": ".venv",
    "OUTPUT_DIR": "outputs",
    "WANDB_MODE": "offline",
    "SIGNAL_POLICY": "checkpoint",
}


def facts(project: Path) -> dict[str, object]:
    """The constants of the generated cluster.py."""
    values: dict[str, object] = {}
    exec((next(project.glob("src/*/cluster.py"))).read_text(), values)
    return {name: value for name, value in values.items() if name.isupper()}


def published(folder: Path) -> Path:
    """A repository with the template as it is in the working tree, as far as it takes to generate."""
    # By `.git` in its name cookiecutter knows a repository.
    repository = light_copy(folder / "hpc-hydra-template.git")
    run("git", "init", "--quiet", cwd=repository)
    commit(repository, "first")
    return repository


def commit(repository: Path, message: str) -> str:
    """Commit everything; the commit."""
    run("git", "add", "--all", cwd=repository)
    done = run("git", "commit", "--quiet", "--message", message, cwd=repository)
    assert done.returncode == 0, done.stderr
    return run("git", "rev-parse", "HEAD", cwd=repository).stdout.strip()


def test_enter_is_a_good_answer_to_every_question(tmp_path: Path) -> None:
    done = cookiecutter("--no-input", LIGHT, "create_venv=no", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    project = tmp_path / PROJECT
    assert facts(project) == PLAIN_FACTS
    log = run("git", "log", "--format=%s", cwd=project).stdout
    assert log == "Start HPC Experiment from hpc-hydra-template\n"
    assert run("git", "status", "--porcelain", cwd=project).stdout == ""
    left = [path for path in project.rglob("*") if path.is_file() and ".git" not in path.parts]
    for path in left:
        text = path.read_text()
        assert "cookiecutter." not in text and "{%" not in text, path
        assert text.endswith("\n") and not text.endswith("\n\n"), path


@pytest.mark.parametrize(
    ("title", "folder"),
    [
        ("Contrastive Representation Learning for the Climate", "contrastive-representation-for"),
        ("3D Nets", "exp-3d-nets"),
    ],
)
def test_whatever_the_title_is(title: str, folder: str, tmp_path: Path) -> None:
    """The name that comes of it is one that is taken."""
    given = (f"project_name={title}", "create_venv=no")
    done = cookiecutter("--no-input", LIGHT, *given, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / folder / "src" / folder.replace("-", "_")).is_dir()


def test_from_a_git_url_with_answers_on_the_command_line(tmp_path: Path) -> None:
    answers = {
        "project_name": 'The "best" of Zoë\'s nets',
        "project_slug": "best-nets",
        "gpu_partition": "",
        "gpus_per_node": "8",
        "gpu_request": "gpus-per-node=a100:{n}",
        "gpu_sbatch": 'constraint="a100&80gb" comment=\'it"s\'',
        "setup_commands": "module purge; export PATH=${HOME}/bin:$PATH",
        "wandb_mode": "online",
        "signal_policy": "ignore",
        "create_venv": "no",
    }
    clone = published(tmp_path)
    given = [f"{name}={answer}" for name, answer in answers.items()]
    done = cookiecutter("--no-input", f"file://{clone}", *given, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    found = facts(tmp_path / "best-nets")
    for name in ("gpu_request", "gpu_sbatch", "setup_commands", "gpu_partition", "wandb_mode"):
        assert found[name.upper()] == answers[name]
    assert found["GPUS_PER_NODE"] == 8
    assert (tmp_path / "best-nets" / "src" / "best_nets" / "__main__.py").exists()
    title = (tmp_path / "best-nets" / "README.md").read_text().partition("\n")[0]
    assert title == f"# {answers['project_name']}"


def test_blank_answers_of_every_kind_leave_lines_out(tmp_path: Path) -> None:
    answers = tmp_path / "lab.yaml"
    context = {"account": None, "gpu_partition": " ", "python": "  ", "gpus_per_node": 8}
    answers.write_text(yaml.safe_dump({"default_context": context}))
    done = cookiecutter(
        "--no-input", "--config-file", answers, LIGHT, "create_venv=no", cwd=tmp_path
    )
    assert done.returncode == 0, done.stderr
    found = facts(tmp_path / PROJECT)
    assert (found["ACCOUNT"], found["GPU_PARTITION"], found["PYTHON"]) == ("", "", "")
    assert found["GPUS_PER_NODE"] == 8
    assert "-m venv" not in (tmp_path / PROJECT / "README.md").read_text()
    assert "  2. python3 -m pip install" in done.stdout


@pytest.mark.parametrize("way", ["option", "variable", "home"])
def test_with_a_labs_answers_file(way: str, tmp_path: Path) -> None:
    answers = tmp_path / (".cookiecutterrc" if way == "home" else "lab.yaml")
    context = {"project_name": "Tides", "account": "ocean", "output_dir": "$SCRATCH/tides"}
    answers.write_text(yaml.safe_dump({"default_context": context}))
    option = ["--config-file", str(answers)] if way == "option" else []
    variable = {"COOKIECUTTER_CONFIG": str(answers)} if way == "variable" else {}
    done = cookiecutter(
        "--no-input", *option, str(LIGHT), "create_venv=no", cwd=tmp_path, **variable
    )
    assert done.returncode == 0, done.stderr
    assert facts(tmp_path / "tides")["OUTPUT_DIR"] == "$SCRATCH/tides"
    assert facts(tmp_path / "tides")["ACCOUNT"] == "ocean"


@pytest.mark.parametrize(
    ("answers", "ignored"),
    [
        ({"output_dir": "out*/[a] ?", "python": "#v,b/c/"}, ["out*/[a] ?", "#v,b/c"]),
        ({"output_dir": "$SCRATCH/x", "python": "/venvs/x"}, []),
        ({"output_dir": "../x", "python": "~/x"}, []),
        # What submits has an environment of its own there.
        ({"output_dir": "../x", "python": "apptainer exec x.sif python"}, [".venv"]),
    ],
)
def test_git_ignores_what_the_answers_put_into_the_repository(
    answers: dict[str, str], ignored: list[str], tmp_path: Path
) -> None:
    given = [f"{name}={answer}" for name, answer in answers.items()]
    assert cookiecutter("--no-input", LIGHT, "create_venv=no", *given, cwd=tmp_path).returncode == 0
    project = tmp_path / PROJECT
    lines = (project / ".gitignore").read_text().splitlines()
    assert len(lines) == len(ignored) + 6
    (project / "outside").mkdir()
    (project / "outside" / "file").touch()
    for folder in ignored:
        (project / folder).mkdir(parents=True)
        (project / folder / "file").touch()
    status = run("git", "status", "--porcelain", cwd=project).stdout
    assert status == "?? outside/\n"


# Answers that are refused, each with a part of what is said of it.
REFUSED = {
    "project_name": [
        ("", "is blank; an example: HPC Experiment"),
        ("a\nb", "control character"),
        ("a\tb", "control character"),
    ],
    "project_slug": [
        ("class", "is a name that Python or a package needs; an example: my-experiment"),
        ("Nets", "is no name for a package"),
        *[(slug, "is no name for a package") for slug in ("3d-nets", "my nets", "-nets", "a--b")],
        *[
            (slug, "or a package needs")
            for slug in ("hydra-zen", "rich", "json", "torch", "test-task", "squeue")
        ],
        ("a" * 37, "up to 36 small letters"),
        ("nets ", "is no name for a package"),
    ],
    "gpus_per_node": [(count, "is no whole number") for count in ("", "-1", "1.5", "four", "04")],
    "gpu_request": [
        ("gres=gpu:4", "lacks {n}, their number"),
        ("-G {n}", "holds '-G={n}', which is written gpus={n} here"),
        ("gres=gpu:{N}", "holds a brace"),
    ],
    "gpu_sbatch": [
        ('constraint="a100', "a quotation mark without its partner"),
        ("time=soon", "holds 'time=soon', which is no time limit such as time=30"),
        ("time=1:2:3:4", "no time limit"),
        ("nodes=many ntasks=0", "no number such as 1; and it holds 'ntasks=0'"),
        ("comment=$(id)", "holds a $ that begins no variable"),
        ("comment=a\\ b", "holds a backslash"),
        ("mem={n*10}G", "holds a brace; only {n} and {10n}"),
        ("signal=USR1@30", "holds 'signal=USR1@30', which the launcher sets"),
        ("array=1-3", "holds 'array=1-3', which the launcher sets"),
        ("comment=???", "which Hydra takes for a missing value"),
        (
            "mail-type=BEGIN mail-type=END",
            "repeats mail-type; once will do, as in gres=gpu:{n},tmpdisk:10",
        ),
        ("--partition gpu", "holds '--partition', which lacks its value; an example: mem=40G"),
        ("gres=tmpdisk:10", "repeats gres; once will do"),
        ("-p long array=1", "which is written partition=long here; and it holds 'array=1', which"),
        (
            "-c 10 -N2",
            "written cpus-per-task=10 here; and it holds '-N2', which is written nodes=2 here",
        ),
        (
            "-t 1:00 -A=x",
            "written time=1:00 here; and it holds '-A=x', which is written account=x here",
        ),
        (
            "-q -n",
            "which is written qos=VALUE here; and it holds '-n', which is written ntasks=VALUE",
        ),
        ("srun:ntasks-per-gpu=all", "is no number such as 1"),
        ("-Z", "no long option of sbatch such as qos=normal"),
    ],
    "cpu_sbatch": [
        ("-C a", "which is written constraint=a here"),
        ("debug:time=20", "hpc_debug is a GPU job: put that into gpu_sbatch"),
        ("{{", "holds {{, which cookiecutter evaluates; put a space between the two"),
        ("mem={n}G", "holds a brace"),
    ],
    "account": [("two words", "holds what no name on a cluster has; an example: ")],
    "setup_commands": [
        ("module load 'python", "is refused by bash: bash: line 1: unexpected EOF"),
        ("cat <<END", "here-document"),
        (
            "a=(1 2); echo ${#a[@]}",
            "holds {#, which cookiecutter evaluates; source a file that holds it",
        ),
        ("module load x \\", "ends with a backslash"),
        ("#SBATCH --array=0-3\ntrue", "holds an #SBATCH line; that goes into gpu_sbatch"),
    ],
    "python": [
        ('a"b', 'holds "'),
        ("~other/venv", "begins as an option or as another user's home"),
        ("tests", "is a part of the repository; an example: .venv"),
        ("/a:/b", "holds :"),
        ("x" * 300, "is too long for a path"),
        ("apptainer exec x.sif; python", "is more than one command; an example: bash -c 'source"),
        ("run $(pwd)/python", "is more than one command"),
        ("run 'x.sif python", "has a quotation mark without its partner"),
        ("run ${x:-y} python", "holds ${ that begins no variable such as ${WORK}"),
        ("run a\\ b python", "holds a backslash"),
    ],
    "output_dir": [
        (" ", "is blank; an example: outputs"),
        ("./results", "is not the shortest way to write it; an example: results, not ./"),
        ("$(pwd)/x", "holds a $ that begins no variable such as $USER"),
        ("src/x", "is a part of the repository"),
        ("$USER-out", "begins with a variable that is not the whole folder"),
        ("100%", "holds %"),
        ("a\u202eb", "holds a control character or an invisible one"),
    ],
    "wandb_mode": [("of", "is none of: offline, online, disabled")],
    "signal_policy": [("", "is none of: checkpoint, ignore")],
    "library": [
        (answer, "is no requirement of hpc-hydra; an example: hpc-hydra>=0.2 or hpc-hydra @ git+")
        for answer in (
            "hydra-core>=1.3",
            "0.2",
            "../hpc-hydra",
            "hpc-hydra=0.2",
            "hpc-hydra @ /somewhere",
            "hpc-hydra-template>=1",
            "hpc-hydra @ git+https://x.org/a b",
            "hpc-hydra[dev",
        )
    ],
    "create_venv": [("perhaps", "is neither yes nor no")],
}


@pytest.mark.parametrize("row", range(max(map(len, REFUSED.values()))))
def test_all_faults_are_named_at_once_and_nothing_is_left(row: int, tmp_path: Path) -> None:
    refused = {name: rows[row] for name, rows in REFUSED.items() if row < len(rows)}
    answers = tmp_path / "replay" / "answers.json"
    answers.parent.mkdir()
    given = {**DEFAULTS, **{name: answer for name, (answer, _) in refused.items()}}
    given["__package"] = given["project_slug"].replace("-", "_")
    answers.write_text(json.dumps({"cookiecutter": given}))
    done = cookiecutter("--replay-file", answers, LIGHT, cwd=tmp_path)
    assert done.returncode != 0
    for name, (answer, fault) in refused.items():
        (line,) = (line for line in done.stderr.splitlines() if line.startswith(f"  - {name}: "))
        assert repr(answer.strip() if name != "project_slug" else answer) in line
        assert fault in line
    assert done.stderr.count("\n  - ") == len(refused)
    assert f"cookiecutter --no-input {LIGHT} \\\n    project_name=" in done.stderr
    assert f"cookiecutter --replay {LIGHT}" in done.stderr
    assert "Traceback" not in done.stderr
    assert visible(tmp_path) == ["replay"]


def test_no_repository_is_called_like_what_it_installs() -> None:
    """Its own package would stand in the place of that one."""
    projects = (
        TEMPLATE / "pyproject.toml",
        TEMPLATE / "{{cookiecutter.project_slug}}" / "pyproject.toml",
    )
    text = "".join(path.read_text().partition("[dependency-groups]")[0] for path in projects)
    needed = re.findall(r'"([a-z][a-z-]+)(?:\[[a-z,]+\])?[<>]=', text)
    hook = (TEMPLATE / "hooks" / "pre_gen_project.py").read_text()
    taken = hook.partition('TAKEN = """')[2].partition('"""')[0].split()
    assert "rich" in needed and {name.replace("-", "_") for name in needed} <= {*taken}


def visible(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir() if not path.name.startswith(".")]


def test_the_command_that_is_proposed_takes_the_other_answers_along(tmp_path: Path) -> None:
    odd = 'it\'s "$HOME" `x` #1; é'
    refused = cookiecutter(
        "--no-input",
        LIGHT,
        "create_venv=no",
        f"project_name={odd}",
        "project_slug=class",
        cwd=tmp_path,
    )
    _, _, command = refused.stderr.partition("Correct them in this command:\n")
    command = command.partition("\nor in ")[0].replace("project_slug=class", "project_slug=classes")
    program = f"{Path(sys.executable).with_name('cookiecutter')} "
    done = run(
        "bash", "-c", command.replace("cookiecutter ", program, 1), cwd=tmp_path, HOME=str(tmp_path)
    )
    assert done.returncode == 0, done.stderr
    text = (tmp_path / "classes" / "pyproject.toml").read_text()
    assert f"description = {json.dumps(odd, ensure_ascii=False)}\n" in text


def test_a_refused_answer_can_be_corrected(tmp_path: Path) -> None:
    refused = cookiecutter(
        "--no-input", LIGHT, "create_venv=no", "project_slug=class", "account=a", cwd=tmp_path
    )
    assert refused.returncode != 0
    replay = tmp_path / ".cookiecutter_replay" / f"{TEMPLATE.name}.json"
    answers = json.loads(replay.read_text())
    answers["cookiecutter"]["project_slug"] = "classes"
    replay.write_text(json.dumps(answers))
    refused = cookiecutter("--replay", LIGHT, cwd=tmp_path)
    assert "project_slug: 'classes' is not what __package says; change that too" in refused.stderr
    answers["cookiecutter"]["__package"] = "classes"
    replay.write_text(json.dumps(answers))
    assert cookiecutter("--replay", LIGHT, cwd=tmp_path).returncode == 0
    assert facts(tmp_path / "classes")["ACCOUNT"] == "a"


def test_git_that_refuses_costs_no_files(tmp_path: Path) -> None:
    anonymous = tmp_path / "gitconfig"
    anonymous.write_text("[user]\n\tuseConfigOnly = true\n")
    done = cookiecutter(
        "--no-input", LIGHT, "create_venv=no", cwd=tmp_path, GIT_CONFIG_GLOBAL=str(anonymous)
    )
    assert done.returncode == 0
    assert "without a commit: set user.name and user.email" in done.stdout
    assert (tmp_path / PROJECT / "README.md").exists()


def test_outputs_in_the_virtual_environment(tmp_path: Path) -> None:
    done = cookiecutter("--no-input", LIGHT, "create_venv=no", "python=outputs", cwd=tmp_path)
    assert "python: 'outputs' is the output_dir too; an example: .venv" in done.stderr


def test_other_types_of_an_answers_file(tmp_path: Path) -> None:
    """YAML takes `on` and `no` for booleans."""
    answers = tmp_path / "lab.yaml"
    answers.write_text(
        "default_context:\n  gpu_partition: on\n  output_dir: no\n  account: {a: b}\n"
    )
    done = cookiecutter(
        "--no-input", "--config-file", answers, LIGHT, "create_venv=no", cwd=tmp_path
    )
    assert done.returncode != 0
    for name, value in (
        ("gpu_partition", "'True'"),
        ("output_dir", "'False'"),
        ("account", "\"{'a': 'b'}\""),
    ):
        assert f"{name}: {value} is no text; put it between quotation marks" in done.stderr


@pytest.mark.parametrize("way", ["option", "equals", "home", "typed"])
def test_what_is_a_comment_to_cookiecutter_is_no_traceback(way: str, tmp_path: Path) -> None:
    """Bash has `${#list[@]}`, and cookiecutter evaluates the answers that it takes from a file."""
    commands = "setup_commands: 'list=(a); echo ${#list[@]}'"
    file = tmp_path / (".cookiecutterrc" if way == "home" else "lab.yaml")
    file.write_text(f"default_context:\n  {commands}\n")
    options: dict[str, list[str | Path]] = {
        "option": ["--config-file", file, LIGHT],
        "equals": [f"--config-file={file}", LIGHT],
        "home": [LIGHT],
        "typed": [LIGHT, "setup_commands=echo ${#list[@]}"],
    }
    if way == "typed":
        file.unlink()
    done = cookiecutter("--no-input", *options[way], cwd=tmp_path)
    assert done.returncode != 0
    assert done.stderr.startswith("An answer holds {#, a comment to cookiecutter; source a file")
    assert "Traceback" not in done.stderr
    assert not (tmp_path / PROJECT).exists()


def test_nothing_is_run_that_lies_in_the_temporary_folder(tmp_path: Path) -> None:
    """It is everybody's, and cookiecutter puts the hooks there."""
    (tmp_path / ".tmp").mkdir()
    for module in ("json", "keyword", "shlex", "contextlib", "subprocess", "pathlib"):
        (tmp_path / ".tmp" / f"{module}.py").write_text("raise SystemExit('foreign code was run')")
    done = cookiecutter("--no-input", LIGHT, "create_venv=no", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "It is a git repository with a first commit." in done.stdout


def test_the_repository_of_a_git_hook_is_left_alone(tmp_path: Path) -> None:
    run("git", "init", "other", cwd=tmp_path)
    other = tmp_path / "other" / ".git"
    variables = {"GIT_DIR": str(other), "GIT_INDEX_FILE": str(other / "index")}
    done = cookiecutter("--no-input", LIGHT, "create_venv=no", cwd=tmp_path, **variables)
    assert "It is a git repository with a first commit." in done.stdout
    assert not (other / "index").exists()
    assert (tmp_path / PROJECT / ".git" / "index").exists()


@pytest.mark.parametrize("framework", ["scikit-learn", "pytorch"])
def test_what_is_emitted_stays_small(framework: str, tmp_path: Path) -> None:
    """It belongs to its users, who are to read all of it."""
    answers = (f"framework={framework}", "create_venv=no")
    done = cookiecutter("--no-input", LIGHT, *answers, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    for files, most in (("src/*/*.py", 450), ("tests/*.py", 200), ("README.md", 150)):
        lines = [len(path.read_text().splitlines()) for path in (tmp_path / PROJECT).glob(files)]
        assert 0 < sum(lines) <= most, files
