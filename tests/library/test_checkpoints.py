import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path
from typing import Any

import pytest
from running import disk

from hpc_hydra import checkpoints, log_metrics, read_metrics


def names(directory: Path) -> list[str]:
    return sorted(path.name.partition("-")[0] for path in directory.iterdir())


def test_the_newest_of_the_last_two(tmp_path: Path) -> None:
    """Of a directory by its name, too, as Hydra's config has it."""
    assert checkpoints.newest(tmp_path) is None
    for step in (8, 9, 10):
        checkpoints.save(str(tmp_path), step, {"step": step})
    assert checkpoints.newest(str(tmp_path)) == {"step": 10}
    assert names(tmp_path) == ["checkpoint_10", "checkpoint_9"]


@pytest.mark.parametrize("damage", [b"", b"torn", None])
def test_a_damaged_one_is_passed_over(
    damage: bytes | None, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A disk may lose what it said it had written."""
    for step in (1, 2):
        checkpoints.save(tmp_path, step, step)
    (newest,) = tmp_path.glob("checkpoint_2-*")
    newest.write_bytes(newest.read_bytes()[:-1] if damage is None else damage)
    assert checkpoints.newest(tmp_path) == 1
    assert f"{newest} is damaged" in caplog.text


def test_a_run_that_begins_anew_outlives_damaged_ones_of_later_steps(tmp_path: Path) -> None:
    """Those would count as the last two, and each that is saved would go at once."""
    for step in (50, 60):
        checkpoints.save(tmp_path, step, step)
    for path in tmp_path.iterdir():
        path.write_bytes(b"torn")
    assert checkpoints.newest(tmp_path) is None
    for step in (1, 2, 3):
        checkpoints.save(tmp_path, step, step)
        assert checkpoints.newest(tmp_path) == step
    assert names(tmp_path) == ["checkpoint_2", "checkpoint_3"]


def test_a_state_that_the_code_no_longer_knows_is_no_damage(tmp_path: Path) -> None:
    """To start over then would destroy the work."""

    def load(file: Any) -> None:
        raise AttributeError("no such class")

    checkpoints.save(tmp_path, 1, 1)
    with pytest.raises(AttributeError):
        checkpoints.newest(tmp_path, load)


def test_a_full_disk_costs_no_earlier_one(tmp_path: Path) -> None:
    def dump(state: object, file: Any) -> None:
        file.write(b"a part")
        raise OSError(28, "No space left on device")

    checkpoints.save(tmp_path, 1, "first")
    with pytest.raises(OSError, match="No space left"):
        checkpoints.save(tmp_path, 2, "second", dump)
    assert checkpoints.newest(tmp_path) == "first"
    assert names(tmp_path) == ["checkpoint_1"]


def test_none_is_newer_than_the_metrics(tmp_path: Path) -> None:
    """A run that went on from it would never write what the full disk kept from the file."""
    with disk(tmp_path / "disk", "size=16k") as small:
        (small / "metrics.jsonl").write_bytes(b"\n" * 8192)
        fillers = [small / "filler1", small / "filler2"]
        for filler in fillers:
            filler.write_bytes(bytes(4096))
        log_metrics({"loss": 1}, step=1, output_dir=small)
        fillers.pop().unlink()
        with pytest.raises(OSError, match=r"No space left|no room"):
            checkpoints.save(small, 1, "takes a block")
        assert checkpoints.newest(small) is None
        fillers.pop().unlink()
        checkpoints.save(small, 1, "takes a block")
        assert read_metrics(small) == {1: {"loss": 1}}
        assert checkpoints.newest(small) == "takes a block"


def test_killed_at_any_moment(tmp_path: Path) -> None:
    """What is there is whole, the newest or the one before, and nothing is left of what was begun."""
    program = """
        import sys
        from pathlib import Path
        from hpc_hydra import _files, checkpoints
        directory = Path(sys.argv[1])
        step = checkpoints.newest(directory)["step"]
        print("ready", flush=True)
        while True:
            step += 1
            checkpoints.save(directory, step, {"step": step, "weights": bytes(3_000_000)})
            _files.write_atomically(directory / "record", str(step) * 100_000)
            print(step, flush=True)
    """
    checkpoints.save(tmp_path, 0, {"step": 0})
    for kill in range(10):
        with subprocess.Popen(
            [sys.executable, "-c", textwrap.dedent(program), tmp_path], stdout=subprocess.PIPE
        ) as process:
            assert process.stdout
            assert process.stdout.readline() == b"ready\n"
            time.sleep(0.007 * kill)
            os.kill(process.pid, signal.SIGKILL)
            done = [int(line) for line in process.stdout.read().split()]
        before = checkpoints.newest(tmp_path)
        assert not done or done[-1] <= before["step"] <= done[-1] + 1
        if (tmp_path / "record").exists():
            text = (tmp_path / "record").read_text()
            assert text == str(int(text[: len(text) // 100_000])) * 100_000
    checkpoints.save(tmp_path, 10**6, "last")
    assert len(list(tmp_path.glob("*checkpoint*"))) == checkpoints.KEPT
