"""Refuse answers that would give a broken repository: all faults at once, nothing written."""

# ruff: noqa: E402, PTH100, PTH120
from __future__ import annotations

import os
import sys

# cookiecutter runs a copy of this in the temporary folder, from which, being everybody's, nothing is imported.
sys.path = [folder for folder in sys.path if folder != os.path.dirname(os.path.abspath(__file__))]

import json
import keyword
import re
import shlex
import subprocess
from pathlib import Path

# In JSON three quotes never follow each other, so no answer can end this text.
CONTEXT = dict(json.loads(r"""{{ cookiecutter.items() | list | tojson }}"""))

# Distributions and packages that are installed with a generated repository, and its own test modules.
TAKEN = """
annotated_types antlr4 antlr4_python3_runtime anyio certifi cfgv charset_normalizer click cloudpickle
conftest contourpy cycler dateutil distlib distro filelock fonttools git google h11 hatchling httpcore
httpx hydra hydra_core hydra_plugins hydra_submitit_launcher hydra_zen identify idna iniconfig joblib
kiwisolver markdown_it markdown_it_py matplotlib mdurl mpl_toolkits mypy mypy_extensions mypyc nodeenv
numpy omegaconf opentelemetry packaging pathspec pillow pip pkg_resources platformdirs pluggy pre_commit
protobuf py pydantic pydantic_core pygments pylab pyparsing pytest python_dateutil pyyaml requests rich
ast_serialize coreweave_evaluations cwevals exceptiongroup googleapis_common_protos hydra_submitit librt
narwhals opentelemetry_api opentelemetry_proto opentelemetry_sdk pydevd_plugins python_discovery tomli
xxhash
ruff scikit_learn scipy sentry_sdk setuptools six sklearn sniffio src submitit test test_command
test_presets test_records test_sbatch test_signals test_task test_tracking tests threadpoolctl
typing_extensions typing_inspection tzdata urllib3 uv virtualenv wandb wandb_file wheel yaml
"""
# Commands that the one of the repository would replace in its virtual environment.
TAKEN += """
activate bash dmypy env f2py normalizer pip3 pygmentize python python3 sacct sbatch scancel scontrol sh sinfo
squeue srun stubgen stubtest ttx wb
"""
# What lies at the top of a generated repository.
OCCUPIED = {
    ".", ".git", ".github", ".gitignore", ".pre-commit-config.yaml", "README.md", "pyproject.toml",
    "src", "tests",
}  # fmt: skip
CHOICES = {
    "wandb_mode": ["offline", "online", "disabled"],
    "signal_policy": ["checkpoint", "ignore"],
}
SET_BY_LAUNCHER = {
    "array", "error", "help", "input", "job-name", "name", "open-mode", "output", "parsable", "signal",
    "test-only", "usage", "version", "wait", "wrap",
}  # fmt: skip
COUNTS = {"nodes", "ntasks", "ntasks-per-node"}
WITH_VALUE = {
    *COUNTS, "account", "comment", "constraint", "cpus-per-gpu", "cpus-per-task", "export", "gpus",
    "gpus-per-node", "gpus-per-task", "gres", "hint", "mail-type", "mail-user", "mem", "mem-per-cpu",
    "mem-per-gpu", "partition", "qos", "reservation", "time",
}  # fmt: skip

TIME = re.compile(r"[0-9]+(:[0-9]+){0,2}|[0-9]+-[0-9]+(:[0-9]+){0,2}")
NAME = re.compile(r"[A-Za-z0-9_.,:@+/-]*")
VARIABLE = re.compile(r"\$(?:[A-Za-z_][A-Za-z0-9_]*|\{[A-Za-z_][A-Za-z0-9_]*\})")


def as_text(answer: object) -> str:
    """The answer as typed; YAML and JSON have other types."""
    if isinstance(answer, bool):
        return "yes" if answer else "no"
    return "" if answer is None else str(answer)


def faults(answers: dict[str, str]) -> list[str]:
    """A sentence for each answer that cannot be used: what is wrong, and what would do."""
    found = {}
    for name, answer in answers.items():
        complaint = in_any(name, answer) or CHECKS[name](name, answer)
        if complaint:
            found[name] = complaint
    request = VARIABLE.sub("", answers["gpu_request"])
    if request and not re.search(r"\{[0-9]*n\}", request) and answers["gpus_per_node"] != "0":
        found.setdefault("gpu_request", "lacks {n}, their number, as in gres=gpu:{n}")
    if not {"gpu_request", "gpu_sbatch"} & set(found):
        for option in sorted(
            options_in(answers["gpu_request"]) & options_in(answers["gpu_sbatch"])
        ):
            found["gpu_sbatch"] = (
                f"holds {option}, and so does gpu_request: put it all there, "
                "as in gres=gpu:{n},tmpdisk:10"
            )
    if answers["venv_path"] == answers["output_dir"]:
        found.setdefault("venv_path", "is the output_dir too; an example: .venv")
    return [f"{name}: {answers[name]!r} {complaint}" for name, complaint in found.items()]


def options_in(text: str) -> set[str]:
    return {word.lstrip("-").partition("=")[0] for word in shlex.split(text)}


def in_any(name: str, answer: str) -> str:
    """What no answer may hold."""
    blanks = "\n\t" if name == "setup_commands" else ""
    if not all(character.isprintable() or character in blanks for character in answer):
        return "holds a control character or an invisible one; leave it out"
    for mark in ["{" + second for second in "#%{"]:
        # cookiecutter evaluates answers that it takes from a file, as when a repository is updated.
        if mark in answer:
            return f"holds {mark}, which cookiecutter evaluates; put a space between the two"
    return ""


def in_title(name: str, answer: str) -> str:
    return "" if answer else "is blank; an example: HPC Experiment"


def in_slug(name: str, slug: str) -> str:
    package = slug.replace("-", "_")
    if not re.fullmatch(r"[a-z][a-z0-9]*([-_][a-z0-9]+)*", slug) or len(slug) > 36:
        return (
            "is no name for a package: up to 36 small letters, digits and single hyphens, "
            "a letter first, as in my-experiment"
        )
    if keyword.iskeyword(package) or package in sys.stdlib_module_names or package in TAKEN.split():
        return f"is a name that Python or a package needs; an example: my-{slug}"
    return ""


def in_count(name: str, answer: str) -> str:
    if re.fullmatch(r"0|[1-9][0-9]{0,2}", answer):
        return ""
    return "is no whole number, such as 4, or 0 for a cluster without GPUs"


def in_name(name: str, answer: str) -> str:
    if NAME.fullmatch(VARIABLE.sub("", answer)):
        return ""
    return "holds what no name on a cluster has; an example: gpu-a100"


def in_options(name: str, answer: str) -> str:
    if "\\" in answer:
        return 'holds a backslash; quote with quotation marks, as in constraint="a100&80gb"'
    rest = VARIABLE.sub("", answer)
    if "$" in rest:
        return "holds a $ that begins no variable such as $USER; sbatch runs no commands"
    rest = re.sub(r"\{[0-9]*n\}", "", rest) if name != "cpu_sbatch" else rest
    if "{" in rest or "}" in rest:
        return "holds a brace; only {n} and {10n} have a meaning, where GPUs are asked for"
    try:
        words = shlex.split(answer)
    except ValueError:
        return 'has a quotation mark without its partner, as in constraint="a100&80gb"'
    complaints = [complaint for complaint in map(in_option, words) if complaint]
    options = [word.lstrip("-").partition("=")[0] for word in words]
    for option in sorted({option for option in options if options.count(option) > 1}):
        complaints.append(f"holds {option} twice; once will do, as in mail-type=BEGIN,END")
    return "; and it ".join(complaints)


def in_option(word: str) -> str:
    option, equals, value = re.sub(r"\{[0-9]*n\}", "1", word).lstrip("-").partition("=")
    match = re.fullmatch(r"(?:(srun|debug):)?([a-z][a-z0-9-]+)", option)
    if not match:
        return (
            f"holds {word!r}, no long option of sbatch such as qos=normal or exclusive "
            "(-p is partition, -n is ntasks)"
        )
    name = match[2]
    if name in SET_BY_LAUNCHER:
        return f"holds {name}, which the launcher sets; leave it out"
    if name in WITH_VALUE and not equals:
        return f"holds {name} without a value; it takes the form {name}=value"
    if name == "time" and not TIME.fullmatch(value):
        return f"holds {word!r}, no time limit such as time=30, time=1:30:00 or time=1-12"
    if name in COUNTS and not re.fullmatch("([1-9][0-9]*)?", value):
        return f"holds {word!r}, no number such as {name}=1"
    if value == "???":
        return f"holds {word!r}, which Hydra takes for a value that is missing; leave it out"
    return ""


def in_commands(name: str, commands: str) -> str:
    if re.search("^#SBATCH", commands, re.MULTILINE):
        return "holds an #SBATCH line; its options go into gpu_sbatch and cpu_sbatch"
    if commands == "???":
        return "is what Hydra takes for a value that is missing; an example: module load python"
    if commands.endswith("\\"):
        return "ends with a backslash, which would take the next line of the job script with it"
    try:
        check = subprocess.run(
            ["bash", "-n"], input=commands.encode(), stderr=subprocess.PIPE,
            env={"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C"},
        )  # fmt: skip
    except OSError:  # no bash here, perhaps a desk: the cluster will have one
        return ""
    complaint = check.stderr.decode(errors="replace").strip().replace("\n", "; ")
    return f"is refused by bash: {complaint}; an example: module load python" if complaint else ""


def in_path(name: str, path: str) -> str:
    if name == "output_dir" and not path:
        return "is blank; an example: outputs"
    if "$" in VARIABLE.sub("", path):
        return "holds a $ that begins no variable; an example: $SCRATCH/x"
    if path.startswith("$") and not re.match(rf"{VARIABLE.pattern}(/|$)", path):
        return "begins with a variable that is not the whole folder; an example: $SCRATCH/x"
    if path.startswith("-") or re.match("~[^/]", path):
        return "begins as an option or as another user's home; an example: $HOME/x"
    normal = os.path.normpath(path)
    if path and ((path.rstrip("/") or "/") != normal or "//" in path):
        return f"is not the shortest way to write it; an example: {normal.replace('//', '/')}"
    if path.partition("/")[0] in OCCUPIED:
        return f"is a part of the repository itself; an example: {name.partition('_')[0]}s"
    if len(path) > 1000 or any(len(part.encode()) > 255 for part in path.split("/")):
        return "is too long for a path; an example: $SCRATCH/x"
    # sbatch gives % and \ in the names of logs a meaning; a venv's scripts hold its path in quotes, and
    # so do the lines to type, in which a shell on a terminal gives ! a meaning.
    unfit = "%\\" if name == "output_dir" else '\\":`!'
    for character in unfit:
        if character in path:
            return f"holds {character}, which cannot be carried everywhere; leave it out"
    return ""


def in_choice(name: str, answer: str) -> str:
    return "" if answer in CHOICES[name] else f"is none of: {', '.join(CHOICES[name])}"


def in_yes_or_no(name: str, answer: str) -> str:
    return "" if answer.lower() in ("yes", "y", "no", "n", "") else "is neither yes nor no"


CHECKS = {
    "project_name": in_title,
    "project_slug": in_slug,
    "gpu_partition": in_name,
    "gpus_per_node": in_count,
    "gpu_request": in_options,
    "cpu_partition": in_name,
    "account": in_name,
    "gpu_sbatch": in_options,
    "cpu_sbatch": in_options,
    "setup_commands": in_commands,
    "venv_path": in_path,
    "output_dir": in_path,
    "wandb_mode": in_choice,
    "signal_policy": in_choice,
    "create_venv": in_yes_or_no,
}


def how_to_correct(answers: dict[str, str]) -> str:
    """The same answers as a command, and where cookiecutter keeps them."""
    template = CONTEXT["_template"]
    words = ["cookiecutter", "--no-input"]
    if CONTEXT.get("_checkout"):
        words += ["--checkout", CONTEXT["_checkout"]]
    if CONTEXT.get("_output_dir", os.environ.get("PWD")) != os.environ.get("PWD"):
        words += ["--output-dir", CONTEXT["_output_dir"]]
    given = [f"{name}={shlex.quote(answer)}" for name, answer in answers.items()]
    command = " \\\n    ".join([shlex.join([*words, template]), *given])
    stored = Path(CONTEXT.get("_repo_dir") or template).name
    return (
        f"Correct them in this command:\n{command}\n"
        f"or in ~/.cookiecutter_replay/{stored}.json, and then\n"
        f"cookiecutter --replay {shlex.quote(template)}\n"
        "What follows is cookiecutter's own report that nothing was generated."
    )


def main() -> None:
    if sys.version_info < (3, 10):  # noqa: UP036 (of whoever calls cookiecutter)
        sys.exit("hpc-hydra-template needs Python 3.10 or newer: install cookiecutter for one.")
    answers = {name: as_text(CONTEXT[name]) for name in CHECKS}
    # Blanks around an answer are left out wherever it goes, but for the folder, which cookiecutter makes.
    answers = {
        name: answer if name == "project_slug" else answer.strip()
        for name, answer in answers.items()
    }
    found = faults(answers)
    for name in CHECKS:  # of a file: they would be written as Python writes them
        if isinstance(CONTEXT[name], (dict, list)) or (
            isinstance(CONTEXT[name], bool) and name != "create_venv"
        ):
            found.append(f"{name}: {CONTEXT[name]!r} is no text; put it between quotation marks")
    package = answers["project_slug"].replace("-", "_")
    if CONTEXT["__package"] != package:  # after a change in the replay file
        found.append(f"__package: {CONTEXT['__package']!r} does not follow project_slug: {package}")
    if found:
        print("Nothing was generated. These answers cannot be used:", file=sys.stderr)
        for fault in found:
            print(f"  - {fault}", file=sys.stderr)
        print(how_to_correct(answers), file=sys.stderr)
        sys.exit(1)


if __name__ == "__main__":
    main()
