"""Ends before anything is generated: Ctrl-C in the questions, and a folder that is there already."""

import os
import pty
from contextlib import suppress
from pathlib import Path

from running import LIGHT, TOOLS, cookiecutter, environment, home


def visible(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if not path.name.startswith("."))


def test_ctrl_c_in_the_questions(tmp_path: Path) -> None:
    process, terminal = pty.fork()
    if process == 0:
        os.chdir(tmp_path)
        command = [str(TOOLS / "cookiecutter"), str(LIGHT)]
        os.execve(command[0], command, environment({**home(tmp_path), "TERM": "dumb"}))
    said = ""
    for question in ("Title of the project", "Folder and distribution name"):
        while question not in said:
            said += os.read(terminal, 4096).decode()
        os.write(terminal, b"\x03" if question.startswith("Folder") else b"Tides\n")
    with suppress(OSError):  # of a terminal whose other end is closed
        while True:
            said += os.read(terminal, 4096).decode()
    os.close(terminal)
    assert os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]) == 1
    assert said.rstrip().endswith("Aborted!")
    assert "Traceback" not in said
    assert visible(tmp_path) == []


def test_a_folder_that_is_there_is_left_alone(tmp_path: Path) -> None:
    mine = tmp_path / "hpc-experiment" / "README.md"
    mine.parent.mkdir()
    mine.write_text("mine")
    done = cookiecutter("--no-input", LIGHT, cwd=tmp_path)
    assert done.returncode == 1
    assert done.stdout == 'Error: "hpc-experiment" directory already exists\n'
    assert "Traceback" not in done.stderr
    assert visible(mine.parent) == ["README.md"]
    assert mine.read_text() == "mine"
