"""Benchmarks: each prints its ratio against a peer measured in the same run; `--quick` is a smoke size."""
