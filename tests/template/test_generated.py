"""The generated repository holds what its README promises of its own checks."""

import re

import yaml
from running import TEMPLATE, TOOLS, Project, run


def test_pre_commit(project: Project) -> None:
    """ruff and mypy."""
    done = project.run("pre-commit", "run", "--all-files")
    assert done.returncode == 0, done.stdout + done.stderr
    assert run("git", "status", "--porcelain", cwd=project.path).stdout == ""


def test_workflows_are_valid(project: Project) -> None:
    workflows = [root / ".github" / "workflows" / "test.yml" for root in (TEMPLATE, project.path)]
    schema = ("--builtin-schema", "vendor.github-workflows")
    done = run(TOOLS / "check-jsonschema", *schema, *workflows, cwd=project.path)
    assert done.returncode == 0, done.stdout


def test_the_workflow_does_what_the_readme_says(project: Project) -> None:
    workflow = yaml.safe_load((project.path / ".github" / "workflows" / "test.yml").read_text())
    commands = [step["run"] for step in workflow["jobs"]["test"]["steps"] if "run" in step]
    readme = (project.path / "README.md").read_text()
    typed = re.findall(r'^    (pip install -e "\.\[dev\]"|pytest)$', readme, re.MULTILINE)
    assert len(typed) == 2
    assert [line for line in commands if line != "pre-commit run --all-files"] == typed
