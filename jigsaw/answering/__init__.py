"""Answering: a model answers rows of a puzzle set, with the engines of training, and its answers are kept."""
