"""Downstream benchmarks: the three tables of the Visual Jigsaw paper and the table of NEO, run with lmms-eval."""
