"""What a job's Python tells `hpc doctor` of itself, and PyTorch of the job's GPUs."""

import sys
from importlib.util import find_spec

from .._ranks import gpus_here

print(f"started {sys.executable}", flush=True)
if find_spec("torch"):
    import torch

    print(
        f"PyTorch {torch.__version__} sees {torch.cuda.device_count()} of {len(gpus_here())} GPUs"
    )
