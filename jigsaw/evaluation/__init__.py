"""Evaluation: solving puzzles, figures with intervals beside chance, and the report page."""
