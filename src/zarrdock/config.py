"""Settings that are no part of any array: threads, windows, caches. One place, documented; every field can be set by
an environment variable.

``ZARRDOCK_THREADS=4`` sets ``threads``, and so on for every field in upper case. At run time:
``zarrdock.config.threads = 4``. ``docs/reference/configuration.md`` says more of each.
"""

from __future__ import annotations

import functools
import math
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, fields
from pathlib import Path
from typing import NoReturn, cast

__all__ = ["Config", "available_cpus", "config", "cpu_quota"]


@functools.cache  # asked for every piece of work, and files are opened to answer
def available_cpus() -> int:
    """CPUs this process may use: its affinity, and the quota of its control groups (containers), whichever is less."""
    try:
        n = len(os.sched_getaffinity(0))
    except AttributeError:  # not Linux
        n = os.cpu_count() or 1
    quota = cpu_quota()
    return n if quota is None else max(1, min(n, math.ceil(quota)))


def cpu_quota(proc: str = "/proc/self/cgroup", mount: str = "/sys/fs/cgroup") -> float | None:
    """CPUs' worth of time that the control groups of this process allow, the least of all levels; None: no limit.

    Args:
        proc: the file that names the groups. mount: where their file system is mounted; both versions are known.
    """
    try:
        lines = Path(proc).read_text().splitlines()
    except OSError:
        return None
    found: list[float] = []
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers and "cpu" not in controllers.split(","):
            continue
        roots = [Path(mount)] if not controllers else [Path(mount, "cpu"), Path(mount, controllers)]
        # In a container its own group may be mounted as the root, under a path that is not there.
        parts = Path(path.lstrip("/")).parts
        for folder in {root.joinpath(*parts[:n]) for root in roots for n in range(len(parts) + 1)}:
            quota = _quota_of(folder)
            if quota is not None:
                found.append(quota)
    return min(found, default=None)


def _quota_of(folder: Path) -> float | None:
    try:
        if (folder / "cpu.max").is_file():
            quota, period = (folder / "cpu.max").read_text().split()[:2]
        else:
            quota, period = ((folder / f"cpu.cfs_{what}_us").read_text() for what in ("quota", "period"))
        return int(quota) / int(period) if int(quota) > 0 and int(period) > 0 else None
    except (OSError, ValueError):  # not there, or "max"
        return None


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
        s3_direct_reads: 0: reads from S3 go through all of s3fs and botocore; see ``docs/design/s3-direct-reads.md``.
        compiled: 0: chunks are decoded in Python even where the compiled part was built.
        switch_seconds: while something is read or written, threads that want the interpreter's lock ask for it after so
            long, in the whole process; 0: the interpreter's own setting (5 ms) is left alone.
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
    s3_direct_reads: int = 1
    compiled: int = 1
    switch_seconds: float = 0.0002

    def __post_init__(self) -> None:
        for field in fields(self):
            variable = f"ZARRDOCK_{field.name.upper()}"
            given = os.environ.get(variable)
            if given is not None:
                try:
                    value = type(field.default)(given)  # type: ignore[misc]
                except ValueError:
                    raise ValueError(f"{variable}={given!r} is not a number") from None
                _check(variable, field.name, value)
                setattr(self, field.name, value)

    def __setattr__(self, name: str, value: int | float) -> None:
        _check(f"zarrdock.config.{name}", name, value)
        object.__setattr__(self, name, value)

    @contextmanager
    def set(self, **settings: int | float) -> Iterator[Config]:
        """Change settings until the end of a ``with`` block.

        Raises:
            TypeError: there is no such setting. ValueError: it can't have that value.

        >>> with zarrdock.config.set(threads=1):
        ...     zarrdock.config.threads
        1
        """
        names = [field.name for field in fields(self)]
        for name in settings:
            if name not in names:
                import difflib

                near = difflib.get_close_matches(name, names, 1)
                hint = f"did you mean {near[0]}=?" if near else f"there are {', '.join(names)}"
                raise TypeError(f"no setting {name!r}; {hint}")
        before = {name: getattr(self, name) for name in settings}
        try:
            for name, value in settings.items():
                setattr(self, name, value)
            yield self
        finally:
            for name, value in before.items():
                setattr(self, name, value)

    @property
    def n_threads(self) -> int:
        """``threads``, with 0 resolved."""
        return self.threads or available_cpus()


# Work is cut into pieces of these sizes.
_POSITIVE = frozenset({"job_bytes", "round_bytes", "remote_round_bytes", "write_bytes"})


def _check(label: str, name: str, value: float) -> None:
    """Raise ValueError for a value that the setting ``name`` can't have; ``label`` is what the user wrote."""
    if not isinstance(value, (int, float)):
        raise ValueError(f"{label}={value!r} is not a number")
    least = 1 if name in _POSITIVE else 0
    if not value >= least:  # nor is NaN
        raise ValueError(f"{label}={value!r} is too small: the least is {least}")


class _Unset:
    """Stands for settings that could not be read, so that the package can be imported: any use says why."""

    def __init__(self, problem: str) -> None:
        object.__setattr__(self, "_problem", problem)

    def __getattr__(self, name: str) -> NoReturn:
        if name.startswith("__"):
            raise AttributeError(name)
        raise ValueError(object.__getattribute__(self, "_problem"))

    def __setattr__(self, name: str, value: object) -> NoReturn:
        self.__getattr__(name)


def _of_environment() -> Config:
    try:
        return Config()
    except ValueError as error:
        return cast(Config, _Unset(str(error)))


config = _of_environment()
