"""`hpc sync`: W&B's own client sends the files of runs to a server on this machine."""

from collections.abc import Iterator

import pytest
from library.hpc_command import hpc
from library.using import ONE_PROCESS, App
from library.wandb_server import Receiver, receiving

CALLBACK = "+hydra.callbacks.wandb={_target_: hpc_hydra.WandbCallback, project: mine}"


@pytest.fixture
def server(zen_app: App, monkeypatch: pytest.MonkeyPatch) -> Iterator[type[Receiver]]:
    monkeypatch.setenv("HOME", str(zen_app.folder))
    with receiving() as variables:
        for name, value in variables.items():
            monkeypatch.setenv(name, value)
        yield Receiver


def test_offline_runs_are_sent_once(
    zen_app: App, server: type[Receiver], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a run that was killed what W&B's files lack as well."""
    options = ("+setup=local", ONE_PROCESS, "model=logistic", "steps=3", CALLBACK)
    assert zen_app("lr=0.1,0.2", *options, WANDB_MODE="offline").returncode == 0
    # As a kill leaves it.
    (zen_app.sweep / "1" / "wandb" / "whole.json").unlink()
    with (zen_app.sweep / "1" / "metrics.jsonl").open("a") as metrics:
        metrics.write('{"step": 4, "time": 1, "values": {"total": 7}}\n')

    away = hpc("sync", WANDB_BASE_URL="http://127.0.0.1:9")
    assert away.returncode == 1 and "cannot be reached from here" in away.stderr
    done = hpc("sync", WANDB_MODE="offline")  # as it is set where runs are started
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout == "2 of 2 runs: 2 sent, 0 failed\n"
    steps = {
        (zen_app.sweep / number / "wandb_id").read_text(): count for number, count in (("0", 3), ("1", 4))
    }  # fmt: skip
    assert {
        name: sorted(lines.values()) for name, lines in server.received.items()
    } == {name: list(range(1, count + 1)) for name, count in steps.items()}  # fmt: skip
    again = hpc("sync")
    assert again.returncode == 0 and again.stdout == "Nothing to send.\n"


def test_sweeps_whose_folders_have_one_name_are_all_sent(
    zen_app: App, server: type[Receiver]
) -> None:
    options = ("+setup=local", ONE_PROCESS, "model=logistic", "steps=3", CALLBACK)
    sweeps = [zen_app.folder / name / "final" for name in ("mlp", "cnn")]
    for sweep in sweeps:
        ended = zen_app(f"hydra.sweep.dir={sweep}", "lr=0.1", *options, WANDB_MODE="offline")
        assert ended.returncode == 0
    assert hpc("sync", *sweeps, sweeps[0]).stdout == "2 of 2 runs: 2 sent, 0 failed\n"
    assert len(server.received) == 2


def test_what_failed_is_told_and_left_to_be_sent(zen_app: App, server: type[Receiver]) -> None:
    """So is what cannot be written again."""
    options = ("+setup=local", ONE_PROCESS, "model=logistic", CALLBACK)
    assert zen_app("lr=0.1", *options, WANDB_MODE="offline").returncode == 0
    unknown = hpc("sync", WANDB_API_KEY="")
    assert unknown.returncode == 1 and "wandb login" in unknown.stderr
    (zen_app.sweep / "0" / "wandb" / "whole.json").unlink()
    identity = zen_app.sweep / "0" / "wandb_id"
    known = identity.rename(identity.with_name("kept"))
    identity.write_text("a/b")  # which W&B takes for none
    broken = hpc("sync")
    assert broken.returncode == 1
    assert f"in place of what is in {zen_app.sweep}/0/wandb/incomplete" in broken.stderr
    known.replace(identity)
    assert hpc("sync").stdout == "1 of 1 runs: 1 sent, 0 failed\n"
