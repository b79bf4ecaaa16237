"""The blocks of `benchmarks/gpu.py`: each function checks one property on a device and returns a verdict."""
