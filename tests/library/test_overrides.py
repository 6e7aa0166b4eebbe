"""The command line, before anything is submitted."""

import pytest
from hydra import compose, initialize
from hydra.errors import ConfigCompositionException
from omegaconf import OmegaConf

from hpc_hydra import with_multirun
from hpc_hydra._overrides import refuse_misfits

from .using import App

NOWHERE = "train() has no parameter learning_rate, nor is there a group learning_rate: {}"


@pytest.mark.parametrize(
    "arguments",
    [
        "+setup=local lr=1,2",
        "-m +setup=local lr=1,2",
        "+setup=local -m lr=1,2",
        "lr=1,2 --multirun",
    ],
)
def test_multirun_may_stand_anywhere_or_be_left_out(arguments: str) -> None:
    overrides = [word for word in arguments.split() if "=" in word]
    assert with_multirun(arguments.split()) == [*overrides, "--multirun"]


@pytest.mark.parametrize("arguments", ["lr=1", "+setup=local --help", "--cfg job +setup=local"])
def test_what_is_no_sweep_stays_as_it_is(arguments: str) -> None:
    assert with_multirun(arguments.split()) == arguments.split()


@pytest.mark.parametrize("show", ["--cfg=job", "-c job", "--info all"])
def test_the_config_is_shown_of_one_run(show: str) -> None:
    """Hydra says that several values need --multirun, and has a traceback for --multirun beside --cfg."""
    assert with_multirun(f"-m lr=1 {show}".split()) == ["lr=1", *show.split()]
    with pytest.raises(SystemExit, match="one run: give one value instead of lr=1,2"):
        with_multirun(f"-m lr=1,2 seed=3 {show}".split())


@pytest.mark.parametrize("flag", [[], ["--multirun"]])
def test_a_sweep_over_presets_is_refused(flag: list[str]) -> None:
    with pytest.raises(SystemExit, match="a command line has one preset"):
        with_multirun([*flag, "+setup=hpc_batch,local", "lr=0.1"])


def test_runs_of_a_sweep_share_no_directory() -> None:
    """As the parameter of that name would have them do; the metrics of all would be in one file."""
    with pytest.raises(SystemExit, match="output_dir=x would be that of all runs"):
        with_multirun(["+setup=local", "output_dir=x", "lr=1,2"])
    own = ["-m", "output_dir='x/${seed}'", "seed=1,2"]
    assert with_multirun(own) == [*own[1:], "--multirun"]
    assert with_multirun(["output_dir=x"]) == ["output_dir=x"]


@pytest.mark.parametrize(
    ("overrides", "complaint"),
    [
        ("lr=3 +learning_rate=1", NOWHERE.format("+learning_rate=1")),
        ("++learning_rate=1", NOWHERE.format("++learning_rate=1")),
        ("+model.hiden=3", "mlp() has no parameter hiden: +model.hiden=3"),
        ("+model.lr=3", "mlp() gets lr from the task: lr=..., not +model.lr=3"),
        ("model=free +model.anything=3", None),  # takes **options
        ("+setup=local", None),  # a group
        ("++lr=3 ++model.hidden=3", None),
        (
            "+hydra.launcher.anything=3",
            "BasicLauncher() has no parameter anything: +hydra.launcher.anything=3",
        ),
    ],
)
def test_a_parameter_that_nobody_knows_is_refused(overrides: str, complaint: str | None) -> None:
    """Hydra suggests the + for any unknown name; ignored, it would make runs that only look different."""
    with initialize(version_base="1.3", config_path=None):
        config = compose("config", overrides.split(), return_hydra_config=True)
    if complaint is None:
        refuse_misfits(overrides.split(), config)
        return
    with pytest.raises(ConfigCompositionException) as refusal:
        refuse_misfits(overrides.split(), config)
    assert str(refusal.value) == complaint


def test_a_task_without_a_value_that_it_needs_is_refused() -> None:
    """All runs of a sweep would fail, and each in a job. What is partial, the task itself can complete."""
    net = {"_target_": "my.Net", "depth": "???", "loss": "${loss}"}
    partial = {"_target_": "my.Adam", "_partial_": True, "lr": "???"}
    task = {"_target_": "my.train", "gamma": "???", "loss": None, "net": net, "optimizer": partial}
    with pytest.raises(ConfigCompositionException) as refusal:
        refuse_misfits([], OmegaConf.create({**task, "hydra": {}}))
    assert str(refusal.value).splitlines() == [
        "train() needs a value for gamma: gamma=...",
        "Net() needs a value for net.depth: net.depth=...",
    ]


@pytest.mark.parametrize("arguments", ["+learning_rate=1", "+setup=local seed=1,2 +model.hiden=3"])
def test_then_nothing_has_begun(arguments: str, zen_app: App) -> None:
    ended = zen_app(*arguments.split())
    assert ended.returncode == 1
    assert " has no parameter " in ended.stderr and "Traceback" not in ended.stderr
    assert not list(zen_app.folder.rglob("run.json"))
    assert not (zen_app.sweep / "jobs").exists()


def test_with_a_preset_a_wrong_choice_is_what_is_complained_of(zen_app: App) -> None:
    """Without --multirun Hydra would say that the comma needs it."""
    ended = zen_app("+setup=local", "model=nonsense", "lr=1,2")
    assert ended.returncode == 1
    assert "Could not find 'model/nonsense'" in ended.stderr
