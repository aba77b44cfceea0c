"""Benchmarks of zarrdock beside its peers: ``python -m benchmarks --help``, from the repository's root."""
