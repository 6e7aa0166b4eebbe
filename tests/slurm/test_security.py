"""What must not leak, what must not be executed, and whose files are not read."""

import json
import os
import pickle
import pwd
import re
import secrets
import shlex
from pathlib import Path

from jobs import accounting, job_of, processes_of, record, slurm, wait_until
from running import Project, run
from test_submission import HELD
from test_sweeps import sweep

SECRETS = {
    "WANDB_API_KEY": secrets.token_hex(20),
    "HF_TOKEN": f"hf_{secrets.token_hex(17)}",
    "AWS_SECRET_ACCESS_KEY": secrets.token_hex(20),
    "GITHUB_TOKEN": f"ghp_{secrets.token_hex(18)}",
    "OPENAI_API_KEY": f"sk-{secrets.token_hex(24)}",
    "DATABASE_PASSWORD": secrets.token_hex(12),
}
NOTED = "model._target_=probe_models.noted"
TOKEN = "+model.secret='${oc.env:HF_TOKEN}'"
SOMEBODY = pwd.getpwnam("nobody").pw_uid


def test_no_secret_is_written(on_slurm: Project, tmp_path: Path) -> None:
    """Of what the environment has, nothing is in what a sweep leaves, in what Slurm tells everybody,
    or on the screen; Slurm itself takes the environment to the job."""
    home = tmp_path / "home"
    (home / "tmp").mkdir(parents=True)
    variables = {**SECRETS, "HOME": str(home), "TMPDIR": f"{home}/tmp", "WANDB_MODE": "offline"}
    commands = {
        "gpu": ("+setup=hpc_gpu", "lr=0.1,-1"),  # the second one fails
        "packed": ("+setup=hpc_gpu_packed", "seed=1,2"),
        "local": ("+setup=local", "lr=0.1,-1"),
    }
    processes = {
        name: on_slurm.start(
            *command, "epochs=1", NOTED, TOKEN, f"hydra.sweep.dir={tmp_path}/{name}", **variables
        )
        for name, command in commands.items()
    }
    shown = ""
    for name, process in processes.items():
        output = process.communicate(timeout=120)[0]
        states = [record(tmp_path / name / run / "run.json")["state"] for run in "01"]
        assert states == ["COMPLETED", "COMPLETED" if name == "packed" else "FAILED"], output
        for entry in record(tmp_path / name / "sweep.json")["runs"]:
            assert "has the token: True" in (tmp_path / name / entry["log"]).read_text()
        assert list(tmp_path.glob(f"{name}/0/wandb/offline-run-*/*.wandb"))
        shown += output
    # What the last processes remove would be missed while it is looked for.
    wait_until(lambda: not any(processes_of(tmp_path / name) for name in commands))
    for name in ("gpu", "packed"):
        job = job_of(tmp_path / name)
        for command in (("show", "job", "--details"), ("write", "batch_script")):
            shown += slurm(on_slurm, "scontrol", *command, job, *["-"] * (command[0] == "write"))

    written = {tmp_path: [*tmp_path.rglob("*")]}
    written[on_slurm.path] = [
        path for path in on_slurm.path.rglob("*")
        if path.relative_to(on_slurm.path).parts[0] != ".venv"
    ]  # fmt: skip
    names = {path.name for path in written[tmp_path]}
    assert names >= {"sweep.json", "multirun.yaml", "submission_0.pkl", "run_0_0_completed.pkl"}
    found = [
        f"{name} in {path}"
        for paths in written.values()
        for path in paths
        if path.is_file()
        for name, secret in SECRETS.items()
        if secret.encode() in path.read_bytes()
    ]
    found += [f"{name} is shown" for name, secret in SECRETS.items() if secret in shown]
    assert not found


def quoted(value: str) -> str:
    """``value`` as Hydra takes it, in single quotes. What is no interpolation is said to be none twice,
    since Hydra evaluates the arguments of what it makes twice."""
    value = value.replace("${", "\\\\\\${")
    return "'" + re.sub(r"(\\*)('|$)", lambda m: m[1] * 2 + "\\'" * bool(m[2]), value) + "'"


def test_overrides_are_data(on_slurm: Project, tmp_path: Path) -> None:
    """They reach the run as they were typed, and no shell on the way executes them."""
    canary = tmp_path / "canary"
    touch = f"touch {canary}"
    swept = [
        f"'; {touch}; '\"$({touch})`{touch}`\n{touch}\n\\",
        "%A ${HOME} ${oc.env:HOME}",
        "x" * 5000,
    ]
    listed = [
        f"$({touch})", f"`{touch}`", f"; {touch}", f"| {touch} &", f'" ; {touch} ; "',
        f"'$({touch})'\n$({touch})", "it's", 'say "so"', "two\nlines\n", "a\ttab", "$0 $HOME",
        "%A_%a %j", "\\", "a\\b\\\\c\\n", "\\'", '\\"', "*", "~", "!!", "#SBATCH --hold", "-rf", "--help",
        "x=1,y=[2]", "null", "1", "", " a b ", "{a: 1}", "Zürich ☃ 日本", "[red]a[/red] [/]",
    ]  # fmt: skip
    every = f"[{','.join(map(quoted, listed))}]"
    typed = f"+model.note={every},{','.join(map(quoted, swept))}"
    packing = ("hydra.launcher.tasks_per_node=2", "hydra.launcher.runs_per_job=4")
    started = sweep(
        on_slurm, tmp_path, "+setup=hpc_batch", "epochs=1", NOTED, typed, *packing,
        "hydra.launcher.wait=false",
    )  # fmt: skip
    assert started.returncode == 0, started.stdout + started.stderr
    again = started.stderr.split("To wait for them again:\n    ")[1]
    pasted = run("bash", "-c", again, cwd=on_slurm.path, **on_slurm.environment())
    assert pasted.returncode == 0, pasted.stdout + pasted.stderr
    assert "0 to submit" in pasted.stdout
    assert not canary.exists()

    recorded = record(tmp_path / "sweep.json")
    assert typed in shlex.split(recorded["submissions"][0]["command"])
    assert typed in recorded["overrides"]
    values = [(every, listed), *((quoted(value), value) for value in swept)]
    for number, (override, value) in enumerate(values):
        entry = recorded["runs"][number]
        assert entry["overrides"][-1] == f"+model.note={override}"
        assert record(tmp_path / str(number) / "run.json")["overrides"] == entry["overrides"]
        log = (tmp_path / entry["log"]).read_text()
        assert [json.loads(note) for note in re.findall("^note: (.*)$", log, re.MULTILINE)] == [
            value
        ]


class Trap:
    """Executes a command when it is unpickled."""

    def __init__(self, command: str) -> None:
        self.command = command

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.system, (self.command,)


def test_what_somebody_else_wrote_is_not_unpickled(on_slurm: Project, tmp_path: Path) -> None:
    """Neither by a job nor by the command; and a sweep of somebody else is left as it is."""
    directory, link, canary = tmp_path / "sweep", tmp_path / "link", tmp_path / "canary"
    directory.mkdir()
    directory.chmod(0o777)
    link.symlink_to(directory)
    command = ("+setup=hpc_batch", "epochs=1")
    started = sweep(on_slurm, directory, *command, HELD, "hydra.launcher.wait=false")
    assert started.returncode == 0, started.stdout + started.stderr
    assert started.stdout.count(f"chmod o-w {directory} ") == 1
    directory.chmod(0o755)

    (directory / "0").mkdir()  # else the run would be done again, whatever is planted
    planted = [directory / "jobs" / name for name in ("submission_0.pkl", "run_0_0_completed.pkl")]
    for path in planted:
        path.write_bytes(pickle.dumps(Trap(f"touch {canary}")))
        os.chown(path, SOMEBODY, -1)
    job = job_of(directory)
    slurm(on_slurm, "scontrol", "release", job)
    (row,) = accounting(on_slurm, job)
    assert row["State"] == "FAILED"
    assert "belongs to nobody" in (directory / "jobs" / f"{job}_0_0_log.out").read_text()
    done = sweep(on_slurm, directory, *command)
    assert done.returncode == 1
    assert f"{planted[1]} belongs to nobody" in done.stderr and "Traceback" not in done.stderr
    assert "chmod" not in done.stdout

    for path in [directory, *directory.rglob("*")]:
        os.chown(path, SOMEBODY, -1, follow_symlinks=False)
    before = listing(directory)
    for name in (directory, link):
        done = sweep(on_slurm, name, *command)
        assert done.returncode == 1
        assert f"{name} belongs to nobody" in done.stderr and "Traceback" not in done.stderr
    assert on_slurm.run("hpc", "status", directory).returncode == 0
    assert listing(directory) == before
    assert not canary.exists()


def listing(folder: Path) -> dict[str, tuple[int, ...]]:
    """What would show that something was written, by name."""
    found = {str(path): path.lstat() for path in [folder, *folder.rglob("*")]}
    return {
        name: (status.st_ino, status.st_mode, status.st_uid, status.st_size, status.st_mtime_ns)
        for name, status in found.items()
    }
