"""What the repository adds to the start of every command, as `--help` shows: its imports, and what Hydra
does with its store and its plugins."""

from __future__ import annotations

from statistics import median

from measuring import Place, Row, goal, seconds, tell

REPEATS = 15
GOAL = 1.0


def measure(place: Place) -> list[Row]:
    """In turns, since a machine is not equally quick all the time."""
    commands = {
        "ours": (place.python, "-m", "hpc_experiment", "--help"),
        "same": (place.python, place.app, "--help"),
        "bare": (place.bare, place.app, "--help"),
    }
    tell(f"--help, {REPEATS} times each")
    taken: dict[str, list[float]] = {name: [] for name in commands}
    for turn in range(REPEATS + 1):
        for name, command in commands.items():
            used = place.used(*command)
            if turn:  # the first compiles what it imports
                taken[name].append(used.seconds)
    ours, same, bare = (median(taken[name]) for name in commands)
    return [
        Row(
            f"`--help`; others: a bare Hydra app, {where}",
            seconds(ours), others=seconds(other),
            ratio=f"{ours / other:.2f} of it",
            # In the same environment the bare app's start is quicker by our plugin, too.
            goal=goal(f"≤ {GOAL:.0f}", ours <= GOAL * other) if other is bare else "",
        )
        for where, other in (("in the same environment", same), ("where hydra-core is alone", bare))
    ]  # fmt: skip
