"""The MNI152 template, read from an installed nilearn wheel without importing nilearn."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

TEMPLATE = "mni_icbm152_t1_tal_nlin_sym_09a_converted.nii.gz"


def find_template() -> Path | None:
    """Path of the template inside nilearn's wheel; None when nilearn or nibabel is not installed.

    nilearn itself is never imported: it would pull in scikit-learn and pandas for one data file.
    """
    spec = importlib.util.find_spec("nilearn")
    if spec is None or importlib.util.find_spec("nibabel") is None:
        return None
    for folder in spec.submodule_search_locations or ():
        path = Path(folder, "datasets", "data", TEMPLATE)
        if path.is_file():
            return path
    return None


def load_template(path: Path) -> NDArray[np.uint8]:
    """The template as uint8, shape (197, 233, 189), 1 mm voxels, axes (x, y, z) growing to right, anterior, superior.

    Raises:
        ValueError: the file is not the one this code was written for.
    """
    import nibabel

    image: Any = nibabel.load(path)
    volume = np.asarray(image.dataobj)
    expected = np.array([[1, 0, 0, -98], [0, 1, 0, -134], [0, 0, 1, -72], [0, 0, 0, 1]])
    if volume.shape != (197, 233, 189) or volume.dtype != np.uint8 or not np.array_equal(image.affine, expected):
        raise ValueError(f"{path.name}: not the 1 mm template of shape (197, 233, 189) as uint8 that was expected")
    return volume
