#!/usr/bin/env bash
# Generate a repository with the default answers, install it, test it and run a sweep of 8 runs.
set -euo pipefail
template=$(cd "$(dirname "$0")/.." && pwd)
project=$CACHE/demo/hpc-experiment
step() { printf '\n\033[1m==> %s\033[0m\n' "$*"; }

step "1/4 cookiecutter $template"
kept=$CACHE/demo-venv  # of the last demo: most of what is to be installed is there
rm -rf "$kept"
! "$project/.venv/bin/python" -c "" 2>/dev/null || mv "$project/.venv" "$kept"
rm -rf "$CACHE/demo"
"$ENV/bin/cookiecutter" --no-input --output-dir "$CACHE/demo" "$template" create_venv=no "framework=$FRAMEWORK"
cd "$project"

step "2/4 install it into $project/.venv"
export UV_SYSTEM_CERTS=1 UV_NATIVE_TLS=1  # the second for an older uv
mv "$kept" .venv 2>/dev/null || "$ENV/bin/uv" venv --quiet --python "$ENV/bin/python" .venv
source .venv/bin/activate
[ "$FRAMEWORK" != pytorch ] || "$template/scripts/torch.sh" .venv/bin/python
"$ENV/bin/uv" pip install --quiet pip --editable '.[dev]'

step "3/4 pytest"
pytest --quiet

sweep=(model=mlp,logistic lr=0.1,0.01 seed=1,2)
[ "$FRAMEWORK" != pytorch ] || sweep=(model=mlp,cnn lr=0.01,0.003 seed=1,2)
sweep() {
    local command=(python -m hpc_experiment "+setup=$1" "${sweep[@]}")
    step "4/4 ${command[*]}"
    "${command[@]}"
}
if timeout 10 sinfo >/dev/null 2>&1; then
    sweep hpc_batch || { echo "It did not run on this cluster, as said above: on this machine, then."; sweep local; }
else
    sweep local
fi
echo "Again: cd $project && source .venv/bin/activate && hpc status"
