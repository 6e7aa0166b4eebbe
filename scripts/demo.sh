#!/usr/bin/env bash
# Generate a repository with the default answers, install it, test it and run a sweep of 8 runs.
set -euo pipefail
template=$(cd "$(dirname "$0")/.." && pwd)
project=$CACHE/demo/hpc-experiment
step() { printf '\n\033[1m==> %s\033[0m\n' "$*"; }

step "1/4 cookiecutter $template"
rm -rf "$CACHE/demo"
"$ENV/bin/cookiecutter" --no-input --output-dir "$CACHE/demo" "$template"
cd "$project"

step "2/4 install it into $project/.venv"
"$ENV/bin/uv" venv --quiet --python "$ENV/bin/python" .venv
source .venv/bin/activate
"$ENV/bin/uv" pip install --quiet --compile-bytecode --editable '.[dev]'

step "3/4 pytest -m 'not slow'"
pytest --quiet -m 'not slow'

setup=local
if partitions=$(timeout 10 sinfo --noheader --format=%R 2>/dev/null); then
    if grep --quiet --line-regexp cpu <<<"$partitions"; then
        setup=hpc_batch
    else
        echo "Slurm answers, but has no partition 'cpu', which is the default answer: on this machine, then."
    fi
fi
command=(python -m hpc_experiment "+setup=$setup" model=mlp,logistic lr=0.1,0.01 seed=1,2)
step "4/4 ${command[*]}"
"${command[@]}"
echo "Again: cd $project && source .venv/bin/activate && python -m hpc_experiment.hpc.runs"
