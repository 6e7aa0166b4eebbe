"""The command line of a sweep, as it was recorded."""

from __future__ import annotations

import os
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn

from .. import _records as records
from .sweeps import fail

# What is of one submission only.
FLEETING = ("hydra.sweep.dir", "hydra.launcher.only_runs", "hydra.launcher.redo",
            "hydra.launcher.may_change")  # fmt: skip


@dataclass
class Command:
    """Words for Python, and the folder in which they are typed."""

    words: list[str]  # after the name of Python
    cwd: Path
    python: str
    variables: dict[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, directory: Path, submission: dict[str, Any]) -> Command:
        """That of a ``submission`` of the sweep in ``directory``, without what concerns that alone.

        Raises:
            typer.Exit: there is none.
        """
        if "command" not in submission:
            fail(
                f"{directory} has no record of its command: it is a single run, or of another launcher."
            )
        _, *words = shlex.split(submission["command"])
        words = [word for word in words if records.key_of(word) not in FLEETING]
        return cls(words, Path(submission["cwd"]), submission["python"])

    def add(self, *overrides: str) -> None:
        """Put ``overrides`` in the place of those about the same, and beside the others: Hydra takes them only
        in a row, not on both sides of an option."""
        new = {records.key_of(each): each for each in overrides}
        words = [new.get(records.key_of(word), word) for word in self.words]
        left = [each for each in new.values() if each not in words]
        place = place_of_app(words) + 1
        while place < len(words) and not _is_override(words[place]):
            place += 1
        while place < len(words) and _is_override(words[place]):  # the later ones win
            place += 1
        self.words = [*words[:place], *left, *words[place:]]

    def shell(self) -> str:
        """It, to be typed anywhere."""
        variables = [f"{name}={shlex.quote(value)}" for name, value in self.variables.items()]
        line = " ".join([*variables, shlex.join([self.python, *self.words])])
        return f"cd {shlex.quote(str(self.cwd))} && {line}"

    def execute(self) -> NoReturn:
        """Become it.

        Raises:
            typer.Exit: its Python or its folder is gone.
        """
        try:
            os.chdir(self.cwd)
            os.execve(self.python, [self.python, *self.words], {**os.environ, **self.variables})
        except OSError as error:
            fail(f"the command cannot be started: {error}\n    {self.shell()}")


def submission_of(directory: Path, run: Mapping[str, Any]) -> dict[str, Any]:
    """That to which a ``run`` of the sweep in ``directory`` belongs; empty if it is not recorded."""
    submissions = records.read(directory / records.SWEEP).get("submissions", [])
    return next((each for each in submissions if each["submission"] == run.get("submission")), {})


def _is_override(word: str) -> bool:
    return "=" in word and not word.startswith("-")


def place_of_app(words: Sequence[str]) -> int:
    """Where among ``words`` for Python that is which it starts: ``-m app …`` app, ``-u app.py …`` app.py."""
    place = 0
    while place < len(words) - 1:
        if words[place] == "-m":
            return place + 1
        if not words[place].startswith("-"):
            break
        place += 2 if words[place] in ("-X", "-W") else 1
    return place
