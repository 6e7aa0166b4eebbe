import json
import logging
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy
import pytest
from running import disk

from hpc_hydra import _metrics, log_metrics, read_metrics


@pytest.fixture(autouse=True)
def no_warning_given(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_metrics, "_warned", set())


@pytest.fixture
def told() -> Iterator[list[tuple[Mapping[str, Any], int]]]:
    calls: list[tuple[Mapping[str, Any], int]] = []

    def listener(metrics: Mapping[str, Any], step: int) -> None:
        calls.append((metrics, step))

    _metrics.listeners.append(listener)
    yield calls
    _metrics.listeners.remove(listener)


def lines(directory: Path) -> list[Any]:
    def refuse(name: str) -> None:
        raise ValueError(name)

    text = (directory / "metrics.jsonl").read_text()
    return [json.loads(line, parse_constant=refuse) for line in text.splitlines()]


class Tensor:
    """As PyTorch's, as far as it matters here."""

    def __init__(self, *values: float) -> None:
        self.values = values

    def item(self) -> float:
        if len(self.values) > 1:
            raise RuntimeError("a Tensor with 2 elements cannot be converted to Scalar")
        return self.values[0]


def test_a_line_for_each_step(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time, "time", lambda: 1764000000.1234)
    log_metrics({"loss": 0.3, "epoch": 1, "best": True}, step=3, output_dir=tmp_path)
    (line,) = lines(tmp_path)
    values = {"loss": 0.3, "epoch": 1, "best": True}
    assert line == {"step": 3, "time": 1764000000.123, "values": values}


def test_by_default_in_the_directory_of_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_metrics, "directory", tmp_path)
    log_metrics({"loss": 0.3}, step=0)
    assert read_metrics(tmp_path) == {0: {"loss": 0.3}}


def test_in_a_notebook_there_is_no_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, told: list[Any]
) -> None:
    monkeypatch.chdir(tmp_path)
    log_metrics({"loss": 0.3}, step=0)
    assert list(tmp_path.iterdir()) == []
    assert told == [({"loss": 0.3}, 0)]


def test_scalars_of_libraries_are_numbers(tmp_path: Path, told: list[Any]) -> None:
    metrics = {
        "float": numpy.float32(0.5), "int": numpy.int64(7), "bool": numpy.bool_(True),
        "zero_dimensional": numpy.array(1.5), "tensor": Tensor(2.5),
    }  # fmt: skip
    plain = {"float": 0.5, "int": 7, "bool": True, "zero_dimensional": 1.5, "tensor": 2.5}
    log_metrics(metrics, step=numpy.int64(1), output_dir=tmp_path)  # type: ignore[arg-type]
    assert lines(tmp_path)[0]["values"] == plain
    assert told == [(plain, 1)]


def test_what_is_no_number_is_left_to_wandb(tmp_path: Path, told: list[Any]) -> None:
    image, pair = object(), Tensor(1, 2)
    log_metrics({"loss": 1, "image": image, "pair": pair}, step=0, output_dir=tmp_path)
    log_metrics({"image": image}, step=0, output_dir=tmp_path)
    assert read_metrics(tmp_path) == {0: {"loss": 1}}
    assert told == [({"loss": 1, "image": image, "pair": pair}, 0), ({"image": image}, 0)]


def test_numbers_that_json_does_not_know(tmp_path: Path) -> None:
    infinity = float("inf")
    large = -(10**400)  # no float has room for it
    metrics = {"a": infinity, "b": -infinity, "c": numpy.float32("nan"), "d": large}
    log_metrics(metrics, step=0, output_dir=tmp_path)
    (line,) = lines(tmp_path)
    assert line["values"] == {"a": "Infinity", "b": "-Infinity", "c": "NaN", "d": large}
    a, b, c, d = read_metrics(tmp_path)[0].values()
    assert (a, b, str(c), d) == (infinity, -infinity, "nan", -infinity)


def test_a_repeated_step_stands_for_the_earlier_one(tmp_path: Path) -> None:
    """As far as it has the same metrics: training and validation may be logged one after the other."""
    for step, metrics in [(0, {"a": 1}), (2, {"a": 3, "b": 3}), (1, {"a": 2}), (2, {"a": 4})]:
        log_metrics(metrics, step=step, output_dir=tmp_path)
    found = read_metrics(tmp_path / "metrics.jsonl")
    assert list(found.items()) == [(0, {"a": 1}), (1, {"a": 2}), (2, {"a": 4, "b": 3})]


def test_a_line_that_was_cut_short_spoils_no_other(tmp_path: Path) -> None:
    """Its writer was killed."""
    log_metrics({"loss": 1}, step=0, output_dir=tmp_path)
    file = tmp_path / "metrics.jsonl"
    whole = file.read_bytes()
    for length in range(1, len(whole)):
        file.write_bytes(whole + whole[:length])
        log_metrics({"loss": 2}, step=1, output_dir=tmp_path)
        assert read_metrics(tmp_path) == {0: {"loss": 1}, 1: {"loss": 2}}


@pytest.mark.parametrize("foreign", [
    b"", b"\xff\xfe", b"[]", b"3", b"null", b"{}", b'{"step": 1}', b'{"step": 1, "values": 3}',
    b'{"step": "1", "values": {}}', b'{"step": 1.5, "values": {}}',
    b'{"step": 1, "values": {"a": "b"}}', b'{"step": 1, "values": {"a": []}}',
])  # fmt: skip
def test_lines_that_are_no_metrics_are_passed_over(foreign: bytes, tmp_path: Path) -> None:
    (tmp_path / "metrics.jsonl").write_bytes(foreign + b"\n" + foreign)
    log_metrics({"loss": 1}, step=0, output_dir=tmp_path)
    assert read_metrics(tmp_path) == {0: {"loss": 1}}


def test_without_a_file_there_are_none(tmp_path: Path) -> None:
    assert read_metrics(tmp_path) == read_metrics(tmp_path / "missing" / "metrics.jsonl") == {}


def test_only_the_first_rank_writes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, told: list[Any]
) -> None:
    monkeypatch.setenv("SLURM_PROCID", "1")
    log_metrics({"loss": 1}, step=0, output_dir=tmp_path)
    assert list(tmp_path.iterdir()) == told == []


@pytest.mark.parametrize("step", [None, "0", 0.5])
def test_a_step_that_is_no_integer(step: Any, tmp_path: Path) -> None:
    with pytest.raises(TypeError, match="the step is no integer: "):
        log_metrics({"loss": 1}, step=step, output_dir=tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_trouble_costs_one_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, told: list[Any]
) -> None:
    """And W&B is told all the same, whatever another listener does."""

    def broken(metrics: Mapping[str, Any], step: int) -> None:
        raise OSError("broken")

    _metrics.listeners.insert(0, broken)
    try:
        for step in range(3):
            log_metrics({"loss": 1}, step=step, output_dir=tmp_path / "missing")
    finally:
        _metrics.listeners.remove(broken)
    warnings = [each.getMessage() for each in caplog.records if each.levelno == logging.WARNING]
    assert len(warnings) == 2
    assert "No such file or directory" in warnings[0]
    assert "broken" in warnings[1]
    assert [step for _, step in told] == [0, 1, 2]


def test_lines_that_could_not_be_written_go_with_the_next(tmp_path: Path) -> None:
    folder = tmp_path / "away"
    for step in range(3):
        log_metrics({"loss": step}, step=step, output_dir=folder)
    folder.mkdir()
    log_metrics({"loss": 3}, step=3, output_dir=tmp_path)
    log_metrics({"loss": 3}, step=3, output_dir=folder)
    assert [line["step"] for line in lines(folder)] == [0, 1, 2, 3]
    assert read_metrics(tmp_path) == {3: {"loss": 3}}


def test_a_full_disk_costs_no_line(tmp_path: Path) -> None:
    """However often it fills up, and if there is room for a part of a line."""
    with disk(tmp_path / "disk", "size=32k") as small:
        for step in range(200):
            if step in (30, 100):
                fill(small)
            if step in (70, 170):
                (small / "filler").unlink()
            log_metrics({"loss": step}, step=step, output_dir=small)
        assert [*read_metrics(small)] == [*range(200)]
        written = (small / "metrics.jsonl").read_text().splitlines()
        torn = [line for line in written if not line.endswith("}}")]
        # Where room ends with a line, but for the end of the line, that one is there twice.
        assert len(written) <= 202 and len(torn) <= 2


def fill(folder: Path) -> None:
    with (folder / "filler").open("wb", buffering=0) as file, suppress(OSError):
        while True:
            file.write(bytes(4096))


def test_no_more_is_kept_than_has_room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_metrics, "KEPT", 1000)
    for step in range(100):
        log_metrics({"loss": step}, step=step, output_dir=tmp_path / "away")
    (tmp_path / "away").mkdir()
    _metrics.write_kept(tmp_path / "away")
    kept = [line["step"] for line in lines(tmp_path / "away")]
    assert 10 < len(kept) < 30 and kept == [*range(len(kept))]


def test_neither_hydra_nor_a_library_of_arrays_is_imported() -> None:
    code = (
        "import sys, hpc_hydra; hpc_hydra.log_metrics({'a': 1}, 0)\n"
        "print({'hydra', 'numpy', 'torch', 'wandb'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"


def test_the_newest_step_is_known_of_lines_of_thousands_of_metrics(tmp_path: Path) -> None:
    for step in (1, 2):
        log_metrics({f"layer_{layer}/norm": 0.123456789 for layer in range(5000)}, step, tmp_path)
    assert _metrics.newest_step(tmp_path) == 2
