"""`jigsaw build`: lists the sources, plans puzzles in worker processes and writes them in parts."""
