#!/usr/bin/env bash
# Install PyTorch's CPU build for the Python $1, of whatever environment: from where pip is told to look, or from
# PyTorch's own index, since PyPI's build for Linux brings gigabytes of CUDA along.
set -euo pipefail
install=("$ENV/bin/uv" pip install --quiet --python "$1" --no-deps)
links=${PIP_FIND_LINKS:-$("$ENV/bin/pip" config get global.find-links 2>/dev/null || true)}
for source in "--no-index --find-links=$links" "--index-url=https://download.pytorch.org/whl/cpu"; do
    # shellcheck disable=SC2086 # it may be two options
    if UV_HTTP_TIMEOUT=20 "${install[@]}" --dry-run $source torch 2>/dev/null; then
        exec "${install[@]}" $source torch
    fi
done
echo "PyTorch's CPU build is not to be had here, neither where pip looks nor at download.pytorch.org." >&2
