"""The command `hpc`: sweeps found, watched, repeated and cleaned up, from their records."""
