"""Models: tiny ones made here, checkpoints opened from elsewhere."""
