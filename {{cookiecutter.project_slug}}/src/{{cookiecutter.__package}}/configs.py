"""The Hydra store: what can be chosen on the command line.

- the main config: the arguments of `task.train`, and the signal policy
- `model`: what is trained
- `hydra/launcher`: where runs go, and what a job asks for
- `hydra/sweep`: where the outputs of a sweep lie
- `gpu`: other types of GPU than the usual one; `+gpu=NAME`
- `setup`: the presets; `+setup=NAME` sweeps with a launcher and a sweep directory
"""

from typing import Any

from hpc_hydra import LocalConf, RecordCallback, Site, SlurmConf, WandbCallback
from hydra.conf import HydraConf, JobConf, RunDir, SweepDir
from hydra_zen import ZenField, ZenStore, builds, make_config

from . import cluster, models
from .signals import Policy
from .task import train

NAME = "{{ cookiecutter.project_slug }}"
store = ZenStore(name=NAME, deferred_hydra_store=True, overwrite_ok=True)
site = Site(__file__, cluster.SETUP_COMMANDS, cluster.PYTHON, {"WANDB_MODE": cluster.WANDB_MODE})

# --- main config ---------------------------------------------------------------------------------

TrainConf = builds(
    train, populate_full_signature=True, model="???", output_dir="${hydra:runtime.output_dir}"
)
Config = make_config(
    hydra_defaults=["_self_", {"model": "mlp"}],
    signal_policy=ZenField(Policy, Policy(cluster.SIGNAL_POLICY)),
    bases=(TrainConf,),
)
store(Config, name="config")

# --- models --------------------------------------------------------------------------------------

{% if cookiecutter.framework == "pytorch" -%}
# Partial: the task itself makes the model, where the run starts.
model_store = store(group="model")
model_store(builds(models.mlp, zen_partial=True, hidden=64, dropout=0.1), name="mlp")
model_store(builds(models.cnn, zen_partial=True, width=16, dropout=0.1), name="cnn")
{%- else -%}
# Partial: the task itself passes lr and seed, and makes the model where the run starts.
model_store = store(group="model")
model_store(builds(models.logistic, zen_partial=True, alpha=1e-4), name="logistic")
model_store(builds(models.mlp, zen_partial=True, hidden=64, alpha=1e-4), name="mlp")
{%- endif %}

# --- where outputs go ----------------------------------------------------------------------------

DIRECTORY = site.path(cluster.OUTPUT_DIR) + "/${now:%Y-%m-%d}/${now:%H-%M-%S}"
SWEEP = SweepDir(dir=DIRECTORY, subdir="${hydra.job.num}")
store(SWEEP, group="hydra/sweep", name="hpc")
store(
    HydraConf(
        job=JobConf(name=NAME),
        run=RunDir(dir=DIRECTORY),
        sweep=SWEEP,
        callbacks={
            "record": builds(RecordCallback),
            "wandb": builds(WandbCallback, project=NAME, default_mode=cluster.WANDB_MODE),
        },
    )
)

# --- launchers -----------------------------------------------------------------------------------

COMMON = f"requeue account={cluster.ACCOUNT}"
GPU_JOB = f"{COMMON} partition={cluster.GPU_PARTITION} {cluster.GPU_REQUEST} {cluster.GPU_SBATCH}"
CPU_JOB = f"{COMMON} partition={cluster.CPU_PARTITION} {cluster.CPU_SBATCH}"
ALL_GPUS = "${hydra.launcher.gpus_of_node}"


def slurm(*options: str, **choices: Any) -> SlurmConf:
    """A Slurm launcher from options of sbatch, as in cluster.py, of which the later ones win.

    ``gpus``: on each node. ``pack``: so many runs side by side, a GPU each. ``rank_per_gpu``: one run, with
    a process for each GPU. ``one_node``: whatever the options say."""
    choices["gpus_of_node"] = cluster.GPUS_PER_NODE or None
    # A run may be requeued as often as this because its time was over.
    return site.slurm(*options, max_num_timeout=20, **choices)


launcher_store = store(group="hydra/launcher")
launcher_store(slurm("time=180", CPU_JOB), name="slurm_batch")
if cluster.GPUS_PER_NODE:
    launcher_store(slurm("time=30", GPU_JOB, gpus=ALL_GPUS), name="slurm_gpu")
    launcher_store(slurm("time=30", GPU_JOB, gpus=1, one_node=True), name="slurm_gpu_one")
    ranks = slurm("time=30", GPU_JOB, gpus=ALL_GPUS, rank_per_gpu=True)
    launcher_store(ranks, name="slurm_gpu_ranks")
    packed = slurm("time=30", GPU_JOB, gpus=ALL_GPUS, pack=True)
    launcher_store(packed, name="slurm_gpu_packed")
    launcher_store(slurm(GPU_JOB, gpus=1, debug=True), name="slurm_debug")
else:
    launcher_store(slurm(CPU_JOB, debug=True), name="slurm_debug")
{% if cookiecutter.framework == "pytorch" -%}
launcher_store(LocalConf(), name="local")
{%- else -%}
launcher_store(LocalConf(gpus_per_node=0), name="local")  # else a run for each GPU
{%- endif %}

# `+gpu=NAME` changes a launcher for GPUs to another type.
gpu_store = store(group="gpu", package="hydra.launcher")
for name, (gpus, options) in cluster.GPU_TYPES.items():
    gpu_store(site.gpu_type(gpus, options, instead_of=cluster.GPU_REQUEST), name=name)

# --- presets -------------------------------------------------------------------------------------


def preset(launcher: str) -> dict[str, Any]:
    """A sweep with ``launcher``.

    A plain dict: one that inherited the main config would put the main config's defaults back over
    what the command line chose before it.
    """
    return {
        "defaults": [
            {"/hydra/sweep": "hpc"},
            "_self_",
            {"override /hydra/launcher": launcher},
            {"override /hydra/sweeper": "hpc"},
        ],
        "hydra": {"mode": "MULTIRUN"},
    }


setup_store = store(group="setup", package="_global_")
setup_store(preset("slurm_batch"), name="hpc_batch")
if cluster.GPUS_PER_NODE:
    setup_store(preset("slurm_gpu"), name="hpc_gpu")
    setup_store(preset("slurm_gpu_one"), name="hpc_gpu_one")
    setup_store(preset("slurm_gpu_ranks"), name="hpc_gpu_ranks")
    setup_store(preset("slurm_gpu_packed"), name="hpc_gpu_packed")
setup_store(preset("slurm_debug"), name="hpc_debug")
setup_store(preset("local"), name="local")
