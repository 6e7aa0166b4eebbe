"""Type `hpc`, as somebody does who has no Hydra in mind."""

from __future__ import annotations

import io
import logging
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import NoReturn
from unittest.mock import patch

import pytest

from hpc_hydra._command.app import main

from .using import Ended

# A test of what a terminal shows has another one.
Output = io.StringIO


def hpc(*words: str | Path, cwd: Path | None = None, **variables: str) -> Ended:
    """Not on a terminal: nobody answers its questions. It is this process, since Python takes longer to start
    than a command; the app that some commands become is one of its own."""
    typed = ["hpc", *map(str, words)]
    with (
        redirect_stdout(Output()) as out,
        redirect_stderr(Output()) as err,
        patch.dict(os.environ, variables),
        patch.object(logging.root, "handlers", []),
        patch("os.execve", _app),
        patch.object(sys, "argv", typed),
        patch.object(sys, "stdin", io.StringIO()),
        pytest.MonkeyPatch.context() as here,
    ):
        here.chdir(cwd or Path.cwd())
        code: object = 0
        try:
            main()
        except SystemExit as end:
            code = end.code or 0
        if isinstance(code, str):
            print(code, file=err)
            code = 1
    assert isinstance(code, int)
    return Ended(typed, code, out.getvalue(), err.getvalue())


def _app(python: str, words: Sequence[str], variables: Mapping[str, str]) -> NoReturn:
    ended = subprocess.run(
        words, env=variables, stdin=subprocess.DEVNULL, capture_output=True, text=True
    )
    print(ended.stdout, end="")
    print(ended.stderr, end="", file=sys.stderr)
    sys.exit(ended.returncode)
