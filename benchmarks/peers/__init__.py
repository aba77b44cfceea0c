"""The implementations that are compared, one file each, behind the interface of :mod:`benchmarks.peers.base`."""
