"""An experiment on a Slurm cluster: see `__main__`."""
