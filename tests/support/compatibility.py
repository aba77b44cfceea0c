"""Every codec with every data type in every layout, beside other implementations.

``python -m tools.compatibility_page docs/measurements/compatibility.md`` runs all of it and writes the page.

Each array is written by zarrdock and read by itself and by each peer; then each peer writes the same values into a copy
of the metadata, and zarrdock reads them. Peers are imported only here, and only those that are installed take part.
"""

from __future__ import annotations

import json
import shutil
import tempfile
import warnings
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Final, Literal, TypeAlias

import numpy as np

import zarrdock
from support.compatibility_cases import CHUNK, SHAPE, UNWRITTEN, Case, is_small_number, values
from zarrdock.errors import ZarrdockError

__all__ = ["PEERS", "Result", "installed", "run"]

AnyArray: TypeAlias = "np.ndarray[Any, np.dtype[Any]]"
#: "good"; "refused", with an error; "other": without one, other values.
Outcome: TypeAlias = Literal["good", "refused", "other"]


@dataclass(slots=True)
class Result:
    """Result of a case.

    Attributes:
        ours: of zarrdock alone; "refused" if the parts don't go together.
        reads, writes: of each peer that can be asked: its reading of our array, and our reading of its array.
        notes: the errors: peer and "reads" or "writes", to the message.
    """

    case: Case
    ours: Outcome = "refused"
    reads: dict[str, Outcome] = field(default_factory=dict)
    writes: dict[str, Outcome] = field(default_factory=dict)
    notes: dict[tuple[str, str], str] = field(default_factory=dict)


# -- the peers --------------------------------------------------------------------------------------------------------


class ZarrPython:
    """zarr-python, both formats."""

    def asked(self, case: Case) -> bool:
        return True

    def read(self, path: Path, case: Case) -> Any:
        import zarr

        return zarr.open_array(path, mode="r")[...]

    def write(self, path: Path, case: Case, data: AnyArray) -> None:
        import zarr

        array = zarr.open_array(path, mode="r+")
        for part in _parts():
            array[part] = data[part]


class TensorStore:
    """TensorStore, both formats."""

    def asked(self, case: Case) -> bool:
        return True

    def _open(self, path: Path, case: Case) -> Any:
        import tensorstore

        driver = "zarr" if case.layout == "v2" else "zarr3"
        spec = {"driver": driver, "kvstore": {"driver": "file", "path": str(path)}}
        return tensorstore.open(spec, open=True).result()

    def read(self, path: Path, case: Case) -> Any:
        found = self._open(path, case).read().result()
        if found.ndim == len(SHAPE) + 1:  # raw bytes and texts of fixed length are an axis of single bytes
            if not found.dtype.itemsize:
                raise ValueError("raw bytes come as numpy's V0, without content")
            return np.frombuffer(found.tobytes(), zarrdock.open_array(path).dtype).reshape(SHAPE)
        return found

    def write(self, path: Path, case: Case, data: AnyArray) -> None:
        store = self._open(path, case)
        for part in _parts():
            piece = np.ascontiguousarray(data[part])
            if store.ndim == len(SHAPE) + 1:
                single = "S1" if data.dtype.kind == "S" else "V1"
                piece = piece.reshape(-1).view(single).reshape(*piece.shape, data.dtype.itemsize)
            store[part].write(piece).result()


class Numcodecs:
    """numcodecs alone, chunk by chunk, as Zarr v2 says."""

    def asked(self, case: Case) -> bool:
        return case.layout == "v2"

    def _codecs(self, document: dict[str, Any]) -> list[Any]:
        import numcodecs

        configurations = [*(document["filters"] or ()), *([document["compressor"]] if document["compressor"] else ())]
        return [numcodecs.get_codec(dict(configuration)) for configuration in configurations]

    def read(self, path: Path, case: Case) -> Any:
        document = json.loads((path / ".zarray").read_text())
        dtype, codecs = _dtype_of(document["dtype"]), self._codecs(document)
        out: Any = None
        for i in range(-(-SHAPE[0] // CHUNK[0])):
            for j in range(-(-SHAPE[1] // CHUNK[1])):
                key = path / f"{i}.{j}"
                if not key.exists():
                    continue
                data: Any = key.read_bytes()
                for codec in reversed(codecs):
                    data = codec.decode(data)
                if isinstance(data, np.ndarray) and data.dtype == object:
                    chunk = data.reshape(CHUNK, order=document["order"])
                else:
                    flat = np.frombuffer(np.ascontiguousarray(data).tobytes(), dtype)
                    chunk = flat.reshape(CHUNK, order=document["order"])
                if out is None:
                    out = np.zeros(SHAPE, chunk.dtype)
                region = np.s_[i * 2 : i * 2 + 2, j * 3 : j * 3 + 3]
                out[region] = chunk[: SHAPE[0] - i * 2, : SHAPE[1] - j * 3]
        return out

    def write(self, path: Path, case: Case, data: AnyArray) -> None:
        document = json.loads((path / ".zarray").read_text())
        codecs = self._codecs(document)
        if data.dtype.kind == "T":
            data = data.astype(object)
        padded = np.zeros((6, 6), data.dtype) if not data.dtype.hasobject else np.full((6, 6), data[0, 0], object)
        padded[: SHAPE[0], : SHAPE[1]] = data
        for i in range(3):
            for j in range(2):
                if (i, j) == (1, 1):
                    continue
                chunk: Any = np.array(padded[i * 2 : i * 2 + 2, j * 3 : j * 3 + 3], order=document["order"])
                for codec in codecs:
                    chunk = codec.encode(chunk)
                raw = chunk if isinstance(chunk, (bytes, bytearray)) else np.asarray(chunk).tobytes(order="A")
                (path / f"{i}.{j}").write_bytes(raw)


#: Name of the distribution to how it is asked.
PEERS: Final[dict[str, Any]] = {"zarr": ZarrPython(), "tensorstore": TensorStore(), "numcodecs": Numcodecs()}


def _dtype_of(form: Any) -> np.dtype[Any]:
    if isinstance(form, str):
        return np.dtype(form)
    return np.dtype([(name, _dtype_of(kind), *map(tuple, shape)) for name, kind, *shape in form])


def _parts() -> Iterable[tuple[slice, slice]]:
    """All but the chunk that is never written."""
    return np.s_[0:2, :], np.s_[2:4, 0:3], np.s_[4:5, :]


def installed() -> dict[str, str]:
    """The peers that are here, and their versions."""
    found = {}
    for name in PEERS:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


# -- a run ------------------------------------------------------------------------------------------------------------


def run(chosen: Iterable[Case], peers: Iterable[str], *, told: Callable[[int], None] | None = None) -> list[Result]:
    """Try cases, each in a folder of its own that is deleted again."""
    results = []
    with tempfile.TemporaryDirectory(prefix="zarrdock-") as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what peers say of young data types is no news here
        for number, case in enumerate(chosen):
            if told is not None:
                told(number)
            results.append(_try(case, Path(folder) / str(number), peers))
            shutil.rmtree(Path(folder) / str(number), ignore_errors=True)
    return results


def _try(case: Case, folder: Path, peers: Iterable[str]) -> Result:
    result = Result(case)
    path = folder / "ours"
    try:
        array = zarrdock.create_array(path, shape=SHAPE, dtype=case.dtype, chunks=CHUNK, **case.arguments)
        data = values(array.dtype, is_small=case.is_small, as_bytes=case.family == "bytes")
        for part in _parts():
            array[part] = data[part]
    except Exception as error:
        result.notes["zarrdock", "writes"] = _line(error)
        result.ours = "refused" if isinstance(error, ZarrdockError) else "other"
        return result
    expected = data.copy()
    expected[UNWRITTEN] = np.full((2, 3), array.fill_value, array.dtype)
    try:
        found = zarrdock.open_array(path)[...]
        if case.is_small and (array.dtype.kind not in "iufc" or is_small_number(array.dtype)):
            expected = found  # what codecs made for numbers make of others: all should agree on it
        result.ours = "good" if _same(found, expected) else "other"
    except Exception as error:
        result.notes["zarrdock", "reads"] = _line(error)
        result.ours = "other"
    for name in peers:
        peer = PEERS[name]
        if not peer.asked(case):
            continue
        whole = name != "numcodecs"  # which knows of no fill value
        wanted = expected if whole else _without_gap(expected)
        try:
            found = peer.read(path, case)
            found = found if whole else _without_gap(found)
            result.reads[name] = "good" if _same(found, wanted) else "other"
        except Exception as error:
            result.reads[name] = "refused"
            result.notes[name, "reads"] = _line(error)
        theirs = folder / name
        for document in ("zarr.json", ".zarray", ".zattrs"):
            if (path / document).exists():
                theirs.mkdir(parents=True, exist_ok=True)
                shutil.copy(path / document, theirs / document)
        try:
            peer.write(theirs, case, data)
        except Exception as error:
            result.writes[name] = "refused"
            result.notes[name, "writes"] = _line(error)
            continue
        try:
            result.writes[name] = "good" if _same(zarrdock.open_array(theirs)[...], expected) else "other"
        except ZarrdockError as error:
            result.writes[name] = "other"
            result.notes[name, "writes"] = f"zarrdock: {_line(error)}"
    return result


def _without_gap(array: Any) -> Any:
    filled = array.copy()
    filled[UNWRITTEN] = filled[0, 0]
    return filled


def _same(found: Any, expected: AnyArray) -> bool:
    """Bit by bit, whatever the byte order."""
    found = np.asarray(found)
    if found.shape != expected.shape:
        return False
    if expected.dtype.hasobject:
        return bool(found.tolist() == expected.tolist())
    native = expected.dtype.newbyteorder("=")
    if found.dtype.newbyteorder("=") != native:
        if found.dtype.hasobject or found.dtype.kind == "T" or found.dtype.itemsize != native.itemsize:
            return bool(native.kind in "US" and found.tolist() == expected.tolist())
        if found.dtype.kind != native.kind:
            return False
    return bool(found.astype(found.dtype.newbyteorder("=")).tobytes() == expected.astype(native).tobytes())


def _line(error: BaseException) -> str:
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text}"
