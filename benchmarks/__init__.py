"""What relevo promises in numbers, measured: `python -m benchmarks` runs the short form of each."""
