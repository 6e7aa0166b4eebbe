"""Members of a lab who share a repository and a folder for outputs: one is root, the other nobody."""

import pickle
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from jobs import job_of, record, slurm
from running import Project, home, run
from test_security import SOMEBODY, Trap, listing
from test_submission import HELD

DAY = "2026-01-31"
# Python may lie where only root can look: nobody may read everything, and write as nobody.
READS_ALL = ("--inh-caps=+dac_read_search", "--ambient-caps=+dac_read_search")
AS_NOBODY = ("setpriv", "--reuid=nobody", "--regid=nogroup", "--clear-groups", *READS_ALL)


@pytest.fixture
def repository(on_slurm: Project, lab: Path) -> Project:
    """Root's, in git; its sweeps all begin in the same second."""
    path = lab / "repository"
    shutil.copytree(on_slurm.path, path, ignore=shutil.ignore_patterns(".*", "outputs"))
    for name, before, after in (
        ("configs", "/${now:%Y-%m-%d}/${now:%H-%M-%S}", f"/{DAY}/12-00-00"),
        ("cluster", 'OUTPUT_DIR = "outputs"', f'OUTPUT_DIR = "{lab}/outputs"'),
    ):
        file = path / "src" / "hpc_experiment" / f"{name}.py"
        assert before in file.read_text()
        file.write_text(file.read_text().replace(before, after))
    for git in ("init", "add .", "commit --message=first"):
        assert run("git", *git.split(), cwd=path).returncode == 0
    (path / ".venv").symlink_to(on_slurm.path / ".venv")
    variables = {"PYTHONPATH": f"{path}/src", "PYTHONDONTWRITEBYTECODE": "1"}
    return Project(path, {**on_slurm.variables, **variables})


def started(
    project: Project, member: str, umask: int, *arguments: str | Path
) -> "subprocess.Popen[str]":
    """The command ``python -m hpc_experiment``, or another module of it, typed by a member."""
    folder = project.path.parent / f"home of {member}"
    if not folder.exists():
        folder.mkdir()
        shutil.chown(folder, member)
    user = {
        **home(folder),
        "XDG_CACHE_HOME": str(folder),
        "XDG_STATE_HOME": str(folder),
        "USER": member,
        "LOGNAME": member,
    }
    return subprocess.Popen(
        [
            *(AS_NOBODY if member == "nobody" else ()),
            f"{project.path}/.venv/bin/python", "-m", *map(str, arguments),
        ],
        cwd=project.path, env=project.environment(**user, TMPDIR=str(folder), GIT_CONFIG_GLOBAL="/dev/null"),
        umask=umask,
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip


def table(project: Project, member: str, *arguments: str | Path) -> str:
    process = started(project, member, 0o022, "hpc_hydra", "status", *arguments)
    output = process.communicate(timeout=60)[0]
    assert process.returncode == 0, output
    return output


def test_two_members_at_once(
    repository: Project, lab: Path, record_property: Callable[[str, object], None]
) -> None:
    """Nothing collides, all permissions are those of whose file it is, and nobody touches the other's.

    The second member's runs are on this machine: Slurm would start them without the right to read Python.
    """
    if run(*AS_NOBODY, "true", cwd=lab).returncode != 0:
        pytest.skip("needs setpriv and the capability DAC_READ_SEARCH: a container may lack them")
    base, canary = lab / "outputs", lab / "canary"
    (base / DAY).mkdir(parents=True)  # root was the first one today, and lets nobody else in
    base.chmod(0o1777)
    (base / DAY).chmod(0o755)
    git = listing(repository.path / ".git")

    slurm_sweep = ("hpc_experiment", "+setup=hpc_batch", "epochs=1")
    local_sweep = ("hpc_experiment", "+setup=local", "epochs=1")
    members = {("root", 0o027): slurm_sweep, ("root", 0o002): slurm_sweep}
    members |= {("nobody", 0o027): local_sweep, ("nobody", 0o002): local_sweep}
    processes = {each: started(repository, *each, *command) for each, command in members.items()}
    directories = {}
    for each, process in processes.items():
        output = process.communicate(timeout=120)[0]
        assert process.returncode == 0, output
        directories[each] = Path(output.rpartition("outputs: ")[2].strip())
        assert "COMPLETED" in output and "everyone can write" not in output
    names = ("12-00-00", "12-00-00_2")
    for member, day in (("root", DAY), ("nobody", f"{DAY}_nobody")):
        own = {directory for (name, _), directory in directories.items() if name == member}
        assert own == {base / day / name for name in names}
    assert {path.name for path in base.iterdir()} == {DAY, f"{DAY}_nobody"}
    assert listing(repository.path / ".git") == git
    runs = [record(directory / "0" / "run.json") for directory in directories.values()]
    lost = sum(each["state"] != "COMPLETED" for each in runs)
    fault = "two members start two sweeps each in the same second"
    record_property(
        "fault",
        [
            fault,
            "1",
            str(len(set(directories.values()))),
            "0",
            str(lost),
            "BAD" if lost else "good",
        ],
    )
    assert not lost

    for (member, umask), directory in directories.items():
        uid = SOMEBODY if member == "nobody" else 0
        paths = [directory, *directory.rglob("*")]
        statuses = {path: path.lstat() for path in paths if not path.is_symlink()}
        assert [path for path, status in statuses.items() if status.st_uid != uid] == []
        assert [path for path, status in statuses.items() if status.st_mode & umask] == []
        sweep = record(directory / "sweep.json")
        assert len(sweep["submissions"][0]["git_commit"] or "") == 40
        checkpoint = str(next(directory.glob("0/checkpoint_*.ckpt")).relative_to(directory))
        own_files = [
            "sweep.json", "0/run.json", checkpoint, "jobs/submission_0.pkl", "jobs/lock",
            "jobs/run_0_0_completed.pkl", sweep["runs"][0]["log"],
        ]  # fmt: skip
        if member == "root":
            own_files.append(f"jobs/{job_of(directory)}_submission.sh")
        for name in own_files:
            assert statuses[directory / name].st_mode & 0o777 == 0o666 & ~umask, name
        for name in ("", "0", "jobs", "source/src/hpc_experiment"):
            assert statuses[directory / name].st_mode & 0o777 == 0o777 & ~umask, name

    held = base / DAY / "held"
    waiting = started(
        repository, "root", 0o022, *slurm_sweep, HELD, "hydra.launcher.wait=false",
        f"hydra.sweep.dir={held}",
    )  # fmt: skip
    assert waiting.wait(timeout=60) == 0
    of_root, of_nobody = directories["root", 0o002], directories["nobody", 0o002]
    for path in base.rglob("*.pkl"):
        path.write_bytes(pickle.dumps(Trap(f"touch {canary}")))
    before = listing(base)
    assert "1 completed" in table(repository, "nobody", of_root)
    assert "1 completed" in table(repository, "root", of_nobody)
    assert "1 pending" in table(repository, "nobody", held)
    # The newest of one's own, which of two at once may be either.
    assert f"outputs: {base}/{DAY}_nobody/12-00-00" in table(repository, "nobody")
    refused = started(repository, "nobody", 0o022, *slurm_sweep, f"hydra.sweep.dir={of_root}")
    assert f"{of_root} belongs to root" in refused.communicate(timeout=60)[0]
    assert refused.returncode == 1
    assert listing(base) == before
    assert not canary.exists()
    slurm(repository, "scancel", job_of(held))
