"""The library is asked for where the template came from, however that was said."""

import functools
import http.server
import os
import shutil
import sys
import threading
from pathlib import Path

import pytest
import yaml
from running import TEMPLATE, cookiecutter, run
from test_generation import PROJECT, commit, published

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

PLAIN = "hpc-hydra[results,wandb]>=0.2"


def requirement(project: Path) -> str:
    """What the repository asks for, of hpc-hydra."""
    text = (project / "pyproject.toml").read_text()
    (library,) = (
        each
        for each in tomllib.loads(text)["project"]["dependencies"]
        if each.lower().startswith("hpc")
    )
    assert ("# A folder of yours; once published: " in text) == ("file://" in library)
    return str(library)


def asked(cwd: Path, *arguments: str | Path, **variables: str) -> str:
    """Of what cookiecutter generates; what it says is that too."""
    words = arguments if "--replay" in arguments else ("--no-input", *arguments, "create_venv=no")
    done = cookiecutter("-f", *words, cwd=cwd, **variables)
    assert done.returncode == 0, done.stderr
    found = requirement(cwd / PROJECT)
    assert f"\nThe library: {found}" in done.stdout
    return found


def elsewhere(folder: Path, address: str, repository: Path) -> dict[str, str]:
    """Variables with which git takes the repository for what lies at the address."""
    config = folder / "gitconfig"
    mine = (TEMPLATE / "tests" / "gitconfig").read_text()
    config.write_text(f'{mine}[url "file://{repository}"]\n\tinsteadOf = {address}\n')
    return {"GIT_CONFIG_GLOBAL": str(config)}


def test_from_a_folder(tmp_path: Path) -> None:
    """Whatever it holds, and however it is written."""
    at = f"hpc-hydra[results,wandb] @ file://{TEMPLATE}"
    assert asked(tmp_path, TEMPLATE) == at
    assert run("git", "status", "--porcelain", cwd=tmp_path / PROJECT).stdout == ""
    assert asked(tmp_path, os.path.relpath(TEMPLATE, tmp_path)) == at
    assert asked(tmp_path, "--replay", TEMPLATE) == at
    (tmp_path / "a b%#é").mkdir()
    published(tmp_path / "a b%#é")
    odd = f"hpc-hydra[results,wandb] @ file://{tmp_path}/a%20b%25%23%C3%A9/hpc-hydra-template.git"
    assert asked(tmp_path, "a b%#é/./hpc-hydra-template.git/") == odd
    # As a program calls it that does not set PWD.
    assert asked(tmp_path, "a b%#é/hpc-hydra-template.git", PWD="/nowhere") == odd


def test_from_a_repository(tmp_path: Path) -> None:
    """At the commit that was checked out; `gh:` is such an abbreviation."""
    template = published(tmp_path)
    first = run("git", "rev-parse", "HEAD", cwd=template).stdout.strip()
    (template / "new").touch()
    second = commit(template, "second")
    at = f"hpc-hydra[results,wandb] @ git+file://{template}"
    assert asked(tmp_path, f"file://{template}") == f"{at}@{second}"
    assert asked(tmp_path, "--checkout", first, f"file://{template}") == f"{at}@{first}"
    # What was cloned before is found by its name, and is as it was left.
    assert asked(tmp_path, "hpc-hydra-template") == f"{at}@{first}"
    config = tmp_path / "config.yaml"
    config.write_text(yaml.safe_dump({"abbreviations": {"gh": f"file://{tmp_path}/{{0}}.git"}}))
    short = ("--config-file", config, "gh:hpc-hydra-template")
    assert asked(tmp_path, *short) == f"{at}@{second}"


@pytest.mark.parametrize(
    ("address", "asked_for"),
    [
        ("https://github.com/lab/template.git", "https://github.com/lab/template.git"),
        ("https://me:secret@git.org/x/hydra.git", "https://git.org/x/hydra.git"),
        ("git@github.com:org/hydra.git", "ssh://git@github.com/org/hydra.git"),
        ("git+ssh://git@git.org:22/~me/hydra.git", "ssh://git@git.org:22/~me/hydra.git"),
    ],
)
def test_from_an_address(address: str, asked_for: str, tmp_path: Path) -> None:
    template = published(tmp_path)
    head = run("git", "rev-parse", "HEAD", cwd=template).stdout.strip()
    variables = elsewhere(tmp_path, address.removeprefix("git+"), template)
    found = asked(tmp_path, address, **variables)
    assert found == f"hpc-hydra[results,wandb] @ git+{asked_for}@{head}"
    page = "lab/template" if "lab" in address else "org/hpc-hydra-template"
    assert (
        f"(https://github.com/{page}/tree/HEAD/docs/hpc.md)"
        in (tmp_path / PROJECT / "README.md").read_text()
    )
    shutil.rmtree(tmp_path / ".cookiecutters")  # else it asks whether to clone again
    assert asked(tmp_path, "--replay", address, **variables) == found


def test_from_an_archive(tmp_path: Path) -> None:
    template = published(tmp_path)
    archive = tmp_path / "x.zip"
    run("git", "archive", "--prefix=x/", f"--output={archive}", "HEAD", cwd=template)
    assert asked(tmp_path, archive) == f"hpc-hydra[results,wandb] @ file://{archive}"
    assert asked(tmp_path, "x.zip") == f"hpc-hydra[results,wandb] @ file://{archive}"
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=str(tmp_path))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_port}/x.zip"
        assert asked(tmp_path, url, no_proxy="*") == f"hpc-hydra[results,wandb] @ {url}"
        server.shutdown()


@pytest.mark.parametrize(
    ("answer", "asked_for"),
    [
        ("hpc-hydra", "hpc-hydra[results,wandb]"),
        (" hpc-hydra>=0.2,<1 ", "hpc-hydra[results,wandb]>=0.2,<1"),
        ("HPC_Hydra ~= 0.2.1", "HPC_Hydra[results,wandb] ~= 0.2.1"),
        ("hpc-hydra[dev, wandb]==0.2.*", "hpc-hydra[dev, wandb]==0.2.*"),
        (
            "hpc-hydra @ git+https://git.org/me/fork",
            "hpc-hydra[results,wandb] @ git+https://git.org/me/fork",
        ),
        ("hpc-hydra@file:///opt/a%20b", "hpc-hydra[results,wandb]@file:///opt/a%20b"),
    ],
)
def test_from_where_the_answer_says(answer: str, asked_for: str, tmp_path: Path) -> None:
    lab = tmp_path / "lab.yaml"
    lab.write_text(yaml.safe_dump({"default_context": {"library": answer}}))
    assert asked(tmp_path, "--config-file", lab, TEMPLATE) == asked_for


def test_from_nobody_knows_where(tmp_path: Path) -> None:
    """A clone without an origin, and a hook that is not called."""
    template = published(tmp_path)
    clones = tmp_path / ".cookiecutters"
    clones.mkdir()
    template.rename(clones / "mine")
    done = cookiecutter("--no-input", "mine", "create_venv=no", cwd=tmp_path)
    assert requirement(tmp_path / PROJECT) == PLAIN
    assert (
        f"{PLAIN}, since where the template came from is not known: mine at commit " in done.stdout
    )
    (template,) = TEMPLATE.glob("{{*/pyproject.toml")
    assert f'\n    "{PLAIN}",\n' in template.read_text()
