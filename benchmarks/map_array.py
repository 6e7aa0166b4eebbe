"""Submit trivial calls with submitit alone, in held jobs: python map_array.py CALLS."""

import sys

import submitit

executor = submitit.AutoExecutor("jobs", cluster="slurm")
executor.update_parameters(timeout_min=60, slurm_additional_parameters={"hold": True})
executor.map_array(abs, range(int(sys.argv[1])))
