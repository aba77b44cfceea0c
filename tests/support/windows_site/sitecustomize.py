"""On PYTHONPATH, this folder makes every Python process one on simulated Windows."""

from support.simulated_windows import install

install()
