"""What a shell offers when Tab is typed, by the protocol that `hpc --install-completion` installs."""

from pathlib import Path

import pytest

from hpc_hydra import _records as records

from .hpc_command import hpc
from .sweeps import made

GRID = [f"epochs=3 lr={lr} seed={seed}" for lr in (0.1, 0.01) for seed in (1, 2)]


@pytest.fixture
def outputs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Of two sweeps of one user: that of a day, and a newer one that has no metrics."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    metrics = {1: [{"valid_loss": 1.0, "acc": 0.5}]}
    made(tmp_path / "outputs" / "2026-01-31" / "10-00-00", GRID, [0.1, 0.2, 0.3, 0.4], metrics)
    made(tmp_path / "outputs" / "paper" / "fig1", ["lr=1", "lr=2"], [0.1, ValueError("bad")])
    return tmp_path / "outputs"


def completed(typed: str) -> list[str]:
    """What bash is offered for the last word of what was ``typed``."""
    place = str(len(typed.split(" ")) - 1)
    ended = hpc(_HPC_COMPLETE="complete_bash", COMP_WORDS=typed, COMP_CWORD=place)
    assert (ended.returncode, ended.stderr) == (0, "")
    return ended.stdout.split()


def test_what_can_be_typed_is_completed(outputs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert completed("hpc st") == ["status"]
    assert completed("hpc status --w") == ["--watch"]
    assert completed("hpc status ") == completed("hpc sync ") == ["fig1", "10-00-00"]
    assert completed("hpc status 2026") == ["2026-01-31/10-00-00"]
    monkeypatch.setenv("HOME", str(outputs))
    assert completed("hpc logs ~/2026-01-31/10-00-00 ") == ["0", "1", "2", "3"]
    assert completed(f"hpc status {outputs}/pa") == [f"{outputs}/paper/fig1"]
    assert completed("hpc logs ") == ["fig1", "10-00-00", "0", "1"]  # runs of the newest
    assert completed("hpc logs 10-00-00 ") == ["0", "1", "2", "3"]
    assert completed("hpc retry 10-00-00 --run ") == ["0", "1", "2", "3"]
    assert completed("hpc cancel --run ") == ["0", "1"]
    assert completed("hpc plot 10-00-00 --by ") == ["lr", "seed"]
    assert completed("hpc plot 10-00-00 --by lr --metric ") == ["acc", "valid_loss"]


def test_as_much_of_a_directory_is_typed_as_is_unique(outputs: Path) -> None:
    made(outputs / "draft" / "fig1", ["lr=1"], [0.1])
    made(outputs / "draft" / "it's", ["lr=1"], [0.1])  # it would need quotes
    records._remember(outputs / "gone")
    assert completed("hpc status ") == ["draft/fig1", "paper/fig1", "10-00-00"]
    assert hpc("status", "draft/fig1").stdout.endswith("draft/fig1\n")


def test_nothing_is_said_of_what_is_wrong(outputs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It would be printed into the line that is typed."""
    assert completed("hpc plot --metric ") == []
    assert completed("hpc logs fig7 ") == []
    (outputs / "paper" / "fig1" / "sweep.json").write_text('{"runs"')
    assert completed("hpc logs ") == ["fig1", "10-00-00"]
    monkeypatch.setenv("XDG_STATE_HOME", "/nowhere")
    assert completed("hpc status ") == []
