"""W&B's service is killed, and jobs are stopped while W&B is offline: what its files say afterwards."""

import gzip
import json
import os
import signal
import threading
from collections.abc import Callable
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from faults import Sweep
from jobs import slurm, supervisors_of, wait_until
from library import wandb_file
from running import Project, disk

Traced = Callable[..., Sweep]
EPOCHS = 24


class Receiver(BaseHTTPRequestHandler):
    """As much of W&B's server as `wandb sync` needs; keeps the steps of each run by their line number."""

    received: dict[str, dict[int, int]]

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing."""

    def do_POST(self) -> None:
        """Take history, and answer what is asked of a run."""
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if self.headers.get("Content-Encoding") == "gzip":
            body = gzip.decompress(body)
        asked: Any = {}
        with suppress(ValueError):  # W&B's reports about itself
            asked = json.loads(body)
        if "file_stream" in self.path:
            lines = self.received.setdefault(self.path.split("/")[-2], {})
            history = asked.get("files", {}).get(
                "wandb-history.jsonl", {"offset": 0, "content": []}
            )
            for number, line in enumerate(history["content"], history["offset"]):
                lines[number] = json.loads(line)["_step"]
            return self.answer({})
        name = asked.get("variables", {}).get("name")
        run = {
            "id": "run", "name": name, "displayName": name, "config": "{}", "historyLineCount": 0,
            "project": {"id": "project", "name": "project", "entity": {"id": "me", "name": "me"}},
        }  # fmt: skip
        resumed = None
        if known := self.received.get(str(name)):
            last = json.dumps({"_step": max(known.values()), "_runtime": 1})
            resumed = {
                **run, "historyLineCount": len(known), "historyTail": json.dumps([last]),
                "summaryMetrics": last, "eventsTail": "[]", "eventsLineCount": 0, "logLineCount": 0,
                "wandbConfig": '{"t": 1}',
            }  # fmt: skip
        answers = {
            "UpsertBucket": {"upsertBucket": {"bucket": run, "inserted": resumed is None}},
            "RunResumeStatus": {"model": {**run["project"], "bucket": resumed}},
            "CreateRunFiles": {
                "createRunFiles": {"runID": "run", "uploadHeaders": [], "files": []}
            },
        }
        self.answer({"data": answers.get(asked.get("operationName"), {})})

    def answer(self, content: object) -> None:
        """Send it as JSON."""
        body = json.dumps(content).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


def synced(project: Project, run: Path, home: Path) -> dict[str, list[int]]:
    """What a server gets from `wandb sync`: the steps of each W&B run, in order of their lines."""
    Receiver.received = {}
    with ThreadingHTTPServer(("127.0.0.1", 0), Receiver) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            done = project.run(
                "wandb", "sync", "--yes", *run.glob("wandb/offline-run-*"), HOME=str(home), WANDB_DIR=str(home),
                WANDB_BASE_URL=f"http://127.0.0.1:{server.server_port}", WANDB_API_KEY="0" * 40,
            )  # fmt: skip
        finally:
            server.shutdown()
    assert done.returncode == 0, done.stdout + done.stderr
    assert "ERROR" not in done.stdout + done.stderr, done.stdout + done.stderr
    return {
        name: [lines[number] for number in sorted(lines)]
        for name, lines in Receiver.received.items()
    }


def service_of(sweep: Path) -> int:
    """W&B's service process of a sweep's only run: that process' child."""
    parents = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            name, _, rest = stat.read_text().partition("(")[2].rpartition(") ")
            parents[int(stat.parent.name)] = (name, int(rest.split()[1]))
    supervisor = next(iter(supervisors_of(sweep).values()))
    workers = [process for process, (_, parent) in parents.items() if parent == supervisor]
    (service,) = (
        process for process, (name, parent) in parents.items()
        if name == "wandb-core" and parent in workers
    )  # fmt: skip
    return service


def test_the_service_is_killed(traced: Traced) -> None:
    sweep = traced("+setup=hpc_batch", f"epochs={EPOCHS}", pace=0.5, WANDB_MODE="offline")
    with sweep.going_on(step=5) as process:
        os.kill(service_of(sweep.directory), signal.SIGKILL)
        output = process.communicate(timeout=120)[0]
        assert process.returncode == 0, output
    run = sweep.directory / "0"
    found = wandb_file.read(run)
    assert wandb_file.steps(run) == list(range(1, EPOCHS + 1))
    assert (len(found["ids"]), found["exits"]) == (1, [0])
    (log,) = run.glob("*.log")
    assert log.read_text().count("W&B is gone") == 1
    for path in (log, *sweep.directory.glob("jobs/*.out")):
        assert "Traceback" not in path.read_text(), path
    sweep.tell("W&B's service killed", 1)


@pytest.mark.long
def test_the_disk_of_its_files_is_full(traced: Traced) -> None:
    sweep = traced("+setup=hpc_batch", "epochs=5", pace=0, WANDB_MODE="offline")
    (sweep.directory / "0").mkdir()
    with disk(sweep.directory / "0" / "wandb", "size=20k"):
        done = sweep.repeat()
    assert done.returncode == 0, done.stdout + done.stderr
    assert "W&B offline: OSError: [Errno 28] No space left on device" in sweep.log(0)
    sweep.tell("the disk of W&B's files full", 1)


def test_offline_across_two_requeues(traced: Traced, tmp_path: Path) -> None:
    """One by the warning signal, which ends all of the job's processes that do not handle it, and one
    by a requeue, whose TERM ends W&B's service at once."""
    sweep = traced("+setup=hpc_batch", f"epochs={EPOCHS}", pace=0.5, WANDB_MODE="offline")
    with sweep.going_on(step=5) as process:
        slurm(sweep.project, "scancel", "--signal=USR2", sweep.job)
        wait_until(lambda: sweep.restarts == [1], process)
        wait_until(lambda: sweep.has_begun(12, 0), process)
        slurm(sweep.project, "scontrol", "requeue", sweep.job)
        wait_until(lambda: sweep.restarts == [2], process)
        output = process.communicate(timeout=120)[0]
        assert process.returncode == 0, output
    run = sweep.directory / "0"
    (identity,), exits = (wandb_file.read(run)[name] for name in ("ids", "exits"))
    assert exits[-1] == 0
    assert synced(sweep.project, run, tmp_path) == {identity: list(range(1, EPOCHS + 1))}
    sweep.tell("two requeues with W&B offline; then synced as one W&B run", 2)
