"""What a run needs around its training: checks before it starts, processes, and SLURM batch files."""
