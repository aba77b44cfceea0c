"""Settings that are no part of any array: threads, windows, caches. One place, documented; every field can be set by
an environment variable.

``ZARRDOCK_THREADS=4`` sets ``threads``, and so on for every field in upper case. At run time:
``zarrdock.config.threads = 4``.
"""

from __future__ import annotations

import functools
import os
from dataclasses import dataclass, fields
from pathlib import Path

__all__ = ["Config", "available_cpus", "config"]


@functools.cache  # asked for every piece of work, and a file is opened to answer
def available_cpus() -> int:
    """CPUs this process may use: its affinity, and the quota of its control group (containers), whichever is less."""
    try:
        n = len(os.sched_getaffinity(0))
    except AttributeError:  # not Linux
        n = os.cpu_count() or 1
    try:
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text().split()[:2]
        if quota != "max":
            n = min(n, max(1, -(-int(quota) // int(period))))
    except (OSError, ValueError):
        pass
    return n


@dataclass
class Config:
    """Settings, with their defaults.

    Attributes:
        threads: threads that decode and encode, the calling one included; 0: as many as there are CPUs.
        inline_bytes: work on fewer decoded bytes than this stays in the calling thread: waking another one costs more.
        job_bytes: decoded bytes a piece of work given to a thread has, about.
        round_bytes: bytes one round of reads from a local store may bring; what a read holds beyond its result is
            about twice this.
        remote_round_bytes: the same for stores that a round trip separates.
        whole_fraction: from this share of a remote shard's chunks on, the shard is read whole, in one request without
            its index.
        index_cache_bytes: parsed shard indexes kept by an open array.
        cache_bytes: decoded chunks kept for all arrays opened without ``cache_bytes=``; 0: none.
        write_bytes: encoded and raw bytes a write may have in flight.
        allow_pickle: 1: read and write v2 arrays with the object codec ``pickle``, whose data can run any code.
        s3_lean: 0: reads from S3 go through all of s3fs and botocore; see ``docs/design/s3-lane.md``.
    """

    threads: int = 0
    inline_bytes: int = 192 * 2**10
    job_bytes: int = 512 * 2**10
    round_bytes: int = 2 * 2**20
    remote_round_bytes: int = 64 * 2**20
    whole_fraction: float = 0.9
    index_cache_bytes: int = 32 * 2**20
    cache_bytes: int = 0
    write_bytes: int = 256 * 2**20
    allow_pickle: int = 0
    s3_lean: int = 1

    def __post_init__(self) -> None:
        for field in fields(self):
            given = os.environ.get(f"ZARRDOCK_{field.name.upper()}")
            if given is not None:
                try:
                    setattr(self, field.name, type(field.default)(given))  # type: ignore[misc]
                except ValueError:
                    raise ValueError(f"ZARRDOCK_{field.name.upper()}={given!r} is not a number") from None

    @property
    def n_threads(self) -> int:
        """``threads``, with 0 resolved."""
        return self.threads or available_cpus()


config = Config()
