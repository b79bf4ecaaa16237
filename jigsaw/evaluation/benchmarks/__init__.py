"""Downstream benchmarks: those of the paper's three tables, those of NEO's, and RealUnify, run through lmms-eval."""
