"""What the questions propose where Slurm answers, where it does not, and where nothing can be made."""

import ast
import json
import os
import shutil
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import yaml
from pre_prompt import output_directory, scratch
from running import LIGHT, TEMPLATE, Ended, cookiecutter, disk, environment, run
from slurm_defaults import accounts, improve
from slurm_nodes import gpus, minutes
from test_generation import PLAIN_FACTS, PROJECT, facts

HOOK = TEMPLATE / "hooks" / "pre_prompt.py"
RECORDED = TEMPLATE / "tests" / "sinfo"
# What does not come from the place.
CONSTANT = ("SETUP_COMMANDS", "PYTHON", "WANDB_MODE", "SIGNAL_POLICY")
PLAIN = {name: fact for name, fact in PLAIN_FACTS.items() if name not in CONSTANT}


def recorded(version: str) -> dict[str, str]:
    """Scripts that print what this version of Slurm did."""
    names = ("sinfo", "sacctmgr", "scontrol")
    return {name: f"exec cat '{RECORDED / version / name}.txt'" for name in names}


def slurm(folder: Path, **scripts: str) -> dict[str, str]:
    """Variables of a machine on which these shell scripts are Slurm's commands; others fail."""
    programs = folder / "bin"
    programs.mkdir()
    for name in ("sinfo", "sacctmgr", "scontrol"):
        (programs / name).write_text(f"#!/bin/sh\n{scripts.get(name, 'exit 1')}\n")
        (programs / name).chmod(0o755)
    path = f"{programs}{os.pathsep}{os.environ['PATH']}"
    return {"HPC_HYDRA_PLAIN_DEFAULTS": "", "PATH": path}


def generated(cwd: Path, *arguments: str | Path, **variables: str) -> dict[str, object]:
    """The facts of a project that is generated without any question, or word, on the terminal."""
    done = cookiecutter(
        "--no-input", "-f", *arguments, LIGHT, "create_venv=no", cwd=cwd, **variables
    )
    assert (done.returncode, done.stderr) == (0, "")
    return {name: value for name, value in facts(cwd / PROJECT).items() if name in PLAIN}


def asked(cwd: Path, said: str = "", **variables: str) -> dict[str, str]:
    """What the hook, which ends with what is ``said``, leaves in a copy as cookiecutter gives it one."""
    shutil.copy(TEMPLATE / "cookiecutter.json", cwd)
    shutil.copytree(HOOK.parent, cwd / "hooks")
    done = run(sys.executable, "hooks/pre_prompt.py", cwd=cwd, **variables)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", said)
    return flat(json.loads((cwd / "cookiecutter.json").read_text()))


def proposed(sinfo: str, sacctmgr: str = "", config: str = "") -> dict[str, Any]:
    """The defaults and prompts from what Slurm's commands printed."""
    questions = json.loads((TEMPLATE / "cookiecutter.json").read_text())
    improve(questions, sinfo, sacctmgr, config)
    return flat(questions)


def flat(questions: dict[str, Any]) -> dict[str, Any]:
    """Of cookiecutter.json: defaults, in which Jinja may be left, and each `prompt of NAME`."""
    prompts = questions.pop("__prompts__")
    return {**questions, **{f"prompt of {name}": text for name, text in prompts.items()}}


UNCHANGED = flat(json.loads((TEMPLATE / "cookiecutter.json").read_text()))


# --- where Slurm answers -------------------------------------------------------------------------


@pytest.mark.parametrize("version", ["20.11", "22.05", "24.11"])
def test_all_versions_of_slurm_are_understood(version: str, tmp_path: Path) -> None:
    found = asked(tmp_path, **slurm(tmp_path, **recorded(version)))
    assert found["gpu_partition"] == "all"
    assert found["prompt of cpu_partition"].startswith(
        "Partition of CPU jobs; a space for none; found on throwaway: "
        "batch (default, 64 CPUs, 2 days), all (64 CPUs, 4 hours), short (64 CPUs, 10 minutes), "
        "fat (128 CPUs, 36.5 hours), "
    )
    assert found["account"] == "ocean"


def test_the_defaults_are_those_of_the_cluster(tmp_path: Path) -> None:
    assert generated(tmp_path, **slurm(tmp_path, **recorded("24.11"))) == {
        **PLAIN,
        "GPU_PARTITION": "all",
        "GPU_REQUEST": "gres=gpu:a100:{n} cpus-per-task={8n} mem={31n}G",
        "GPU_TYPES": {
            "a100_1g.5gb": (
                14,
                "partition=all gres=gpu:a100_1g.5gb:{n} cpus-per-task={3n} mem={12n}G",
            ),
            "a100_3g.20gb": (
                4,
                "partition=all gres=gpu:a100_3g.20gb:{n} cpus-per-task={3n} mem={12n}G",
            ),
            "nvidia_h100_80gb_hbm3": (
                4,
                "partition=all gres=gpu:nvidia_h100_80gb_hbm3:{n} cpus-per-task={16n} mem={62n}G",
            ),
            "tesla": (1, "partition=all gres=gpu:tesla:{n} cpus-per-task={64n} mem={250n}G"),
            "volta": (2, "partition=volta gres=gpu:{n} cpus-per-task={16n} mem={62n}G"),
            "odd": (1, "partition=odd gres=gpu:{n} cpus-per-task={64n} mem={250n}G"),
        },
        "CPU_PARTITION": "batch",
        "ACCOUNT": "ocean",
    }


@pytest.mark.parametrize("version", ["20.11", "22.05", "24.11"])
def test_gpus_bound_to_sockets(version: str) -> None:
    found = proposed((RECORDED / version / "sockets.txt").read_text())
    assert (found["gpu_partition"], found["cpu_partition"]) == ("work", "work")
    # Of the nodes of `work` most have four GPUs without a type.
    assert found["gpus_per_node"] == "4"
    assert '"both": "gres=gpu:a100:{n} cpus-per-task={n} mem={5n}G"' in found["gpu_request"]


def test_answers_are_proposed_to_a_person(tmp_path: Path) -> None:
    """And later defaults follow an earlier answer."""
    variables = slurm(tmp_path, **recorded("24.11"))
    cookiecutter_ = Path(sys.executable).with_name("cookiecutter")
    done = subprocess.run(
        [cookiecutter_, LIGHT, "create_venv=no"],
        cwd=tmp_path,
        env=environment({**variables, "HOME": str(tmp_path), "COLUMNS": "1000", "TERM": "dumb"}),
        input="\n\n\nhopper\n" + 20 * "\n",
        stdout=subprocess.PIPE,
        text=True,
    )
    assert done.returncode == 0
    for text in (
        "scikit-learn or pytorch (pytorch): ",
        "Partition of GPU jobs; a space for none; found on throwaway: all (4 GPUs, 4 hours), "
        "ampere (4 GPUs, 1 day), hopper (4 GPUs, 15 minutes), odd (1 GPU, 1.5 hours), "
        "volta (2 GPUs), 2 more (all): ",
        "types found on throwaway: a100, a100_1g.5gb, a100_3g.20gb, nvidia_h100_80gb_hbm3, tesla "
        "(gres=gpu:nvidia_h100_80gb_hbm3:{n} cpus-per-task={16n} mem={62n}G): ",
        "found on throwaway: batch (default, 64 CPUs, 2 days), all (64 CPUs, 4 hours), ",
        "a space for none; found on throwaway: ocean, root, atmos, ice (ocean): ",
        "exclusive (time=15:00): ",
    ):
        assert text in done.stdout
    found = facts(tmp_path / PROJECT)
    assert (found["GPU_PARTITION"], found["GPU_SBATCH"]) == ("hopper", "time=15:00")


def test_whoever_has_an_answer_wins(tmp_path: Path) -> None:
    variables = slurm(tmp_path, **recorded("24.11"))
    answers = tmp_path / "lab.yaml"
    answers.write_text(yaml.safe_dump({"default_context": {"gpu_partition": "volta"}}))
    volta = {**PLAIN, "GPU_PARTITION": "volta", "GPUS_PER_NODE": 2}
    types = proposed((RECORDED / "24.11" / "sinfo.txt").read_text())["_gpu_types"]
    volta["GPU_REQUEST"] = "gres=gpu:{n} cpus-per-task={16n} mem={62n}G"
    volta["GPU_TYPES"] = {name: fact for name, fact in types.items() if name != "volta"}
    volta.update({"CPU_PARTITION": "batch", "ACCOUNT": "ocean"})
    assert generated(tmp_path, "--config-file", answers, **variables) == volta
    assert generated(tmp_path, COOKIECUTTER_CONFIG=str(answers), **variables) == volta
    typed = (
        "create_venv=no",
        "gpu_partition=elsewhere",
        "gpu_request=gpus={n}",
        "account=",
        "cpu_partition=short",
    )
    done = cookiecutter("--no-input", "-f", LIGHT, *typed, cwd=tmp_path, **variables)
    assert done.returncode == 0, done.stderr
    chosen = {"GPU_PARTITION": "elsewhere", "GPU_REQUEST": "gpus={n}", "GPU_TYPES": types}
    chosen.update({"CPU_PARTITION": "short", "CPU_SBATCH": "time=10:00"})
    assert facts(tmp_path / PROJECT).items() >= {**PLAIN, **chosen}.items()
    done = cookiecutter("--replay", "-f", LIGHT, cwd=tmp_path, **variables)
    assert done.returncode == 0, done.stderr
    assert facts(tmp_path / PROJECT).items() >= {**PLAIN, **chosen}.items()
    assert asked(tmp_path, **{**variables, "HPC_HYDRA_PLAIN_DEFAULTS": "1"}) == UNCHANGED


def test_a_misspelled_name_is_warned_of(tmp_path: Path) -> None:
    """At the end, where it is read. What Slurm does not know may be right all the same."""
    variables = slurm(tmp_path, **recorded("24.11"))

    def said(*given: str, **more: str) -> str:
        done = cookiecutter(
            "--no-input",
            "-f",
            LIGHT,
            *given,
            "create_venv=no",
            cwd=tmp_path,
            **{**variables, **more},
        )
        assert done.returncode == 0, done.stderr
        return done.stdout.partition("\nNext:")[2]

    wrong = said("gpu_partition=amper", "cpu_partition=batch,shrot", "account=Ocean")
    for text in (
        "\ngpu_partition: amper is none of those found on throwaway: batch, short, fat, ampere, ",
        "\ncpu_partition: shrot is none of those found on throwaway: batch, ",
        "\naccount: Ocean is none of those found on throwaway: ocean, root, atmos, ice. If it is "
        "misspelled, correct it in cluster.py.\n",
    ):
        assert text in wrong
    assert "none of those" not in said("gpu_partition=ampere,volta", "account=$USER")
    assert "none of those" not in said("gpu_partition=amper", HPC_HYDRA_PLAIN_DEFAULTS="1")


# --- where Slurm does not answer -----------------------------------------------------------------


def test_what_hangs_is_ended_and_the_rest_is_used(tmp_path: Path) -> None:
    """One ignores TERM and leaves a child, one never stops printing."""
    pids = tmp_path / "pids"
    variables = slurm(
        tmp_path,
        sinfo="echo 'work*|up|infinite|2|8|0|gpu:2'",
        sacctmgr=f"trap '' TERM; sleep 1000 & echo $$ $! >'{pids}'; wait",
        scontrol=f"yes; echo $? >'{tmp_path}/status'; exec sleep 1000",
    )
    assert generated(tmp_path, **variables) == {
        **PLAIN, "GPU_PARTITION": "work", "GPUS_PER_NODE": 2, "CPU_PARTITION": "work",
        "GPU_REQUEST": "gres=gpu:{n} cpus-per-task={4n}",
    }  # fmt: skip
    for pid in pids.read_text().split():
        with suppress(
            OSError
        ):  # it has ended; without init, as in some containers, it stays a zombie
            assert "State:\tZ" in Path("/proc", pid, "status").read_text()
    assert (tmp_path / "status").read_text() == "153\n"  # 128 + SIGXFSZ: too large a file


@pytest.mark.parametrize(
    "script",
    [
        "cat '{good}'; exit 1",
        "exit 0",
        "head -c 100000 /dev/urandom",
        "cat '{good}' | tr '|' ' '",
        "yes \"$(cat '{good}')\"",
        r"printf '%s|up|infinite|2|8|0|gpu:2\n' '{{{{ 7*7 }}}}' '[bold]x' 'a\"b' \"c'd\" '$e' 'f g' '{{%'",
        "sed s/up/down/ '{good}'",
    ],
    ids=["fails", "silent", "bytes", "another-format", "endless", "strange-names", "all-down"],
)
def test_what_is_not_understood_leaves_the_plain_defaults(script: str, tmp_path: Path) -> None:
    script = script.format(good=RECORDED / "24.11" / "sinfo.txt")
    others = {"sacctmgr": script, "scontrol": script}
    said = "The defaults are not those of this cluster: sinfo names no partition; see to cluster.py later\n"
    assert asked(tmp_path, said, **slurm(tmp_path, sinfo=script, **others)) == UNCHANGED


def test_without_slurm(tmp_path: Path) -> None:
    assert asked(tmp_path, HPC_HYDRA_PLAIN_DEFAULTS="", PATH=str(tmp_path)) == UNCHANGED


def test_variables_that_change_what_slurm_prints_are_kept_from_it(tmp_path: Path) -> None:
    good = RECORDED / "24.11" / "sinfo.txt"
    seen = f'test "$SLURM_CONF" && test -z "$SINFO_PARTITION$SINFO_FORMAT" && cat \'{good}\''
    foreign = {"SINFO_PARTITION": "short", "SINFO_FORMAT": "%N", "SLURM_CONF": "/etc/slurm.conf"}
    assert asked(tmp_path, **foreign, **slurm(tmp_path, sinfo=seen))["cpu_partition"] == "batch"


def test_400_partitions(tmp_path: Path) -> None:
    lines = (f"p{n}|up|{n + 1}:00|{n + 1}|64|0|gpu:k{n}:{n % 8 + 1}" for n in range(400))
    (tmp_path / "sinfo.txt").write_text("\n".join(lines))
    variables = slurm(tmp_path, sinfo=f"cat '{tmp_path}/sinfo.txt'")
    done = cookiecutter(
        "--no-input", LIGHT, "gpu_partition=p9", "create_venv=no", cwd=tmp_path, **variables
    )
    assert done.returncode == 0, done.stderr
    found = facts(tmp_path / PROJECT)
    assert (found["GPUS_PER_NODE"], found["GPU_REQUEST"]) == (
        2,
        "gres=gpu:k9:{n} cpus-per-task={32n}",
    )
    assert (found["GPU_SBATCH"], found["CPU_PARTITION"]) == ("time=10:00", "p399")
    for prompt in ("gpu_partition", "cpu_partition", "gpu_request"):
        text = proposed((tmp_path / "sinfo.txt").read_text())[f"prompt of {prompt}"]
        assert text.endswith(", 395 more")
        assert len(text) < 400


def test_a_fault_in_the_reading_costs_no_more_than_the_defaults(tmp_path: Path) -> None:
    template = tmp_path / "template"
    shutil.copytree(LIGHT, template)
    (template / "hooks" / "slurm_defaults.py").write_text("raise ZeroDivisionError('oh')")
    done = cookiecutter(
        "--no-input", template, "create_venv=no", cwd=tmp_path, HPC_HYDRA_PLAIN_DEFAULTS=""
    )
    assert done.returncode == 0
    assert done.stderr == "The defaults are not those of this cluster: ZeroDivisionError('oh')\n"
    assert facts(tmp_path / PROJECT).items() >= PLAIN.items()


# --- how the output is read ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("gres", "expected"),
    [
        ("(null)", {}),
        ("", {}),
        ("gpu", {"": 1}),
        ("gpu:4", {"": 4}),
        ("gpu:0", {}),
        ("gpu:tesla", {"tesla": 1}),
        ("gpu:a100:4(S:0-1)", {"a100": 4}),
        ("gpu:tesla:2(IDX:0-1)", {"tesla": 2}),
        ("gpu:a100:2(S:0,2),gpu:a30:2(S:1,3),nvme:1", {"a100": 2, "a30": 2}),
        ("gpu:a100_1g.5gb:4(S:0)", {"a100_1g.5gb": 4}),
        ("gpu:1g.5gb:7", {"1g.5gb": 7}),
        ("nvme:2,shard:a100:32,mps:400", {}),
        ("gpu:{{evil}}:2,gpu:[b]:1", {}),
    ],
)
def test_gpus_of_a_node(gres: str, expected: dict[str, int]) -> None:
    assert gpus(gres) == expected


@pytest.mark.parametrize(
    ("limit", "expected"),
    [
        ("infinite", 0), ("n/a", 0), ("UNLIMITED", 0), ("", 0), ("5", 0), ("{{}}", 0),
        ("10:00", 10), ("1:00:00", 60), ("12:30:00", 750), ("1-00:00:00", 1440),
    ],
)  # fmt: skip
def test_time_limits(limit: str, expected: int) -> None:
    assert minutes(limit) == expected


@pytest.mark.parametrize(
    ("partitions", "gpu", "cpu"),
    [
        (["a*|up|1:00|9|8|0|gpu:2", "my-GPU|up|1:00|1|8|0|gpu:2"], "my-GPU", "a"),
        (["a|up|1:00|9|8|0|gpu:2", "b*|up|1:00|1|8|0|gpu:2"], "b", "b"),
        (["a|up|1:00|1|8|0|gpu:2", "b|up|1:00|9|8|0|gpu:2", "c*|up|1:00|1|8|0|(null)"], "b", "c"),
        (["gpu-debug*|up|1:00|9|8|0|gpu:2", "a|up|1:00|1|8|0|gpu:2"], "a", "a"),
        (["gpu_test|up|1:00|9|8|0|gpu:2", "gpudev|up|1:00|99|8|0|gpu:2"], "gpudev", "gpudev"),
        (["a*|up|1:00|9|8|0|(null)", "xcpu|up|1:00|1|8|0|(null)"], "", "xcpu"),
        (["a*|up|1:00|9|8|0|gpu:4", "b|up|1:00|1|8|0|(null)"], "a", "b"),
        (["a|up|1:00|1|8|0|(null)", "b|up|1:00|9|8|0|(null)"], "", "b"),
        (["preempt*|up|1:00|9|8|0|(null)", "b|up|1:00|1|8|0|(null)"], "", "b"),
        (
            ["gpu*|up|1:00|9|8|0|gpu:4", "b|drain|1:00|1|8|0|(null)", "c|up|1:00|0|0|0|"],
            "gpu",
            "gpu",
        ),
    ],
)
def test_which_partition_is_proposed(partitions: list[str], gpu: str, cpu: str) -> None:
    found = proposed("\n".join(partitions))
    assert (found["gpu_partition"], found["cpu_partition"]) == (gpu, cpu)


@pytest.mark.parametrize(
    ("kinds", "number", "request_"),
    [
        (["2|8|9000|gpu:8", "9|8|9000|gpu:4", "50|8|9000|(null)"], "4", "gpu:{n} cpus-per-task={n} mem={n}G"),
        (["2|8|9000|gpu:a100:8", "1|8|9000|gpu:v100:4"], "8", "gpu:a100:{n} cpus-per-task={n} mem={n}G"),
        (["2|9|0|gpu:a100:8", "1|8|0|gpu:a100:4", "2|8|0|gpu:v100:4"], "8", "gpu:a100:{n} cpus-per-task={n}"),
        (["9|8|0|gpu:a100_1g.5gb:28", "1|8|0|gpu:a100:4"], "4", "gpu:a100:{n} cpus-per-task={2n}"),
        (["1|8|0|gpu:a100:2,gpu:a100_3g.20gb:4", "1|8|0|gpu:a100:2"], "2", "gpu:a100:{n} cpus-per-task={4n}"),
        (["1|8|9000|gpu:a100:2,gpu:a100_3g.20gb:4"], "2", "gpu:a100:{n} cpus-per-task={n} mem={n}G"),
        (["1|96+|515000+|gpu:4", "1|128|490000|gpu:4"], "4", "gpu:{n} cpus-per-task={24n} mem={119n}G"),
        (["1|8+|9000|gpu:1g.5gb:28"], "28", "gpu:1g.5gb:{n}"),
        (["1|8|9000|(null)"], "0", "gpu:{n}"),
    ],
)  # fmt: skip
def test_which_gpus_are_proposed(kinds: list[str], number: str, request_: str) -> None:
    found = proposed("\n".join(f"a|up|infinite|{kind}" for kind in kinds))
    assert (found["gpus_per_node"], found["gpu_request"]) == (number, f"gres={request_}")


def test_partitions_are_described_in_short() -> None:
    sinfo = "a|up|1:01:00|1|1024+|0|(null)\na|up|1:01:00|9|1|0|(null)\nb*|up|n/a|1|1024|0|gpu"
    found = proposed(sinfo)
    assert found["prompt of cpu_partition"].endswith(
        "; found here: a (1 CPU, 1 hour), b (default, 1024 CPUs)"
    )
    assert found["prompt of gpu_partition"].endswith("; found here: b (default, 1 GPU)")
    assert proposed("a|up|0:00|1|0|0|")["prompt of gpu_partition"].endswith("; found here: none")


def test_accounts_are_those_of_this_cluster() -> None:
    table = "here|lab|lab\nhere|lab|other\nhere|lab|other\nthere|astro|astro\n{{}}|a|b\nhere||{{"
    assert accounts(table, "here") == ["lab", "other"]
    assert accounts(table, "there") == ["astro"]
    assert accounts(table, "") == [""]  # which of the two it is cannot be known
    assert accounts("here|gone|lab", "") == ["", "lab"]
    found = proposed("", "here|gone|lab", "ClusterName             = here\n")
    assert found["account"] == ""
    assert found["prompt of account"].endswith("; a space for none; found on here: lab")


def test_outputs_go_to_the_fast_file_system_of_whoever_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers = slurm(tmp_path, sinfo="echo 'work*|up|infinite|2|8|0|(null)'")
    variables = {**answers, "SCRATCH": str(tmp_path), "WORK": str(tmp_path)}
    assert generated(tmp_path, **variables)["OUTPUT_DIR"] == "$SCRATCH/hpc-experiment"
    variables["HPC_HYDRA_PLAIN_DEFAULTS"] = "1"
    assert generated(tmp_path, **variables)["OUTPUT_DIR"] == "outputs"
    for name in ("WORK", "PSCRATCH", "MYSCRATCH", "CINECA_SCRATCH"):
        monkeypatch.delenv(name, raising=False)
    for unusable in ("", ".", "/nowhere", str(HOOK)):
        monkeypatch.setenv("SCRATCH", unusable)
        assert scratch() == ""
    monkeypatch.setenv("WORK", str(tmp_path))
    assert scratch() == "$WORK/{{ cookiecutter.project_slug }}"


# --- where nothing can be made -------------------------------------------------------------------


def old_pythons() -> dict[str, str]:
    """Interpreters by version, those behind a shim or a link as well."""
    folders = [Path(folder) for folder in os.environ["PATH"].split(os.pathsep)]
    folders += sorted(Path.home().glob(".pyenv/versions/3.[89].*/bin"))
    folders += sorted(Path.home().glob(".local/share/uv/python/cpython-3.[89].*/bin"))
    found: dict[str, str] = {}
    for version in ("3.8", "3.9"):
        for program in (folder / f"python{version}" for folder in folders):
            if os.access(program, os.X_OK):
                ask = "import sys; print('%d.%d' % sys.version_info[:2], sys.executable)"
                said = run(program, "-c", ask, cwd=Path("/")).stdout.split(maxsplit=1)
                if said and said[0] == version:  # a shim is there for versions that are not
                    found[version] = said[1].strip()
    return found


def test_an_old_python_is_told_so(tmp_path: Path) -> None:
    ast.parse(HOOK.read_text(), feature_version=(3, 8))
    for version, python in old_pythons().items():
        done = run(python, HOOK, cwd=tmp_path)
        assert done.returncode == 1
        assert done.stderr.startswith("hpc-hydra-template needs Python 3.10 or newer; ")
        assert f" runs on {version}." in done.stderr
        assert done.stderr.count("\n") == 1


def assert_refused(done: Ended, place: Path, reason: str) -> None:
    assert done.returncode != 0
    message = f"Nothing was generated: no project can be written to {place}: {reason}; "
    assert done.stderr.startswith(message + "choose another directory with --output-dir\n")
    assert "Traceback" not in done.stderr


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to mount small disks")
def test_a_place_without_room_is_refused_before_the_questions(tmp_path: Path) -> None:
    with disk(tmp_path / "full", "size=256k") as place:
        assert_refused(cookiecutter("-fso", place / "new", LIGHT, cwd=tmp_path), place, "No space left on device")  # fmt: skip
        assert list(place.iterdir()) == []
    with disk(tmp_path / "inodes", "nr_inodes=30") as place:
        done = cookiecutter(f"--output-dir={place}", LIGHT, cwd=tmp_path)
        assert_refused(done, place, "No space left on device")
    with disk(tmp_path / "ro", "ro") as place:
        done = cookiecutter(LIGHT, "-o", "ro/a/b", cwd=tmp_path)
        assert_refused(done, place, "Read-only file system")
        # As in a shell in this directory.
        done = cookiecutter(LIGHT, cwd=tmp_path, PWD=str(place))
        assert_refused(done, place, "Read-only file system")


def test_a_file_is_no_place_for_a_project(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    done = cookiecutter("--no-input", LIGHT, "-o", "file", cwd=tmp_path)
    assert_refused(done, tmp_path / "file", "Not a directory")


@pytest.mark.parametrize(
    ("command", "expected"),
    [
        ("python /venv/bin/cookiecutter gh:org/x", "/here"),
        ("python -I -m cookiecutter gh:org/x -o there", "/here/there"),
        ("python cookiecutter --no-input --output-dir /there gh:org/x a=b -c v1", "/there"),
        ("python cookiecutter -fsvo/there gh:org/x", "/there"),
        ("python cookiecutter --output-dir=a -o b -- gh:org/x a=-o", "/here/b"),
        ("python cookiecutter gh:org/x --config-file y --checkout z -o ../b", "/here/../b"),
        ("python cookiecutter gh:org/x --output-di there", "/here"),
    ],
)
def test_where_the_project_goes(command: str, expected: str) -> None:
    assert output_directory(command.split(), "/here") == Path(expected)


@pytest.mark.parametrize(
    ("command", "here"),
    [
        ("python /venv/bin/cruft create gh:org/cookiecutter -o /there", "/here"),
        ("python lab.py cookiecutter -o /there", "/here"),
        ("python -m lab cookiecutter -o /there", "/here"),
        ("python -c import", "/here"),
        ("python", "/here"),
        ("python cookiecutter gh:org/x -o", "/here"),
        ("python cookiecutter gh:org/x -o there", ""),
    ],
)
def test_where_the_project_goes_is_not_clear(command: str, here: str) -> None:
    with pytest.raises(ValueError):
        output_directory(command.split(), here)
