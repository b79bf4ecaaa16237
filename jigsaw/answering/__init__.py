"""Answering: a model answers rows of a puzzle set, with the engines of training.

| file | purpose |
|---|---|
| `generation.py` | settings, and a function from rows to texts |
| `answers.py` | answered puzzles; what was stored is not asked again |
| `store.py` | records in a file of JSON lines |
"""
