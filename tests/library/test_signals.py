import os
import signal
import subprocess
import sys
import textwrap
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from functools import partial

import pytest

from hpc_hydra import _signals as signals
from hpc_hydra import ignoring, stop_requested, stopping

GRACE_S = signals.USUAL_GRACE_S


def stopped_by(number: int) -> tuple[list[str], object]:
    """What happened, in order, in a run that ``number`` stopped, and the exit code."""
    steps: list[str] = []
    signals.before_hand_over.append(steps.append)
    with pytest.raises(SystemExit) as ended, stopping(GRACE_S):
        assert not stop_requested()
        os.kill(os.getpid(), number)
        steps.append("went on after the signal")
        assert stop_requested()
        steps.append("saved")
    signals.before_hand_over.remove(steps.append)
    return steps, ended.value.code


@pytest.mark.parametrize("number", sorted(signals.SIGNALS - {signal.SIGCONT}))
@pytest.mark.parametrize("supervised", [True, False])
def test_the_task_saves_then_the_process_ends(
    number: signal.Signals, supervised: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a code that tells the supervisor to have the job requeued; without one, with that of a
    process which the signal ended."""
    monkeypatch.setattr(signals, "supervised", supervised)
    steps, code = stopped_by(number)
    assert steps == ["went on after the signal", "saved", number.name]
    assert code == (signals.STOPPED if supervised else 128 + number)


def test_a_run_that_ends_without_asking_is_complete() -> None:
    with stopping(GRACE_S):
        os.kill(os.getpid(), signal.SIGUSR2)


@pytest.mark.parametrize("program", [["sleep", "600"], ["sh", "-c", "sleep 600; exit $?"]])
def test_a_run_whose_program_ended_at_the_signal_has_stopped(
    program: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Slurm sends it to both. That is no failure, however often."""
    reasons: list[str] = []
    monkeypatch.setattr(signals, "before_hand_over", [reasons.append])
    monkeypatch.setattr(signals, "raised_before", True)
    with pytest.raises(SystemExit), stopping(GRACE_S):
        started = subprocess.Popen(program, start_new_session=True)
        os.killpg(started.pid, signal.SIGUSR2)
        code = started.wait()
        os.kill(os.getpid(), signal.SIGUSR2)
        raise subprocess.CalledProcessError(code, program)
    assert reasons == ["SIGUSR2"]


@pytest.mark.parametrize("error", [RuntimeError("a worker is killed"), SystemExit("no room")])
def test_what_a_run_raises_after_the_signal_is_its_stop(
    error: BaseException, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Slurm signals the processes beside it too, and some libraries end theirs. But one that always fails
    to save is not to go round for ever."""
    reasons: list[str] = []
    monkeypatch.setattr(signals, "before_hand_over", [reasons.append])
    monkeypatch.setattr(signals, "supervised", True)
    with pytest.raises(SystemExit) as ended, stopping(GRACE_S):
        os.kill(os.getpid(), signal.SIGUSR2)
        raise error
    assert ended.value.code == signals.STOPPED
    assert reasons == [f"SIGUSR2, then {type(error).__name__}: {error}"]
    monkeypatch.setattr(signals, "raised_before", True)
    with pytest.raises(type(error)) as again, stopping(GRACE_S):
        os.kill(os.getpid(), signal.SIGUSR2)
        raise error
    assert again.value is error


@pytest.mark.parametrize(
    "answer",
    [
        *map(SystemExit, (None, 0, 143)),
        RuntimeError("DataLoader worker (pid(s) 17, 18) exited unexpectedly"),
        RuntimeError("DataLoader worker (pid 17) is killed by signal: Terminated. "),
    ],
)
def test_a_run_may_answer_each_signal_by_an_exit(
    answer: BaseException, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As Lightning does, and PyTorch where a worker hears the signal: a run that is preempted a second time has not
    failed."""
    reasons: list[str] = []
    monkeypatch.setattr(signals, "before_hand_over", [reasons.append])
    monkeypatch.setattr(signals, "supervised", True)
    monkeypatch.setattr(signals, "raised_before", True)
    with pytest.raises(SystemExit) as ended, stopping(GRACE_S):
        os.kill(os.getpid(), signal.SIGTERM)
        raise answer
    assert ended.value.code == signals.STOPPED
    assert reasons == ["SIGTERM"]


def test_a_worker_leaves_signals_to_its_run() -> None:
    program = f"""
        import os, signal
        from hpc_hydra import init_worker
        init_worker(0)
        for number in {sorted(map(int, signals.SIGNALS))}:
            os.kill(os.getpid(), number)
    """
    assert subprocess.run([sys.executable, "-c", textwrap.dedent(program)]).returncode == 0


@pytest.mark.parametrize("method", ["fork", "spawn"])
@pytest.mark.parametrize("policy", ["stopping(signals.USUAL_GRACE_S)", "ignoring()"])
def test_a_pool_of_processes_ends_within_a_run(policy: str, method: str) -> None:
    """It sends them TERM, which is neither for the run nor to be ignored by them, however early it comes."""
    program = f"""
        import multiprocessing
        from hpc_hydra import _signals as signals, ignoring, stop_requested, stopping
        with {policy}:
            for _ in range({5 if method == "fork" else 1}):
                with multiprocessing.get_context("{method}").Pool(3) as pool:
                    assert pool.map(abs, [-1]) == [1]
            assert not stop_requested()
    """
    ended = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program)], timeout=60, capture_output=True, text=True
    )
    assert (ended.returncode, ended.stderr) == (0, "")


def test_a_run_that_is_interrupted_has_stopped() -> None:
    """Its record says so, and it goes on when the command is repeated."""
    reasons: list[str] = []
    signals.before_hand_over.append(reasons.append)
    with pytest.raises(KeyboardInterrupt), stopping(GRACE_S):
        raise KeyboardInterrupt
    signals.before_hand_over.remove(reasons.append)
    assert reasons == ["SIGINT"]


def test_only_the_signals_of_the_block_are_its_own(request: pytest.FixtureRequest) -> None:
    """So that `signals.py` of a repository, where they stand, says all of it."""
    heard: list[int] = []
    for number in (signal.SIGUSR1, signal.SIGHUP):
        before = signal.signal(number, lambda number, frame: heard.append(number))
        request.addfinalizer(partial(signal.signal, number, before))
    with ignoring(signal.SIGHUP), stopping({signal.SIGUSR2: 50}):
        os.kill(os.getpid(), signal.SIGUSR1)
        os.kill(os.getpid(), signal.SIGHUP)
        assert not stop_requested()
    assert heard == [signal.SIGUSR1]


@pytest.mark.parametrize(
    "block", [lambda: stopping(GRACE_S), ignoring], ids=["stopping", "ignoring"]
)
def test_handlers_of_libraries(
    block: Callable[[], AbstractContextManager[None]], request: pytest.FixtureRequest
) -> None:
    """One from before the run hears its signal too, unless that is ignored; one of the run's own goes."""
    heard: list[str] = []
    before = signal.signal(signal.SIGUSR1, lambda *_: heard.append("library"))
    request.addfinalizer(partial(signal.signal, signal.SIGUSR1, before))
    stops = block is not ignoring
    with pytest.raises(SystemExit) if stops else nullcontext(), block():
        os.kill(os.getpid(), signal.SIGUSR1)
        for number in signals.SIGNALS:
            signal.signal(number, lambda *_: heard.append("task"))
            os.kill(os.getpid(), number)
        assert stop_requested() == stops
    os.kill(os.getpid(), signal.SIGUSR1)
    first = ["library"] if stops else []
    assert heard == [*first, *["task"] * len(signals.SIGNALS), "library"]


def test_a_block_inside_of_another_takes_its_place(request: pytest.FixtureRequest) -> None:
    """The launcher puts one around each run, and an app may have its own; what a library installed
    before both hears its signal, once."""
    heard: list[int] = []
    before = signal.signal(signal.SIGUSR1, lambda number, frame: heard.append(number))
    request.addfinalizer(partial(signal.signal, signal.SIGUSR1, before))
    with stopping(GRACE_S):
        with pytest.raises(SystemExit), stopping({signal.SIGUSR1: 50}):
            os.kill(os.getpid(), signal.SIGUSR1)
            assert stop_requested()
        assert heard == [signal.SIGUSR1]
        assert not stop_requested()
        with ignoring():
            os.kill(os.getpid(), signal.SIGTERM)
            assert not stop_requested()


def test_a_signal_from_before_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    """With our launcher no run begins after it, but one that ignores signals."""
    monkeypatch.setattr(signals, "supervised", True)
    monkeypatch.setattr(signals, "unheard", [signal.SIGTERM])
    with pytest.raises(SystemExit) as ended, stopping(GRACE_S):
        raise AssertionError("the run has begun")
    assert ended.value.code == signals.STOPPED
    with ignoring():
        pass


def test_the_stock_launchers_requeue_by_themselves(monkeypatch: pytest.MonkeyPatch) -> None:
    """By submitit's handler, which stays."""
    monkeypatch.setenv("SUBMITIT_EXECUTOR", "slurm")
    before = signal.getsignal(signals.WARNING)
    with stopping(GRACE_S):
        assert signal.getsignal(signals.WARNING) == before
        assert not stop_requested()


@pytest.mark.parametrize(("warning_s", "grace_s"), [(120, 110), (5, 0)])
def test_a_run_is_handed_over_before_slurm_kills_it(
    warning_s: float, grace_s: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(signals, "warning_s", warning_s)
    with stopping(GRACE_S):
        assert signals._current
        usual = dict(signals._current.grace_s)
    assert usual.pop(signals.WARNING) == grace_s
    assert usual == dict.fromkeys((signal.SIGTERM, signal.SIGUSR1, signal.SIGHUP), 20)


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
        import hashlib, os, signal, threading, time
        from hpc_hydra import _signals, stopping
        _signals.supervised = True
        with stopping({{signal.SIGUSR2: 0.2}}):
            threading.Timer(0.2, os.kill, (os.getpid(), signal.SIGUSR2)).start()
            {task}
    """
    ended = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program)], capture_output=True, text=True
    )
    assert ended.returncode == signals.STOPPED
    assert "did not stop in time" in ended.stderr


def test_a_warning_at_the_very_end_fails_nothing() -> None:
    """Slurm may send it while the interpreter is already being torn down."""
    program = """
import os, signal
from hpc_hydra import _signals
class Late:
    def __del__(self, kill=os.kill, number=_signals.WARNING, process=os.getpid()):
        kill(process, number)
late = Late()
"""
    assert subprocess.run([sys.executable, "-c", program]).returncode == 0
