"""The blocks of `benchmarks/gpu.py`: each function tries one thing on a device and gives its verdict."""
