"""Ranks on this machine, and which GPUs they see: it need not have any, the command's variable names them."""

import os
import sys
from ast import literal_eval
from importlib.util import find_spec

import pytest
from library.using import App, record

# Each rank leaves what it sees, which of the GPUs is its own, and the process that has started it.
TASK = """
import os
from pathlib import Path

import hydra
from hydra.core.hydra_config import HydraConfig

from hpc_hydra import log_metrics, this_process


@hydra.main(version_base="1.3", config_path="conf", config_name="config")
def main(config):
    folder = HydraConfig.get().runtime.output_dir
    process = this_process(folder)
    log_metrics({"world_size": process.world_size}, 1)
    Path(folder, f"rank_{process.rank}").write_text(
        f"{os.environ['CUDA_VISIBLE_DEVICES']}; {process.local_gpu}; {os.getppid()}"
    )


main()
"""
RECORD = "+hydra.callbacks.record._target_=hpc_hydra.RecordCallback"
OF_TORCHRUN = {
    "TORCHELASTIC_RUN_ID": "1", "RANK": "1", "WORLD_SIZE": "2", "LOCAL_RANK": "1",
    "LOCAL_WORLD_SIZE": "2",
}  # fmt: skip


@pytest.fixture
def app(yaml_app: App) -> App:
    (yaml_app.folder / "app.py").write_text(TASK)
    return yaml_app


@pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="needs two cores")
@pytest.mark.parametrize(
    ("overrides", "ranks", "seen"),
    [
        pytest.param("", 1, ["0; 0", "1; 0"], id="one for each of two processes"),
        pytest.param("hydra.launcher.tasks_per_node=2", 2, ["0,1; 0", "0,1; 1"], id="two ranks"),
        pytest.param("hydra.launcher.gpus_per_node=1", 1, ["0; 0", "0; 0"], id="one of two"),
        pytest.param("hydra.launcher.gpus_per_node=0", 1, ["; None", "; None"], id="none"),
    ],
)
def test_gpus(overrides: str, ranks: int, seen: list[str], app: App) -> None:
    ended = app("x=1,2", *overrides.split(), CUDA_VISIBLE_DEVICES="0,1", OMP_NUM_THREADS="1")
    assert ended.returncode == 0, ended.stderr
    left = [
        (app.sweep / str(run) / f"rank_{rank}").read_text().rpartition("; ")
        for run in range(2)
        for rank in range(ranks)
    ]
    assert [each[0] for each in left] == seen * ranks
    if "=1" in overrides:  # one process does one run after another
        assert "1 at a time, for 1 GPUs" in ended.stderr
        assert len({each[2] for each in left}) == 1
    else:
        assert len({each[2] for each in left}) == 2


def test_a_task_that_knows_nothing_of_us_finds_its_ranks(app: App) -> None:
    """By the variables of `torch.distributed`, which trainers read; a run alone has none of them."""
    names = "RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT"
    task = f"""
import os, pathlib, hydra

@hydra.main(version_base="1.3", config_path="conf", config_name="config")
def main(config):
    of_rank = [os.environ.get(name) for name in {names}]
    pathlib.Path(config.folder, f"rank_{{of_rank[0]}}").write_text(str(of_rank))
    return of_rank

main()
"""
    (app.folder / "app.py").write_text(task)
    arguments = "x=1", f"+folder='{app.folder}'", "hydra.launcher.tasks_per_node=2"
    assert app(*arguments).returncode == 0
    first, second = (literal_eval((app.folder / f"rank_{rank}").read_text()) for rank in (0, 1))
    assert first[:5] == ["0", "2", "0", "2", "127.0.0.1"]
    assert second == ["1", "2", "1", *first[3:]]
    assert app(*arguments[:2], "hydra.sweep.dir=alone").returncode == 0
    assert record(app.folder / "alone" / "0")["result"] == [None] * 6


@pytest.mark.skipif(
    not find_spec("torch"), reason="needs PyTorch: scripts/torch.sh says why it is not there"
)
def test_torchrun(app: App) -> None:
    """Its ranks do one run together, of which there is one record and one line of metrics."""
    torchrun = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2")
    app.command = [sys.executable, *torchrun, "app.py", f"hydra.run.dir={app.run}", RECORD]
    ended = app("hydra.mode=RUN", CUDA_VISIBLE_DEVICES="0,1")
    assert ended.returncode == 0, ended.stderr
    left = [(app.run / f"rank_{rank}").read_text().rpartition("; ")[0] for rank in range(2)]
    assert left == ["0,1; 0", "0,1; 1"]
    assert record(app.run)["state"] == "COMPLETED"
    (line,) = (app.run / "metrics.jsonl").read_text().splitlines()
    assert '"world_size": 2' in line


@pytest.mark.parametrize(
    "arguments", [["hydra.mode=RUN"], ["hydra.mode=MULTIRUN", "x=1,2", "hydra.sweep.dir=sweep"]]
)
def test_what_each_rank_of_torchrun_would_do_for_itself(arguments: list[str], app: App) -> None:
    app.command = [sys.executable, "app.py", RECORD]
    before = set(app.folder.rglob("*"))
    ended = app(*arguments, **OF_TORCHRUN)
    assert ended.returncode == 1
    assert "once per rank, and each would have a sweep or a directory of its own" in ended.stderr
    assert "Traceback" not in ended.stderr
    assert {path for path in app.folder.rglob("*") if "__pycache__" not in path.parts} == before
