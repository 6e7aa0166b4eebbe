"""Refuse answers that would give a broken repository: all faults at once, nothing written."""

import json
import keyword
import re
import shlex
import subprocess
import sys

# In JSON three quotes never follow each other, so no answer can end this text.
CONTEXT = dict(json.loads(r"""{{ cookiecutter.items() | list | tojson }}"""))

ANSWERS = {
    name: (answer or "").strip() for name, answer in CONTEXT.items() if not name.startswith("_")
}

# Import names of what a generated repository depends on or consists of.
TAKEN = {
    "hydra", "hydra_core", "hydra_plugins", "hydra_submitit_launcher", "hydra_zen", "matplotlib",
    "mypy", "numpy", "omegaconf", "pre_commit", "pytest", "rich", "ruff", "scikit_learn", "scipy",
    "sklearn", "submitit", "test", "tests", "wandb",
}  # fmt: skip
TIME = re.compile(r"(\d+-)?\d+(:\d+){0,2}")


def faults(answers: dict[str, str]) -> list[str]:
    """A sentence for each answer that cannot be used."""
    found = []
    for name, answer in answers.items():
        if not answer.isprintable():
            found.append(f"{name}: {answer!r} holds a line break or another control character")
    for name, example in (("project_name", "HPC Experiment"), ("output_dir", "outputs")):
        if not answers[name]:
            found.append(f"{name}: it is blank; an example: {example}")

    slug = answers["project_slug"]
    package = slug.replace("-", "_")
    if not re.fullmatch(r"[a-z][a-z0-9]*([-_][a-z0-9]+)*", slug):
        found.append(
            f"project_slug: {slug!r} is no name for a package: "
            "small letters first, then also digits and single hyphens, as in my-experiment"
        )
    elif keyword.iskeyword(package) or package in sys.stdlib_module_names or package in TAKEN:
        found.append(
            f"project_slug: {slug!r} is a name that Python or a package needs; try my-{slug}"
        )

    count = answers["gpus_per_node"]
    if not re.fullmatch(r"[1-9][0-9]*", count):
        found.append(f"gpus_per_node: {count!r} is no positive whole number, such as 4")

    for name in ("gpu_request", "gpu_sbatch", "cpu_sbatch"):
        try:
            words = shlex.split(answers[name])
        except ValueError:
            found.append(f"{name}: {answers[name]!r} has a quotation mark without its partner")
            continue
        for word in words:
            option, _, value = word.lstrip("-").partition("=")
            if option == "time" and not TIME.fullmatch(value):
                found.append(f"{name}: {value!r} is no time limit, such as 30, 1:30:00 or 1-12")
            if not re.fullmatch(r"[a-z][a-z-]+", option):
                found.append(
                    f"{name}: {word!r} is no long option of sbatch, such as qos=normal or exclusive"
                )
    request = answers["gpu_request"]
    if request and "{n}" not in request:
        found.append(f"gpu_request: {request!r} lacks " + "{n}, the number, as in gres=gpu:{n}")
    if complaint := shell_complaint(answers["setup_commands"]):
        found.append(f"setup_commands: {complaint}")
    return found


def shell_complaint(commands: str) -> str:
    """What bash says of ``commands`` without running them; nothing where there is no bash."""
    try:
        check = subprocess.run(["bash", "-n"], input=commands, capture_output=True, text=True)
    except OSError:
        return ""
    return check.stderr.strip().replace("\n", "; ")


if __name__ == "__main__":
    if found := faults(ANSWERS):
        print("Nothing was generated. These answers cannot be used:", file=sys.stderr)
        for fault in found:
            print(f"  - {fault}", file=sys.stderr)
        given = [f"{name}={shlex.quote(answer)}" for name, answer in ANSWERS.items()]
        command = [f"cookiecutter --no-input {shlex.quote(CONTEXT['_template'])}", *given]
        print("Correct them in this command:", file=sys.stderr)
        print(" \\\n    ".join(command), file=sys.stderr)
        sys.exit(1)
