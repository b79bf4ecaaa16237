"""Launching a run: checks before it starts, estimates, puzzle sets, training processes and SLURM batch files."""
