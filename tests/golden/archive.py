"""What the three writers share: seeded values, the manifest and a zip that comes out the same every time."""

from __future__ import annotations

import base64
import gzip
import hashlib
import io
import json
import shutil
import sys
import tempfile
import zipfile
import zlib
from collections.abc import Iterable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np

MAX_DATA_BYTES = 4096  # of one expected array
EPOCH = (1980, 1, 1, 0, 0, 0)  # the oldest time a zip can hold


def values(seed: str, shape: tuple[int, ...], dtype: Any, *, special: bool = False) -> np.ndarray:
    """Values of any fixed-size dtype drawn from a small palette: full range, and still compressible.

    ``special`` adds NaN, both infinities, negative zero and a subnormal to the palette of a floating dtype.
    Seeded by ``seed`` alone, so that a new case changes no other.
    """
    rng = np.random.default_rng(zlib.crc32(seed.encode()))
    dt = np.dtype(dtype).newbyteorder("<")
    if dt.kind == "b":
        return rng.integers(0, 2, shape).astype(dt)
    if dt.kind in "fc":
        real = np.dtype(f"<f{dt.itemsize // (2 if dt.kind == 'c' else 1)}")
        info = np.finfo(real)
        extra = [np.nan, np.inf, -np.inf, -0.0, float(info.smallest_subnormal), float(info.max)] if special else []
        palette = np.concatenate([rng.normal(size=11).astype(real), np.array(extra, dtype=real)])
        if dt.kind == "c":
            pairs = np.stack([rng.choice(palette, len(palette) * 2), rng.choice(palette, len(palette) * 2)], axis=-1)
            palette = np.ascontiguousarray(pairs).view(dt)[:, 0]
    else:
        palette = np.frombuffer(rng.bytes(13 * dt.itemsize), dt)
        if dt.kind in "iu":
            palette = np.concatenate([palette, np.array([np.iinfo(dt).min, np.iinfo(dt).max], dt)])
    chosen = np.empty(shape, palette.dtype)
    chosen[...] = palette[rng.integers(0, len(palette), shape)]
    return chosen


def ramp(shape: tuple[int, ...], dtype: Any, step: int = 1) -> np.ndarray:
    """0, 1, 2, ... in C order: the array to use where an eye must be able to follow an axis."""
    return (np.arange(int(np.prod(shape))) * step).reshape(shape).astype(dtype)


def partial(full: np.ndarray, fill: Any, regions: Iterable[tuple[slice, ...]]) -> np.ndarray:
    """``full`` inside ``regions`` and ``fill`` elsewhere."""
    out = np.empty_like(full)
    out[...] = fill
    for region in regions:
        out[region] = full[region]
    return out


def little_endian_bytes(array: np.ndarray) -> bytes:
    """The C-contiguous bytes of ``array`` in little-endian order."""
    return np.asarray(array, order="C").astype(array.dtype.newbyteorder("<")).tobytes()


def canonical_json(array: np.ndarray) -> bytes:
    """A flat JSON list in C order: text as it is, bytes as base64, numbers as numbers. No spaces, UTF-8."""

    def plain(item: Any) -> Any:
        if isinstance(item, bytes):
            return base64.b64encode(item).decode()
        return item.item() if isinstance(item, np.generic) else item

    items = [plain(item) for item in array.ravel().tolist()]
    return json.dumps(items, ensure_ascii=False, separators=(",", ":")).encode()


def digest(array: np.ndarray) -> str:
    """The checksum of the manifest: of canonical JSON for an object array, else of the little-endian bytes."""
    payload = canonical_json(array) if array.dtype.kind == "O" else little_endian_bytes(array)
    return hashlib.sha256(payload).hexdigest()


def stop_the_clock() -> None:
    """Make the gzip module write no time into its headers, so that equal data gives equal bytes."""
    gzip.time = SimpleNamespace(time=lambda: 0.0)  # type: ignore[attr-defined]


class Archive:
    """A tree of hierarchies in the making. Expected values come from the script, never from reading back."""

    def __init__(self, name: str, writer: str) -> None:
        self.name = name
        self.writer = writer
        self.root = Path(tempfile.mkdtemp(prefix="golden-"))
        self.expected: dict[str, bytes] = {}
        self.manifest: list[dict[str, Any]] = []

    def _entry(
        self, path: str, node: str, zarr_format: int, features: Iterable[str], attributes: Any
    ) -> dict[str, Any]:
        if any(entry["path"] == path for entry in self.manifest):
            raise ValueError(f"{path} is there twice")
        entry = {
            "path": path,
            "node": node,
            "format": zarr_format,
            "zarr_format": zarr_format,
            "stage": "later" if path.startswith("later/") else "core",
            "writer": self.writer,
            "features": sorted(set(features)),
            "attributes": attributes or {},
        }
        self.manifest.append(entry)
        return entry

    def add_array(
        self,
        path: str,
        zarr_format: int,
        expected: np.ndarray,
        data_type: Any,
        features: Iterable[str],
        attributes: dict[str, Any] | None = None,
        dimension_names: list[str | None] | None = None,
    ) -> None:
        """Record the array at ``path``, which the peer has written below ``root``."""
        entry = self._entry(path, "array", zarr_format, features, attributes)
        little = np.asarray(expected, order="C").astype(expected.dtype.newbyteorder("<"))
        is_object = little.dtype.kind == "O"
        descr: Any = little.dtype.descr if little.dtype.names else little.dtype.str
        entry |= {
            "shape": list(little.shape),
            "dtype": descr,
            "data_type": data_type,
            "dimension_names": dimension_names,
            "sha256": digest(little),
            "checksum_of": "canonical-json" if is_object else "bytes",
            "expected": None,
        }
        if is_object:
            entry["expected"] = f"expected/{path}.json"
            self.expected[entry["expected"]] = canonical_json(little)
        elif little.nbytes <= MAX_DATA_BYTES:
            buffer = io.BytesIO()
            np.save(buffer, little, allow_pickle=False)
            entry["expected"] = f"expected/{path}.npy"
            self.expected[entry["expected"]] = buffer.getvalue()
        if little.nbytes > MAX_DATA_BYTES:
            raise ValueError(f"{path} has {little.nbytes} bytes; keep golden arrays at {MAX_DATA_BYTES} or less")

    def add_group(
        self,
        path: str,
        zarr_format: int,
        members: dict[str, str],
        features: Iterable[str] = (),
        attributes: dict[str, Any] | None = None,
    ) -> None:
        """Record the group at ``path``; ``members`` maps each direct child to ``"array"`` or ``"group"``."""
        self._entry(path, "group", zarr_format, features, attributes)["members"] = members

    def save(self, folder: Path) -> Path:
        """Write ``folder/NAME.zip``: stored, sorted, dateless, so that equal content gives equal bytes."""
        files = {p.relative_to(self.root).as_posix(): p.read_bytes() for p in self.root.rglob("*") if p.is_file()}
        files |= self.expected
        lines = ",\n".join(json.dumps(entry, ensure_ascii=False) for entry in self.manifest)
        files["manifest.json"] = f"[\n{lines}\n]\n".encode()
        folder.mkdir(parents=True, exist_ok=True)
        target = folder / f"{self.name}.zip"
        with zipfile.ZipFile(target, "w", zipfile.ZIP_STORED) as archive:
            for name in sorted(files):
                info = zipfile.ZipInfo(name, EPOCH)
                info.create_system = 3  # the same on every system
                info.external_attr = 0o644 << 16
                archive.writestr(info, files[name])
        shutil.rmtree(self.root)
        print(f"{target.name}: {len(self.manifest)} nodes, {len(files)} files, {target.stat().st_size} bytes")
        return target


def output_folder() -> Path:
    """The folder named on the command line."""
    if len(sys.argv) != 2:
        raise SystemExit(f"usage: python {Path(sys.argv[0]).name} OUTDIR")
    return Path(sys.argv[1])
