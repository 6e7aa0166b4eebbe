"""What a job's Python tells `hpc doctor` of itself, and PyTorch of the job's GPUs."""

import sys
from importlib.util import find_spec

from .._ranks import gpus_here

print(f"started {sys.executable}", flush=True)
if find_spec("torch"):
    import torch

    cuda, rocm, gpus = torch.version.cuda, torch.version.hip, len(gpus_here())
    built = f"CUDA {cuda}" if cuda else f"ROCm {rocm}" if rocm else "CPUs alone"
    seen = torch.cuda.device_count()
    print(f"PyTorch {torch.__version__}, built for {built}, sees {seen} of {gpus} GPUs")
