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

if sys.version_info < (3, 10):  # noqa: UP036 (of whoever calls cookiecutter)
    sys.exit("hpc-hydra-template needs Python 3.10 or newer: install cookiecutter for one.")

# In JSON three quotes never follow each other, so no answer can end this text.
CONTEXT = dict(json.loads(r"""{{ cookiecutter.items() | list | tojson }}"""))

# What a generated repository installs, what everybody needs next, and the commands that its own would replace.
TAKEN = """ hpc_hydra hydra hydra_core hydra_plugins hydra_zen omegaconf submitit wandb numpy sklearn scikit_learn yaml
hydra_submitit_launcher cloudpickle rich typer click plotly pytest ruff mypy pre_commit pip setuptools hatchling src test tests conftest torch torchvision lightning
pytorch_lightning jax flax tensorflow keras transformers datasets pandas scipy matplotlib tqdm
activate bash env git hpc python python3 sh uv wb salloc sbatch scancel scontrol sinfo squeue srun sacct"""
PLACES = ".git .github .gitignore .pre-commit-config.yaml README.md pyproject.toml src tests"
SET = "array error help input job-name name open-mode output parsable signal test-only wait wrap"
SHORT = "A account C constraint G gpus N nodes c cpus-per-task n ntasks p partition q qos t time"
VALUED = "nodes ntasks account comment constraint export gpus gres hint mail-type mail-user mem partition qos reservation time"


def one_of(words: str) -> str:
    return f"({'|'.join(map(re.escape, words.split()))})"


def all_but(pattern: str) -> str:
    """Matches every text that is not as a whole as ``pattern`` says."""
    return rf"\A(?!({pattern})\Z)"


# Two braces never stand side by side: Jinja would take them for its own.
NAME = "[A-Za-z_][A-Za-z0-9_]*(?![A-Za-z0-9_])"
BRACED = r"\$\{" + NAME + r"\}"
VARIABLE = rf"(\${NAME}|{BRACED})"
COUNT = r"\{[0-9]*n\}"
BEGIN = r"\A-*(debug:)?(srun:)?"
TIME = r"[0-9]+(:[0-9]+){0,2}|[0-9]+-[0-9]+(:[0-9]+){0,2}"
URL = r"(git\+)?(https?|ssh|file)://[A-Za-z0-9._~:/?#@!&'()*+,=%-]+"
VERSION = r"([~=!<>]=|[<>]) *[0-9][0-9a-z.*]*"
LIBRARY = rf"(?i:hpc[-_.]hydra)(\[[a-z]+(, *[a-z]+)*\])? *(@ *{URL}|{VERSION}( *, *{VERSION})*)?|"
RESERVED = one_of(" ".join([*keyword.kwlist, *sys.stdlib_module_names, TAKEN]))
OPTIONS, PATHS = "gpu_request gpu_sbatch cpu_sbatch", "python output_dir"
BRACE = "holds a brace; only {n} and {10n} have a meaning, where GPUs are asked for"
# Which answers, what is refused in them, and what is said of it, %s being what was found. An "option" is a
# word of the answers that hold options; `python` is a "command" where it is no folder.
RULES = [
    ("project_name", r"\A\Z", "is blank; an example: HPC Experiment"),
    ("output_dir", r"\A\Z", "is blank; an example: outputs"),
    ("project_slug", all_but(r"(?=.{1,36}\Z)[a-z][a-z0-9]*([-_][a-z0-9]+)*"),
     "is no name for a package: up to 36 small letters, digits and single hyphens, a letter first, as in my-experiment"),
    ("project_slug", rf"\A(test_.*|{RESERVED})\Z".replace("_", "[-_]"), "is a name that Python or a package needs; an example: my-experiment"),
    ("gpus_per_node", all_but("0|[1-9][0-9]{0,2}"), "is no whole number, such as 4, or 0 for a cluster without GPUs"),
    ("gpu_partition cpu_partition account", all_but(f"([A-Za-z0-9_.,:@+/-]|{VARIABLE})*"), "holds what no name on a cluster has; an example: gpu-a100"),
    (f"{OPTIONS} {PATHS}", rf"(?!{VARIABLE})\$", "holds a $ that begins no variable such as $USER"),
    (f"{OPTIONS} command", r"\\", 'holds a backslash; quote with quotation marks, as in constraint="a100&80gb"'),
    (f"{OPTIONS} command", all_but("([^\"']|\"[^\"]*\"|'[^']*')*"),
     'has a quotation mark without its partner, as in constraint="a100&80gb"'),
    ("gpu_request gpu_sbatch", all_but("([^}{]|" + BRACED + "|" + COUNT + ")*"), BRACE),
    ("cpu_sbatch", all_but("([^}{]|" + BRACED + ")*"), BRACE),
    ("command", r"\$\{(?!" + NAME + r"\})", "holds %s that begins no variable such as ${WORK}"),
    ("command", all_but(f"([^\"'$;&|<>()`#]|{VARIABLE}|\"([^\"$`]|{VARIABLE}|\\$@)*\"|'[^']*')*"),
     "is more than one command; an example: bash -c 'source env.sh; exec python \"$@\"' bash"),
    ("option", all_but(BEGIN[2:] + r"[a-z][a-z0-9_-]+(=.*)?"), "is no long option of sbatch such as qos=normal or exclusive"),
    ("option", BEGIN + one_of(SET) + r"(=|\Z)", "the launcher sets; leave it out"),
    ("option", rf"{BEGIN}({one_of(VALUED)}|[a-z]+-per-[a-z]+)\Z", "lacks its value; an example: mem=40G"),
    ("option", rf"{BEGIN}time=(?!({TIME})\Z)", "is no time limit such as time=30 or time=1-12:00"),
    ("option", BEGIN + r"(nodes|ntasks(-per-(node|gpu))?)=(?!([1-9][0-9]*)?\Z)", "is no number such as 1"),
    ("option setup_commands command", r"(\A|=)\?\?\?\Z", "Hydra takes for a missing value; leave it out"),
    ("setup_commands", "(?m)^#SBATCH", "holds an #SBATCH line; that goes into gpu_sbatch and cpu_sbatch"),
    ("setup_commands", r"\\\Z", "ends with a backslash, which would take the script's next line along"),
    (PATHS, rf"\A(?!{VARIABLE}(/|\Z))\$", "begins with a variable that is not the whole folder; an example: $SCRATCH/x"),
    (f"{PATHS} command", r"\A(-|~[^/])", "begins as an option or as another user's home; an example: $HOME/x"),
    (PATHS, r"//|(\A|/)\.(/|\Z)|(\A|/)(?!\.\./)[^/]*/\.\.(/|\Z)", "is not the shortest way to write it; an example: results, not ./results"),
    (PATHS, rf"\A{one_of(PLACES)}(/|\Z)", "is a part of the repository; an example: .venv or outputs"),
    (PATHS, ".{1001}|[^/]{86}", "is too long for a path; an example: $SCRATCH/x"),
    # A venv's scripts and the lines to type hold its path in quotes; names of logs give % and \ a meaning.
    ("python", r'[\\":`!]', "holds %s, which cannot be carried everywhere; leave it out"),
    ("output_dir", r"[%\\]", "holds %s, which cannot be carried everywhere; leave it out"),
    ("framework", all_but("scikit-learn|pytorch"), "is none of: scikit-learn, pytorch"),
    ("wandb_mode", all_but("offline|online|disabled"), "is none of: offline, online, disabled"),
    ("signal_policy", all_but("checkpoint|ignore"), "is none of: checkpoint, ignore"),
    ("library", all_but(LIBRARY), "is no requirement of hpc-hydra; an example: hpc-hydra>=0.2 or hpc-hydra @ git+https://github.com/me/hpc-hydra-template"),
    ("create_venv", all_but("(?i:yes|y|true|no|n|false|)"), "is neither yes nor no"),
]  # fmt: skip


def fault(name: str, text: str) -> str:
    """The first fault of an answer: what is wrong, and what would do."""
    if not all(c.isprintable() or (c in "\n\t" and name == "setup_commands") for c in text):
        return "holds a control character or an invisible one; leave it out"
    # cookiecutter evaluates answers that it takes from a file, as when a repository is updated.
    if mark := re.search(r"\{[#%{]", text):
        remedy = (
            "put a space between the two" if "#" not in mark[0] else "source a file that holds it"
        )
        return f"holds {mark[0]}, which cookiecutter evaluates; {remedy}"
    short = re.match(r"-([A-Za-z])([=0-9{].*)?\Z", text)
    if name == "option" and short and (long := re.search(rf"\b{short[1]} ([a-z-]+)", SHORT)):
        return f"is written {long[1]}={(short[2] or 'VALUE').lstrip('=')} here"
    for names, pattern, complaint in RULES:
        part = re.sub(COUNT, "1", text) if name == "option" else text
        if name in names.split() and (match := re.search(pattern, part)):
            return complaint.replace("%s", match[0])
    return in_commands(text) if name in ("setup_commands", "command") else ""


def in_commands(commands: str) -> str:
    env = {"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C"}
    try:
        ran = subprocess.run(["bash", "-n"], input=commands.encode(), capture_output=True, env=env)
    except OSError:  # no bash here, perhaps a desk: the cluster will have one
        return ""
    complaint = ran.stderr.decode(errors="replace").strip().replace("\n", "; ")
    return f"is refused by bash: {complaint}; an example: module load python" if complaint else ""


def in_options(words: list[str], before: list[str]) -> str:
    """The faults of all options in an answer, and those that this or the answer before it repeats."""
    said = [(word, fault("option", word)) for word in words]
    found = [f"holds {word!r}, which {complaint}" for word, complaint in said if complaint]
    names = [word.lstrip("-").partition("=")[0] for word in [*words, *before]]
    for name in sorted({name for name in names[: len(words)] if names.count(name) > 1}):
        found.append("repeats " + name + "; once will do, as in gres=gpu:{n},tmpdisk:10")
    return "; and it ".join(found)


def faults(answers: dict[str, str]) -> dict[str, str]:
    """By answer."""
    found = {name: fault(name, answer) for name, answer in answers.items()}
    if re.search(r"\s|(^|/)python[^/]*$", answers["python"]):
        found["python"] = fault("command", answers["python"])

    def add(name: str, complaint: str) -> None:
        found[name] = found[name] or complaint

    words: dict[str, list[str]] = {name: [] for name in OPTIONS.split()}
    for name, its in words.items():
        if not found[name]:  # and `-c 10` is one word
            its += shlex.split(re.sub(r"(?<!\S)(-[A-Za-z])\s+(?=[^\s-])", r"\1=", answers[name]))
        add(name, in_options(its, words["gpu_request"] * (name == "gpu_sbatch")))
    has_gpus = answers["gpus_per_node"] != "0"
    asks = re.search(rf"(?<!\$){COUNT}", answers["gpu_request"])
    if answers["gpu_request"] and has_gpus and not asks:
        add("gpu_request", "lacks {n}, their number, as in gres=gpu:{n}")
    if has_gpus and re.search(r"(^|\s)-*debug:", answers["cpu_sbatch"]):
        add("cpu_sbatch", "holds debug:, but hpc_debug is a GPU job: put that into gpu_sbatch")
    if answers["python"] == answers["output_dir"]:
        add("python", "is the output_dir too; an example: .venv")
    if CONTEXT["__package"] != answers["project_slug"].replace("-", "_"):
        add("project_slug", "is not what __package says; change that too")
    for name in answers:  # of a file: it would be written as Python writes it
        if type(CONTEXT[name]) in (dict, list, bool) and name != "create_venv":
            found[name] = "is no text; put it between quotation marks"
    return {name: complaint for name, complaint in found.items() if complaint}


def how_to_correct(answers: dict[str, str]) -> str:
    """The same answers as a command, and where cookiecutter keeps them."""
    template, here = CONTEXT["_template"], os.environ.get("PWD")
    words = ["cookiecutter", "--no-input"]
    for name in ("checkout", "output_dir"):
        if CONTEXT.get(f"_{name}") not in (None, "", False, here):
            words += [f"--{name.replace('_', '-')}", CONTEXT[f"_{name}"]]
    given = [f"{name}={shlex.quote(answer)}" for name, answer in answers.items()]
    command = " \\\n    ".join([shlex.join([*words, template]), *given])
    stored = Path(CONTEXT.get("_repo_dir") or template).name
    return (
        f"Correct them in this command:\n{command}\nor in ~/.cookiecutter_replay/{stored}.json, and then\n"
        f"cookiecutter --replay {shlex.quote(template)}\n"
        "What follows is cookiecutter's own report that nothing was generated."
    )


def main() -> None:
    given = {name: value for name, value in CONTEXT.items() if not name.startswith("_")}
    # Blanks around an answer are left out wherever it goes, but for the folder, which cookiecutter makes.
    answers = {name: "" if value is None else str(value).strip() for name, value in given.items()}
    answers["project_slug"] = str(given["project_slug"])
    if found := faults(answers):
        said = [f"  - {name}: {answers[name]!r} {complaint}" for name, complaint in found.items()]
        title = "Nothing was generated. These answers cannot be used:"
        sys.exit("\n".join([title, *said, how_to_correct(answers)]))


main()
