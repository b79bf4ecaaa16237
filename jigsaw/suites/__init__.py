"""Downstream benchmarks: the three tables of the Visual Jigsaw paper and that of NEO, run through lmms-eval."""
