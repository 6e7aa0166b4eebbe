"""What is recorded and copied of the code, with a repository of its own."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from {{ cookiecutter.__package }}.hpc import source

SCRIPT = """
import json, sys
from pathlib import Path
from {{ cookiecutter.__package }}.hpc import source
source.copy_source(Path(sys.argv[1]))
print(json.dumps(source.provenance()))
"""


@pytest.mark.skipif(shutil.which("git") is None, reason="needs git")
def test_what_git_ignores_is_neither_in_the_diff_nor_in_the_copy(tmp_path: Path) -> None:
    """Although git may track it: what .gitignore names too late."""
    repository, copy = tmp_path / "repository", tmp_path / "copy"
    package = repository / "src" / "{{ cookiecutter.__package }}"
    shutil.copytree(
        source.SOURCE / package.name, package, ignore=shutil.ignore_patterns("__pycache__")
    )
    (repository / "pyproject.toml").touch()
    variables = {name: text for name, text in os.environ.items() if not name.startswith("GIT_")}

    def run(*command: str | Path, **more: str) -> str:
        environment = {**variables, **more}
        done = subprocess.run(
            command, cwd=repository, env=environment, check=True, stdout=subprocess.PIPE, text=True
        )
        return done.stdout

    def git(*arguments: str) -> None:
        run("git", "-c", "user.name=Ada", "-c", "user.email=ada@example.org", *arguments)

    def recorded() -> dict[str, Any]:
        shutil.rmtree(copy, ignore_errors=True)
        copy.mkdir()
        output = run(sys.executable, "-c", SCRIPT, copy, PYTHONPATH=str(repository / "src"))
        provenance: dict[str, Any] = json.loads(output)
        return provenance

    committed = [repository / ".env", repository / "keys" / "[a] b.pem", package / "token.txt"]
    removed, untracked = package / "once.txt", package / "never.txt"
    for path in (*committed, removed, untracked):
        path.parent.mkdir(exist_ok=True)
        path.write_text("s3cret\n")
    git("init")
    git("add", ".")
    git("rm", "--cached", str(untracked))
    git("commit", "--message=first")
    ignored = ("__pycache__/", ".env", "keys/", "token.txt", "once.txt", "never.txt")
    (repository / ".gitignore").write_text("\n".join(ignored))
    for path in committed:
        path.write_text("another s3cret\n")
    git("rm", "--cached", str(removed))
    with (package / "task.py").open("a") as file:
        file.write("# edited\n")

    provenance = recorded()
    assert "+# edited" in provenance["git_diff"]
    assert "s3cret" not in provenance["git_diff"]
    assert len(provenance["git_commit"]) == 40 and not provenance["git_clean"]
    there = {path for path in copy.rglob("*") if path.is_file()}
    copied = copy / package.name
    assert {copied / "task.py", copied / "hpc" / "source.py", copied / "token.txt"} < there
    assert not {copied / removed.name, copied / untracked.name} & there
    # The code may need it, so it is at hand.
    assert [path for path in there if b"s3cret" in path.read_bytes()] == [copied / "token.txt"]
    assert (copied / "token.txt").readlink() == package / "token.txt"

    git("checkout", "--", str(package / "task.py"))
    assert recorded()["git_diff"] is None
