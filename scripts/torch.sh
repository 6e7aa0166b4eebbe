#!/usr/bin/env bash
# Install PyTorch for the Python $1, of whatever environment: where there is no GPU, the CPU build, since PyPI's build
# for Linux brings gigabytes of CUDA along. It comes from where pip is told to look, or from PyTorch's own index.
set -euo pipefail
install=("$ENV/bin/uv" pip install --quiet --python "$1")
! nvidia-smi >/dev/null 2>&1 || exec "${install[@]}" torch
links=${PIP_FIND_LINKS:-$("$ENV/bin/pip" config get global.find-links 2>/dev/null || true)}
for source in "--no-index --find-links=$links" "--index-url=https://download.pytorch.org/whl/cpu"; do
    # shellcheck disable=SC2086 # it may be two options
    if UV_HTTP_TIMEOUT=20 "${install[@]}" --no-deps --dry-run $source torch 2>/dev/null; then
        "${install[@]}" --no-deps $source torch
        exec "${install[@]}" torch  # what it needs, which PyPI has
    fi
done
echo "PyTorch's CPU build is not to be had here, neither where pip looks nor at download.pytorch.org." >&2
