"""No answer gives a repository that fails later: it is refused, or carried faithfully everywhere."""

import json
import os
import re
import shlex
import shutil
import sys
from collections.abc import Callable, Iterator, Mapping
from os.path import normpath
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
import yaml
from conftest import VARIABLES, JobScripts
from cookiecutter.exceptions import CookiecutterException, FailedHookException
from cookiecutter.main import cookiecutter
from hypothesis import HealthCheck, Phase, event, given, seed, settings
from hypothesis import strategies as st
from markdown_it import MarkdownIt
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from running import TEMPLATE, light_copy, run

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

DEFAULTS: dict[str, str] = {
    name: answer
    for name, answer in json.loads((TEMPLATE / "cookiecutter.json").read_text()).items()
    if not name.startswith("_")
}
PROJECT = "{{cookiecutter.project_slug}}"
RUFF = Path(sys.executable).with_name("ruff")
WRITTEN_BY_LAUNCHER = [
    "job-name", "nodes", "ntasks-per-node", "open-mode", "output", "requeue", "signal", "time",
]  # fmt: skip
# A job script that runs one of these leaves a file of this name.
CANARY = "canary"
NASTY = [
    *"abzXY019 \t'\"`\\$(){}[]<>|&;#%!*?~=:,.@+-_/^\néßж漢🚀",
    "\x00", "\x1b", "\r", "\u202e", "\u200b", "\ufeff", "\u2028", "\ud800", "e\u0301",
    f"$(touch {CANARY})", f"`touch {CANARY}`", f"; touch {CANARY}; ", f"\ntouch {CANARY}\n", "&& ",
    "{{ 7 * 7 }}", "{% raw %}", "{#", "{n}", "${oc.env:HOME}", "${HOME}", "$USER", "${x:-y}", "$1",
    "'''", '"""', "```", "~~~", "\\n", "\\", "%j", "%(x)s", "%%", "???", "null", "None", "<!--",
    "\n#SBATCH --wrap=x", "#!/bin/sh", "EOF", "--", "..", "$'", "<b>", "[a](b)", "&amp;", "1. ",
]  # fmt: skip
nasty = st.lists(st.sampled_from(NASTY), max_size=6).map("".join)
option = st.builds(
    lambda name, value: f"{name}={shlex.quote(value)}",
    st.sampled_from(["comment", "qos", "constraint", "mem", "srun:label", "debug:qos", "array"]),
    nasty,
)
word = st.one_of(option, st.sampled_from(["exclusive", "time=1-0", "nodes=", "ntasks=2"]), nasty)
path = st.builds(str.__add__, st.sampled_from(["", "/", "$SCRATCH/", "~/", "a b/", "../"]), nasty)
name = st.one_of(st.from_regex(r"[a-zA-Z0-9_.,@-]{0,12}", fullmatch=True), nasty)
command = st.builds(
    lambda begin, text, end: f"{begin} {text}{end}",
    st.sampled_from(["apptainer exec", "./select", "$WORK/run --bind '$HOME'", "bash -c 'exec \"$@\"' bash"]),
    nasty,
    st.sampled_from([" python", " .venv/bin/python", " -u"]),
)  # fmt: skip
LIBRARY = (
    r"HPC_hydra(\[[a-z]{1,9}\])? ?(>=[1-9](\.[1-9])?,<[1-9]|@ git\+ssh://a@[a-z]{1,9}/[!-~]{1,9})"
)
slug = st.from_regex(r"[a-z][a-z0-9]{0,20}([-_][a-z0-9]{1,20}){0,2}", fullmatch=True)
ANSWERS: dict[str, st.SearchStrategy[Any]] = {
    "project_name": nasty,
    "project_slug": st.one_of(slug, nasty),
    "gpu_partition": name,
    "gpus_per_node": st.one_of(st.sampled_from(["0", "1", "128", "04", "\uff14", "1e1"]), nasty),
    "gpu_request": st.one_of(st.sampled_from(["gpus=a100_1g.5gb:{n}", "gres=gpu:{n} mem={9n}G"]), nasty),
    "cpu_partition": name,
    "account": st.one_of(name, st.sampled_from(["$USER@v100"])),
    "gpu_sbatch": st.lists(word, max_size=3).map(" ".join),
    "cpu_sbatch": st.lists(word, max_size=3).map(" ".join),
    "setup_commands": st.builds(
        lambda text, end: f"true {shlex.quote(text)}{end}",
        nasty.filter(lambda text: CANARY not in text),
        st.sampled_from(["", "; export A=${A:-1}", "\nset -a", " # why", " \\", " <<EOF", " &&"]),
    ),
    "python": st.one_of(path, command),
    "output_dir": path,
    "wandb_mode": st.sampled_from(["online", "disabled", "Offline"]),
    "signal_policy": st.sampled_from(["ignore", "never"]),
    "library": st.one_of(st.from_regex(LIBRARY, fullmatch=True), nasty),
}  # fmt: skip


@st.composite
def answers(draw: st.DrawFn) -> dict[str, str]:
    """Some odd ones among the defaults: with all of them odd, hardly any would be accepted."""
    odd = draw(st.sets(st.sampled_from(sorted(ANSWERS)), min_size=1, max_size=4))
    given = DEFAULTS | {"project_slug": "hpc-experiment", "create_venv": "no"}
    return given | {each: draw(ANSWERS[each]) for each in sorted(odd)}


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    copy = light_copy(tmp_path_factory.mktemp("template") / TEMPLATE.name)
    (copy / "hooks" / "pre_prompt.py").unlink(missing_ok=True)  # nothing is asked
    return copy


@pytest.fixture(scope="module", autouse=True)
def no_git(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """A repository and a commit take longer than all the rest."""
    folder = tmp_path_factory.mktemp("bin")
    (folder / "bash").symlink_to(shutil.which("bash") or "bash")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PATH", str(folder))
        yield


def generate(template: Path, answers: Mapping[str, str], folder: Path) -> Path | None:
    """The repository, or None if it was refused; the answers are given as if they had been typed."""
    package = answers["project_slug"].replace("-", "_")
    replay = folder / "replay.json"
    replay.write_text(json.dumps({"cookiecutter": {**answers, "__package": package}}))
    try:
        return Path(cookiecutter(str(template), replay=str(replay), output_dir=str(folder / "out")))
    except FailedHookException:
        return None
    except (CookiecutterException, OSError, ValueError):
        # What can be no folder at all cookiecutter itself refuses, before any hook.
        assert not re.fullmatch("[a-z0-9_-]+", answers["project_slug"])
        print("Nothing was generated", file=sys.stderr)
        return None


def check_files(repository: Path, answers: Mapping[str, str]) -> None:
    """Every file says what was answered, in its own language."""
    files = (path for path in repository.rglob("*") if path.is_file() and ".git" not in path.parts)
    for file in files:
        text = file.read_text()
        assert "{{" not in text and "{%" not in text and "cookiecutter" not in text, file
        if file.suffix == ".py":
            compile(text, str(file), "exec")
        if file.suffix in (".yml", ".yaml"):
            yaml.safe_load(text)
    facts: dict[str, object] = {}
    exec(next(repository.glob("src/*/cluster.py")).read_text(), facts)
    for name, answer in answers.items():
        if name.upper() in facts:
            assert str(facts[name.upper()]) == answer.strip(), name
    project = tomllib.loads((repository / "pyproject.toml").read_text())["project"]
    assert project["name"] == answers["project_slug"].strip()
    assert project["description"] == answers["project_name"].strip()
    library = Requirement(project["dependencies"][0])
    assert canonicalize_name(library.name) == "hpc-hydra" and library.extras
    assert library.url or library.specifier
    heading = MarkdownIt().parse((repository / "README.md").read_text())[1]
    text = "".join(token.content for token in heading.children or [])
    assert text.split() == answers["project_name"].split()
    assert {token.type for token in heading.children or []} <= {"text", "text_special"}


def check_job_script(
    script: str, preset: str, answers: Mapping[str, str], repository: Path
) -> None:
    """It asks for what was answered, and runs that and nothing else."""
    header = script.partition("\n# setup\n")[0].splitlines()
    lines = [line for line in header if line.startswith("#SBATCH ")]
    directives = dict(shlex.split(line)[1].partition("=")[::2] for line in lines)
    kind = "cpu" if preset == "hpc_batch" or answers["gpus_per_node"] == "0" else "gpu"
    words = shlex.split(answers[f"{kind}_sbatch"])
    options = dict(word.lstrip("-").partition("=")[::2] for word in words)
    partition, account = answers[f"{kind}_partition"].strip(), answers["account"].strip()
    options = {"partition": partition, "account": account, **options}
    debug = {name[6:]: value for name, value in options.items() if name.startswith("debug:")}
    if preset == "hpc_debug":
        options |= debug
    for option, value in options.items():
        value = expand(value)
        if ":" in option or option in ("time", "mem") or re.search(r"\{\d*n\}", value):
            continue
        if preset == "hpc_gpu_packed" and option == "ntasks":  # as many as there are GPUs
            continue
        if value or option in words:  # such as exclusive
            assert directives[f"--{option}"] == value
        else:
            assert f"--{option}" not in directives
    request = {"gres", "gpus", "mem", *re.findall(r"([a-z-]+)=", answers["gpu_request"])}
    assert {name[2:] for name in directives} <= {*options, *request, *WRITTEN_BY_LAUNCHER}

    folder = repository.parents[1]
    arguments, venv = folder / "srun", folder / "venv"
    function = (
        "rm() { :; }; "
        f'source() {{ printf %s "$1" > {venv}; }}; srun() {{ printf "%s\\0" "$@" > {arguments}; }}'
    )
    # Neither is the working directory that of a job, nor is there Python.
    lines = [line for line in script.splitlines() if "|| refuse" not in line]
    ended = run(
        "bash", "-c", "\n".join([function, *lines]), cwd=folder, **VARIABLES,
        SLURM_ARRAY_JOB_ID="1", SLURM_ARRAY_TASK_ID="0",
    )  # fmt: skip
    assert ended.returncode == 0, ended.stderr
    assert not list(folder.rglob(CANARY))
    srun = arguments.read_text().split("\0")
    for option, value in options.items():
        if option.startswith("srun:"):
            assert (f"--{option[5:]}={expand(value)}" in srun) == bool(value)
    python = answers["python"].strip()
    if python and not re.search(r"\s|(^|/)python[^/]*$", python):
        path = repository / expand(python) / "bin" / "activate"
        assert normpath(venv.read_text()).replace("//", "/") == normpath(path)
    else:
        assert not venv.exists()
        words = shlex.split(expand(python or "python3"))
        for word, ours in zip(words, srun[-6 - len(words) : -6], strict=True):
            dotted = word.startswith(".") and "/" in word
            assert ours in ([word, normpath(repository / word)] if dotted else [word])
    output = srun[srun.index("--output") + 1]
    path = repository / expand(answers["output_dir"].strip())
    assert normpath(Path(output).parents[3]).replace("//", "/") == normpath(path)


def expand(text: str) -> str:
    """With the variables of the one who submits."""
    for variable, value in VARIABLES.items():
        text = text.replace(f"${{{variable}}}", value)
        text = re.sub(rf"\${variable}\b", value, text, flags=re.ASCII)
    return re.sub("^~(?=/|$)", VARIABLES["HOME"], text)


def drawn(check: Callable[[dict[str, str]], None], number: int, start: int) -> None:
    """Call ``check`` with ``number`` sets of answers: always the same ones in CI, where a change is
    not to be blamed for what is drawn by chance."""
    configured = settings(
        max_examples=number,
        phases=[Phase.generate],  # to shrink takes minutes, and the answers that differ are few
        database=None,
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )
    test = configured(given(answers())(check))
    (seed(start)(test) if os.environ.get("CI") else test)()


@pytest.mark.parametrize("part", range(3))  # so that they can run side by side
def test_an_answer_is_refused_or_carried(
    part: int, template: Path, job_scripts: JobScripts, capfd: pytest.CaptureFixture[str]
) -> None:
    def check(answers: dict[str, str]) -> None:
        with TemporaryDirectory() as temporary:
            repository = generate(template, answers, Path(temporary))
            check_outcome(repository, answers, Path(temporary), capfd.readouterr().err)
            if repository:
                for preset, script in job_scripts(repository).items():
                    check_job_script(script, preset, answers, repository)

    drawn(check, number=20, start=part)


def check_outcome(
    repository: Path | None, answers: Mapping[str, str], folder: Path, complaints: str
) -> None:
    """It was refused with a message, or every file is right."""
    assert "Traceback" not in complaints, complaints
    event("refused" if repository is None else "carried")
    if repository is None:
        # Of a/b cookiecutter itself leaves the empty folder a.
        assert "/" in answers["project_slug"] or not list(folder.glob("out/*"))
        assert not [path for path in folder.glob("out/**/*") if path.is_file()]
        assert "Nothing was generated" in complaints
        return
    check_files(repository, answers)
    for command in (["check"], ["format", "--check"]):
        done = run(RUFF, *command, "--no-cache", cwd=repository)
        assert done.returncode == 0, done.stdout
