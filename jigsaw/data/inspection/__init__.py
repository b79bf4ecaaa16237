"""`jigsaw check`, `jigsaw preview`, and the checks of a set before training."""
