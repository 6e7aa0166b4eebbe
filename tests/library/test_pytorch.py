"""What the library does for runs with PyTorch; with several ranks see the repository's own tests, too."""

import multiprocessing
import os
import random
import subprocess
import sys
import time
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from omegaconf import OmegaConf

from hpc_hydra import pytorch

from .using import ONE_PROCESS, App, record

pytestmark = pytest.mark.skipif(
    not find_spec("torch"), reason="needs PyTorch: scripts/torch.sh says why it is not there"
)


@pytest.fixture
def torch() -> Any:
    """Imported late: it takes seconds, for each of the tests' processes."""
    import torch

    return torch


@pytest.fixture(autouse=True)
def outside_of_a_job(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SLURM_PROCID", raising=False)
    for name in (
        "RANK",
        "WORLD_SIZE",
        "LOCAL_RANK",
        "LOCAL_WORLD_SIZE",
        "MASTER_ADDR",
        "MASTER_PORT",
    ):
        monkeypatch.setenv(name, "")  # which are exported, and gone after the test
    monkeypatch.setattr(pytorch, "_saved_s", 0.0)


def test_a_rank_alone_needs_no_group(torch: Any) -> None:
    with pytorch.process_group() as (process, device):
        assert (process.rank, process.world_size, str(device)) == (0, 1, "cpu")
        assert not torch.distributed.is_initialized()
        assert not pytorch.stop_requested()
        assert pytorch.total(torch.tensor(3)) == 3


def test_the_group_of_a_trainer_is_used_and_left_to_it(
    monkeypatch: pytest.MonkeyPatch, torch: Any
) -> None:
    """Accelerate makes one of a rank alone, once for the process, and some have NCCL only."""
    distributed = torch.distributed
    try:
        for _ in range(2):
            with pytorch.process_group():
                if not distributed.is_initialized():
                    distributed.init_process_group("gloo")
                assert not pytorch.stop_requested()
                assert pytorch._device_of_messages() == "cpu"
            assert distributed.is_initialized()
        monkeypatch.setattr(distributed, "get_backend_config", lambda: "cuda:nccl")
        assert pytorch._device_of_messages() == "cuda"
    finally:
        distributed.destroy_process_group()


def test_a_gpu_that_pytorch_cannot_use(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, torch: Any
) -> None:
    """Silently on the CPU it would take days to be noticed."""
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytorch.process_group() as (_, device):
        assert str(device) == "cpu"
    assert "cannot use the GPU" in caplog.text


def test_gpus_that_no_rank_uses(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, torch: Any
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1,2,3")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    chosen: list[Any] = []
    monkeypatch.setattr(torch.cuda, "set_device", chosen.append)
    with pytorch.process_group() as (_, device):
        assert [str(device)] == [str(each) for each in chosen] == ["cuda:0"]
    assert "1 ranks on 4 GPUs" in caplog.text and "tasks_per_node=4" in caplog.text


def test_what_was_saved_is_read_again(tmp_path: Path, torch: Any) -> None:
    assert pytorch.newest(tmp_path) is None
    net = torch.nn.Linear(2, 2)
    for step in (1, 2, 3):
        state = {"step": step, "net": net.state_dict()}
        pytorch.save(tmp_path, step, state.copy)
    found = pytorch.newest(tmp_path)
    assert found["step"] == 3
    assert torch.equal(found["net"]["weight"], net.weight)
    assert len(list(tmp_path.iterdir())) == 2


def test_what_would_not_be_read_again_is_not_saved(tmp_path: Path) -> None:
    """`weights_only=True` refuses it, which would show at the first requeue only."""
    numpy = pytest.importorskip("numpy")
    pytorch.save(tmp_path, 1, lambda: {"loss": 0.5})
    with pytest.raises(TypeError, match=r"float\(x\) makes a number"):
        pytorch.save(tmp_path, 2, lambda: {"loss": numpy.float64(0.5)})
    betas = OmegaConf.create([0.9, 0.999])  # as an optimizer made by Hydra keeps them
    with pytest.raises(TypeError, match=r"ListConfig\. .*hydra_convert=\"all\""):
        pytorch.save(tmp_path, 2, lambda: {"betas": betas})
    assert pytorch.newest(tmp_path) == {"loss": 0.5}


def test_saved_by_time_and_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, torch: Any
) -> None:
    """In the background, while the run changes what it has."""
    weights = torch.zeros(1000)
    monkeypatch.setattr(pytorch, "_saved_s", time.monotonic() - 50)
    pytorch.save(tmp_path, 1, lambda: weights, every_s=60)
    monkeypatch.setattr(pytorch, "_saved_s", time.monotonic() - 70)
    pytorch.save(tmp_path, 2, lambda: weights, every_s=60)
    weights += 1
    pytorch.save(tmp_path, 3, lambda: weights, every_s=60)
    with pytorch.process_group():
        pass  # at its end what is being written has been
    assert [path.name.partition("-")[0] for path in tmp_path.iterdir()] == ["checkpoint_2"]
    assert not pytorch.newest(tmp_path).any()


def test_a_save_in_the_background_that_fails_is_told_at_the_next(tmp_path: Path) -> None:
    pytorch.save(tmp_path / "gone", 1, lambda: {}, every_s=1)
    with pytest.raises(FileNotFoundError):
        pytorch.save(tmp_path, 2, lambda: {})


@pytest.mark.parametrize(("seed", "different"), [("", 3), ("torch.manual_seed(7)", 1)])
def test_runs_of_a_process_draw_numbers_of_their_own(
    seed: str, different: int, yaml_app: App
) -> None:
    """They are forked from one; but a seed that the app sets at import is meant."""
    (yaml_app.folder / "helper.py").write_text(
        f"import torch\n\n{seed}\n\n\ndef scaled(scale):\n    return float(torch.rand(()))\n"
    )
    assert yaml_app("x=1,1,1", ONE_PROCESS).returncode == 0
    results = {record(yaml_app.sweep / number)["result"] for number in "012"}
    assert len(results) == different


def test_a_process_that_is_forked_saves_too(tmp_path: Path) -> None:
    """Though the thread that writes is not in it."""
    pytorch.save(tmp_path, 1, lambda: {})
    process = multiprocessing.get_context("fork").Process(
        target=pytorch.save, args=(tmp_path, 2, dict)
    )
    process.start()
    process.join(60)
    process.kill()
    assert process.exitcode == 0


def test_other_ranks_save_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLURM_PROCID", "1")
    pytorch.save(tmp_path, 1, lambda: {})
    assert not list(tmp_path.iterdir())


def test_a_seed_for_each_step_and_rank(monkeypatch: pytest.MonkeyPatch, torch: Any) -> None:
    def drawn(*numbers: int, rank: int = 0) -> tuple[float, float]:
        monkeypatch.setenv("SLURM_PROCID", str(rank))
        pytorch.seed(*numbers)
        return float(torch.rand(())), random.random()

    assert drawn(1, 5) == drawn(1, 5)
    all_different = [drawn(1, 5), drawn(1, 6), drawn(2, 5), drawn(1, 5, rank=1)]
    assert len({value for pair in all_different for value in pair}) == 8


def test_two_ranks_come_to_an_end_together() -> None:
    """DDP goes after the group: as the last owner of it, it waited for ever in one of some ten times."""
    program = """
import os, torch
from torch.nn.parallel import DistributedDataParallel
from hpc_hydra import pytorch
def work(number):
    with pytorch.process_group(str(number)):
        net = DistributedDataParallel(torch.nn.Linear(50, 50))
        for _ in range(3):
            net(torch.randn(4, 50)).sum().backward()
torch.set_num_threads(1)
for number in range(30):
    work(number)
os._exit(0)
"""
    job = {"SUBMITIT_LOCAL_NTASKS": "2", "SUBMITIT_LOCAL_JOB_ID": str(os.getpid())}
    ranks = []
    for number in ("0", "1"):
        own = {"SUBMITIT_LOCAL_GLOBALID": number, "SUBMITIT_LOCAL_LOCALID": number}
        ranks.append(subprocess.Popen([sys.executable, "-c", program], env=os.environ | job | own))
    try:
        assert [rank.wait(timeout=180) for rank in ranks] == [0, 0]
    finally:
        for rank in ranks:
            rank.kill()
            rank.wait()
