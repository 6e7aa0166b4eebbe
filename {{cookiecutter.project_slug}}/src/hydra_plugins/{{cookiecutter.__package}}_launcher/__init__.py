"""Hydra launchers that record what became of each run."""
