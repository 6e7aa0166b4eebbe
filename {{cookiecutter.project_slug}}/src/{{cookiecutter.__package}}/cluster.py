{%- macro literal(answer) -%}
{%- set text = (answer or "") | trim -%}
{%- set escaped = text | replace("\\", "\\\\") -%}
{%- if "\n" in text -%}
"""\
{{ escaped | replace('"', '\\"') }}"""
{%- elif text.count('"') > text.count("'") -%}
'{{ escaped | replace("'", "\\'") }}'
{%- else -%}
"{{ escaped | replace('"', '\\"') }}"
{%- endif -%}
{%- endmacro -%}
"""The facts about the cluster, and nothing else: change them here when the cluster changes.

An empty text leaves its line out of the job script.
"""

GPU_PARTITION = {{ literal(cookiecutter.gpu_partition) }}
# 0 for a cluster without GPUs.
GPUS_PER_NODE = {{ cookiecutter.gpus_per_node | string | trim }}
# How GPUs are asked for; {n} stands for their number, {10n} for ten times as many, and so on.
GPU_REQUEST = {{ literal(cookiecutter.gpu_request) }}
# Other types of GPU, for `+gpu=NAME`: GPUs of a node, and options in place of partition and request, as in
# "v100": (8, "partition=v100 gres=gpu:v100:{n} cpus-per-task={10n}").
GPU_TYPES: dict[str, tuple[int, str]] = {
{%- set request, end = (cookiecutter.gpu_request or "") | string, namespace(text="") %}
{%- for name, (number, options) in (cookiecutter.get("_gpu_types") or {}).items() %}
{%- if name != cookiecutter.gpu_partition and ":" ~ name ~ ":" not in request %}
    {{ name | tojson }}: (
        {{ number | int }},
        {{ options | tojson }},
    ),
{%- set end.text = "\n" %}
{%- endif %}
{%- endfor -%}
{{ end.text }}}
CPU_PARTITION = {{ literal(cookiecutter.cpu_partition) }}
ACCOUNT = {{ literal(cookiecutter.account) }}

# Further options of sbatch, as on its command line but without the dashes; they win over the above.
# `name=` leaves a line out; `srun:name=value` is an option of srun, `debug:name=value` one of hpc_debug,
# which is a GPU job where there are GPUs.
GPU_SBATCH = {{ literal(cookiecutter.gpu_sbatch) }}
CPU_SBATCH = {{ literal(cookiecutter.cpu_sbatch) }}

# Shell commands at the start of a job, before the virtual environment is activated. If one fails, so does
# the job; append `|| true` to one that may. A first line such as `#!/bin/bash -l` becomes the script's.
# `on_gpu module load cuda` is for GPU jobs only, `on_cpu ...` for others.
SETUP_COMMANDS = {{ literal(cookiecutter.setup_commands) }}
# What starts Python in a job: the folder of a virtual environment; or a command, which has a blank or ends
# in python, such as "apptainer exec --nv x.sif python"; or "" for the python3 of SETUP_COMMANDS.
PYTHON = {{ literal(cookiecutter.python) }}
# Variables here and above are those of whoever submits; a relative path lies in this repository.
OUTPUT_DIR = {{ literal(cookiecutter.output_dir) }}

# "offline", "online" or "disabled"; the variable WANDB_MODE wins.
WANDB_MODE = "{{ cookiecutter.wandb_mode | trim }}"
# "checkpoint" or "ignore": see signals.py.
SIGNAL_POLICY = "{{ cookiecutter.signal_policy | trim }}"
