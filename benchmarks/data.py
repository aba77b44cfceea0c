"""The volume that the benchmarks read and write, made once and cached."""

from __future__ import annotations

import os
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.template import find_template, load_template

# With this gain and noise, zstd level 3 packs the volume about 2.8 times and blosc (lz4, shuffle) about 2.2 times. The
# noise lies on every voxel, as a scanner's does, so no chunk is empty.
GAIN = 4.0
NOISE = 4.0
SEED = 20090911
REVISION = 1  # of this recipe; a new one must not read volumes cached by an old one


@dataclass(frozen=True, slots=True)
class Volume:
    """A cube of uint16, shape (n, n, n), C order, and one line on where it comes from."""

    values: NDArray[np.uint16]
    source: str


def cache_folder() -> Path:
    """``ZARRDOCK_BENCH_DIR``, or ``zarrdock-bench`` in the platform's cache folder; created when missing."""
    chosen = os.environ.get("ZARRDOCK_BENCH_DIR")
    if chosen:
        folder = Path(chosen)
    elif sys.platform == "win32":
        folder = Path(os.environ.get("LOCALAPPDATA", Path.home() / "AppData" / "Local"), "zarrdock-bench")
    elif sys.platform == "darwin":
        folder = Path.home() / "Library" / "Caches" / "zarrdock-bench"
    else:
        folder = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache", "zarrdock-bench")
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def volume_file(n: int, folder: Path) -> tuple[Path, str]:
    """Path of the cached volume of `n` voxels a side, made first when missing, and its source in words."""
    template = find_template()
    kind = "synthetic" if template is None else "mni152"
    path = folder / f"volume-{kind}-{n}-r{REVISION}.npy"
    if not path.exists():
        clean = synthetic_head() if template is None else load_template(template).astype(np.float32)
        # Written beside its place and renamed: an interrupted run must not leave half a volume behind.
        handle, name = tempfile.mkstemp(suffix=".npy", dir=folder)
        try:
            with os.fdopen(handle, "wb") as file:
                np.save(file, with_noise(resample_linear(clean, n)))
            os.replace(name, path)
        except BaseException:
            Path(name).unlink(missing_ok=True)
            raise
    words = {
        "mni152": "MNI152 T1 template (nilearn's wheel), resampled, with noise",
        "synthetic": "synthetic head with noise (nilearn and nibabel are not installed)",
    }
    return path, f"{words[kind]}: {n}^3 uint16"


def load_volume(n: int, folder: Path) -> Volume:
    """The volume of `n` voxels a side, in memory."""
    path, source = volume_file(n, folder)
    return Volume(np.load(path), source)


def resample_linear(volume: NDArray[np.float32], n: int) -> NDArray[np.float32]:
    """`volume` (3-D) stretched to (n, n, n) by linear interpolation, corner to corner."""
    for axis in range(3):
        size = volume.shape[axis]
        position = np.linspace(0, size - 1, n)
        low = np.minimum(position.astype(np.intp), size - 2)
        weight = (position - low).astype(np.float32).reshape([n if a == axis else 1 for a in range(3)])
        lower = np.take(volume, low, axis)
        upper = np.take(volume, low + 1, axis)
        upper -= lower
        upper *= weight
        upper += lower
        volume = upper
    return volume


def with_noise(clean: NDArray[np.float32]) -> NDArray[np.uint16]:
    """Scale `clean` (0 to 255) and lay Gaussian noise over it, folded at zero as the magnitude of MRI is.

    Works slab by slab, to save memory.
    """
    random = np.random.default_rng(SEED)
    result = np.empty(clean.shape, np.uint16)
    for index, slab in enumerate(clean):
        noisy = random.standard_normal(slab.shape, dtype=np.float32)
        noisy *= NOISE
        noisy += slab * np.float32(GAIN)
        result[index] = np.abs(noisy)
    return result


def synthetic_head() -> NDArray[np.float32]:
    """A folded, layered ellipsoid on black, shape (197, 233, 189), 0 to 255.

    Brightness and the filled share are the template's; with the noise it packs about as well (zstd 3.0, blosc 2.3).
    """
    shape = (197, 233, 189)
    x, y, z = np.meshgrid(*(np.linspace(-1, 1, n, dtype=np.float32) for n in shape), indexing="ij", sparse=True)
    radius = np.sqrt((x / 0.72) ** 2 + (y / 0.76) ** 2 + ((z + 0.1) / 0.78) ** 2)
    folds = np.sin(23 * x + 3 * np.sin(9 * y))
    folds = folds * np.sin(19 * y + 3 * np.sin(11 * z)) * np.sin(21 * z + 3 * np.sin(7 * x))
    grey = 165 + 20 * folds
    white = 225 + 8 * folds
    tissue = np.where(radius + 0.06 * folds < 0.78, white, grey)
    tissue = np.where(radius < 0.2, 70, tissue)
    return np.asarray(np.where(radius + 0.03 * folds < 1, tissue, 0), np.float32)
