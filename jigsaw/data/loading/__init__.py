"""Loading of puzzle sets and conversations as `datasets.Dataset` for training and evaluation."""
