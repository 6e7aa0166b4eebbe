import os
import signal
import subprocess
import sys
import textwrap
from contextlib import nullcontext

import pytest

from {{ cookiecutter.__package }}.hpc import signals
from {{ cookiecutter.__package }}.hpc.signals import Policy, stop_requested


@pytest.fixture
def requeued(request: pytest.FixtureRequest) -> list[int]:
    """Stands for submitit's handler of the warning, which requeues the job and ends the process."""
    received = []

    class Handler:
        __module__ = "submitit.core.job_environment"

        def requeue(self, number: int, frame: object) -> None:
            received.append(number)
            sys.exit(-1)

    before = signal.signal(signals.WARNING, Handler().requeue)
    request.addfinalizer(lambda: signal.signal(signals.WARNING, before))
    return received


def stopped_by(number: int) -> list[str]:
    """What happened, in order, in a run that ``number`` stopped."""
    steps: list[str] = []
    signals.before_hand_over.append(steps.append)
    with pytest.raises(SystemExit), signals.handled(Policy.checkpoint, 60):
        assert not stop_requested()
        os.kill(os.getpid(), number)
        steps.append("went on after the signal")
        assert stop_requested()
        steps.append("saved")
    signals.before_hand_over.remove(steps.append)
    return steps


def test_after_a_warning_the_task_stops_then_the_job_is_requeued(requeued: list[int]) -> None:
    steps = stopped_by(signal.SIGUSR2)
    assert steps == ["went on after the signal", "saved", "SIGUSR2"]
    assert requeued == [signal.SIGUSR2]


@pytest.mark.parametrize(
    ("fate", "requeues"), [("RUNNING", 1), ("REQUEUED", 0), ("CANCELLED", 0), (None, 0)]
)
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1, signal.SIGHUP])
def test_after_others_it_is_requeued_only_if_slurm_takes_it_for_running(
    requeued: list[int],
    number: int,
    fate: str | None,
    requeues: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A job that was cancelled must not come back."""
    monkeypatch.setenv("SLURM_JOB_ID", "8")
    monkeypatch.setattr(signals.squeue, "fate", {"8": fate}.get)
    assert stopped_by(number)[-1] == signal.Signals(number).name
    assert len(requeued) == requeues


def test_a_run_that_ends_without_asking_is_complete(requeued: list[int]) -> None:
    with signals.handled(Policy.checkpoint, 60):
        os.kill(os.getpid(), signal.SIGUSR2)
    assert requeued == []


def test_a_run_that_fails_after_the_signal_has_failed(requeued: list[int]) -> None:
    with pytest.raises(ZeroDivisionError), signals.handled(Policy.checkpoint, 60):
        os.kill(os.getpid(), signal.SIGUSR2)
        assert stop_requested()
        raise ZeroDivisionError
    assert requeued == []


def test_ignore_lets_all_five_pass() -> None:
    with signals.handled(Policy.ignore, 60):
        for number in signals.SIGNALS:
            os.kill(os.getpid(), number)
        assert not stop_requested()


@pytest.mark.parametrize("policy", list(Policy))
def test_handlers_of_libraries(policy: Policy, request: pytest.FixtureRequest) -> None:
    """One from before the run hears its signal too, unless all are ignored; one of the run's own goes."""
    heard: list[str] = []
    before = signal.signal(signal.SIGUSR1, lambda *_: heard.append("library"))
    request.addfinalizer(lambda: signal.signal(signal.SIGUSR1, before))
    stopped = pytest.raises(SystemExit) if policy is Policy.checkpoint else nullcontext()
    with stopped, signals.handled(policy, 60):
        os.kill(os.getpid(), signal.SIGUSR1)
        for number in signals.SIGNALS:
            signal.signal(number, lambda *_: heard.append("task"))
            os.kill(os.getpid(), number)
        assert stop_requested() == (policy is Policy.checkpoint)
    os.kill(os.getpid(), signal.SIGUSR1)
    first = ["library"] if policy is Policy.checkpoint else []
    assert heard == [*first, *["task"] * 5, "library"]


def test_a_signal_from_before_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    """With our launcher no run begins after it, but one that ignores signals."""
    monkeypatch.setattr(signals, "supervised", True)
    monkeypatch.setattr(signals, "unheard", [signal.SIGTERM])
    with pytest.raises(SystemExit) as ended, signals.handled(Policy.checkpoint, 60):
        raise AssertionError("the run has begun")
    assert ended.value.code == signals.STOPPED
    with signals.handled(Policy.ignore, 60):
        pass


def test_no_signal_is_heard_outside_of_a_run() -> None:
    assert not stop_requested()


@pytest.mark.parametrize(
    "task",
    [
        pytest.param("while True: time.sleep(60)", id="in Python"),
        # Runs no Python handler until it ends.
        pytest.param("hashlib.pbkdf2_hmac('sha256', b'', b'', 2**31 - 1)", id="in a C call"),
    ],
)
def test_a_task_that_does_not_react_is_handed_over_before_the_deadline(task: str) -> None:
    """In a process of its own: the hand-over ends it."""
    program = f"""
        import hashlib, os, signal, sys, threading, time
        from {{ cookiecutter.__package }}.hpc import signals
        class Handler:
            __module__ = "submitit.core.job_environment"
            def requeue(self, number, frame):
                print("requeued", flush=True)
                sys.exit(7)
        signal.signal(signal.SIGUSR2, Handler().requeue)
        with signals.handled(signals.Policy.checkpoint, signals.HAND_OVER_S + 0.5):
            threading.Timer(0.5, os.kill, (os.getpid(), signal.SIGUSR2)).start()
            {task}
    """
    ended = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program)], capture_output=True, text=True, timeout=60
    )
    assert (ended.returncode, ended.stdout) == (7, "requeued\n")
    assert "did not stop in time" in ended.stderr


def test_a_warning_at_the_very_end_fails_nothing() -> None:
    """Slurm may send it while the interpreter is already being torn down."""
    program = """
import os, signal
from {{ cookiecutter.__package }}.hpc import signals
class Late:
    def __del__(self, kill=os.kill, number=signals.WARNING, process=os.getpid()):
        kill(process, number)
late = Late()
"""
    assert subprocess.run([sys.executable, "-c", program]).returncode == 0
