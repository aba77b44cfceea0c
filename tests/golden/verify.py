"""Read the archives back with a peer: ``python verify.py zarr|tensorstore [ZIP ...]``.

Every node of each manifest is read with the peer that is installed, and compared by checksum; what does not agree is
printed. Each batch runs in a child process, since a peer may abort where others raise.
"""

from __future__ import annotations

import ctypes
import hashlib
import json
import subprocess
import sys
import tempfile
import warnings
import zipfile
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
from archive import digest

HERE = Path(__file__).parent
ZIPS = ("zarr2.zip", "zarr3.zip", "tensorstore.zip")


def check_sums() -> None:
    """SHA256SUMS against the archives."""
    for line in (HERE / "SHA256SUMS").read_text().splitlines():
        expected, name = line.split()
        if hashlib.sha256((HERE / name).read_bytes()).hexdigest() != expected:
            raise SystemExit(f"{name} is not the file that SHA256SUMS speaks of")


def read_zarr(root: Path, entry: dict[str, Any]) -> str | None:
    """None where zarr-python finds what the manifest says, else what is wrong."""
    import zarr

    if zarr.__version__.startswith("2.") and entry["format"] == 3:
        return "skipped: format 3"
    where = str(root / entry["path"])
    if entry["node"] == "group":
        group = zarr.open_group(where, mode="r")
        if "consolidated" in entry["features"] and Path(where).name == "consolidated":
            group = zarr.open_consolidated(where)
        members = {name: "group" if isinstance(node, zarr.Group) else "array" for name, node in _members(group)}
        return _differs(members, entry["members"]) or _differs(dict(group.attrs), entry["attributes"])
    if "rectilinear" in entry["features"]:
        zarr.config.set({"array.rectilinear_chunks": True})
    array = zarr.open_array(where, mode="r")
    data = np.asarray(array[...])
    if data.dtype.kind == "T":  # variable-width text comes back as numpy's StringDType
        data = data.astype(object)
    return _compare(data, entry) or _differs(dict(array.attrs), entry["attributes"])


def _members(group: Any) -> Any:
    import zarr

    return group.members() if hasattr(group, "members") and zarr.__version__[0] != "2" else group.items()


def read_tensorstore(root: Path, entry: dict[str, Any]) -> str | None:
    """None where TensorStore finds what the manifest says, else what is wrong. It has no groups."""
    import tensorstore as ts

    if entry["node"] == "group":
        return "skipped: no groups"
    spec: dict[str, Any] = {"driver": "zarr3" if entry["format"] == 3 else "zarr"}
    spec["kvstore"] = {"driver": "file", "path": f"{root / entry['path']}/"}
    if isinstance(entry["dtype"], list):
        data = np.empty(entry["shape"], dtype_of(entry["dtype"]))
        for name in data.dtype.names or ():
            column = ts.open(spec | {"field": name}).result().read().result()
            data[name] = _join(column, data.dtype[name]) if column.ndim > data.ndim else column
        return _compare(data, entry)
    array = ts.open(spec).result()
    data = array.read().result()
    want = np.dtype(entry["dtype"])
    if array.ndim == len(entry["shape"]) + 1:  # raw bytes and |S come with an axis of their own
        data = _join(data, want)
    elif "bits" in entry["features"]:  # a type numpy does not have: compare the bits
        data = np.ascontiguousarray(data).view(want)
    return _compare(data, entry)


def dtype_of(description: Any) -> np.dtype:
    """A numpy dtype from the manifest, where JSON has made lists of tuples."""
    if isinstance(description, str):
        return np.dtype(description)
    return np.dtype([(name, dtype_of(kind), *map(tuple, shape)) for name, kind, *shape in description])


def _join(parts: np.ndarray, dtype: np.dtype) -> np.ndarray:
    """Bytes along the last axis to one element of ``dtype``.

    TensorStore gives such bytes an item size of 0, though in memory they are 1 each: hence the pointer.
    """
    if not parts.size:
        return np.empty(parts.shape[:-1], dtype)
    if parts.strides != np.empty(parts.shape, "u1").strides:
        raise TypeError(f"the bytes are not contiguous: {parts.strides}")
    return np.frombuffer(ctypes.string_at(parts.ctypes.data, parts.size), dtype).reshape(parts.shape[:-1])


def _compare(data: np.ndarray, entry: dict[str, Any]) -> str | None:
    if list(data.shape) != entry["shape"]:
        return f"shape {data.shape}"
    want = dtype_of(entry["dtype"])
    if data.dtype.newbyteorder("<") != want:
        return f"dtype {data.dtype}"
    return None if digest(data) == entry["sha256"] else f"values differ: {data.ravel()[:12]!r}"


def _differs(found: Any, expected: Any) -> str | None:
    return None if found == expected else f"found {found!r}, expected {expected!r}"


def child(reader: str, root: Path, start: int) -> None:
    """Read the manifest from entry ``start`` on, a JSON line for each."""
    warnings.simplefilter("ignore")
    read = {"zarr": read_zarr, "tensorstore": read_tensorstore}[reader]
    for number, entry in enumerate(json.loads((root / "manifest.json").read_text())):
        if number < start:
            continue
        try:
            wrong = read(root, entry)
        except Exception as error:  # whatever a peer raises is the finding
            # TensorStore puts the whole specification behind the message.
            wrong = f"{type(error).__name__}: {str(error).split(' [tensorstore_spec')[0]}"
        print(json.dumps([number, wrong]), flush=True)


def shorten(message: str) -> str:
    """One line; of nested causes the last."""
    return " ".join(message.split()).rsplit("Error parsing object member", 1)[-1][-300:]


def verify(reader: str, target: Path) -> int:
    """Print what ``reader`` disagrees with in ``target``; the number of such nodes."""
    with tempfile.TemporaryDirectory() as folder, zipfile.ZipFile(target) as archive:
        archive.extractall(folder)
        manifest = json.loads(archive.read("manifest.json"))
        results: dict[int, str | None] = {}
        while len(results) < len(manifest):
            command = [sys.executable, __file__, "--child", reader, folder, str(len(results))]
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            results |= dict(json.loads(line) for line in done.stdout.splitlines() if line.startswith("["))
            if len(results) < len(manifest):
                last = ([line for line in done.stderr.splitlines() if line] or [""])[0]
                results[len(results)] = f"the process ended with {done.returncode}: {last[:200]}"
    skipped = Counter(wrong for wrong in results.values() if wrong and wrong.startswith("skipped"))
    wrong = {manifest[n]["path"]: w for n, w in results.items() if w and not w.startswith("skipped")}
    agree = len(manifest) - len(wrong) - skipped.total()
    print(f"{target.name} read with {reader}: {agree} agree, {len(wrong)} not, {dict(skipped)}")
    for path, message in wrong.items():
        print(f"  {path}: {shorten(message)}")
    return len(wrong)


def main(arguments: list[str]) -> None:
    if arguments[:1] == ["--child"]:
        child(arguments[1], Path(arguments[2]), int(arguments[3]))
        return
    if arguments[:1] not in (["zarr"], ["tensorstore"]):
        raise SystemExit("usage: python verify.py zarr|tensorstore [ZIP ...]")
    if len(arguments) == 1:
        check_sums()
    targets = [Path(name) for name in arguments[1:]] or [HERE / name for name in ZIPS]
    wrong = sum(verify(arguments[0], target) for target in targets)
    print(f"{wrong} disagreements")


if __name__ == "__main__":
    main(sys.argv[1:])
