"""Write the corpus: documents that break the specification, as the programs that write them do, one file each.

    python tests/documents/make.py          # corpus/*.json
    python tests/documents/make.py --peers  # and what zarr-python and TensorStore do with each: peers.json, README.md

A file of the corpus holds the keys of a small hierarchy (text, or base64 of what is none), which node to read, and the
values that it holds. The documents are written after descriptions of what those programs write; nothing of theirs is
copied.
"""

from __future__ import annotations

import base64
import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

HERE = Path(__file__).parent
LEFT_OUT: Any = ...


@dataclass(frozen=True)
class Case:
    """A hierarchy of one array.

    Attributes:
        name: of the file. who: writes such documents. what: is unusual about them.
        keys: of the store, to JSON or bytes. values: of the array, as lists.
        path: of the array. pointers: places that are read leniently, with their documents; none where the document is
            unusual, but right.
        dims, attributes: of the array, where they are what is unusual.
    """

    name: str
    who: str
    what: str
    keys: dict[str, Any]
    values: Any
    pointers: tuple[str, ...] = ()
    path: str = ""
    dims: tuple[str | None, ...] | None = None
    attributes: dict[str, Any] | None = None
    warns: str = ""

    def stored(self) -> dict[str, bytes]:
        """Keys and values of the store."""
        return {key: v if isinstance(v, bytes) else json.dumps(v).encode() for key, v in self.keys.items()}

    def to_json(self) -> dict[str, Any]:
        """The file of the corpus."""
        document: dict[str, Any] = {"who": self.who, "what": self.what, "path": self.path, "values": self.values}
        document["read_leniently"] = list(self.pointers)
        for name in ("dims", "attributes", "warns"):
            if getattr(self, name):
                document[name] = getattr(self, name)
        return document | {"keys": {key: _text(value) for key, value in self.stored().items()}}


def _text(value: bytes) -> str:
    if value.isascii() and value[:1] in (b"{", b"[", b"n", b"<"):
        return value.decode()
    return "base64:" + base64.b64encode(value).decode()


V2: dict[str, Any] = {
    "zarr_format": 2,
    "shape": [4],
    "chunks": [2],
    "dtype": "<i4",
    "compressor": None,
    "fill_value": 0,
    "order": "C",
    "filters": None,
}
V3: dict[str, Any] = {
    "zarr_format": 3,
    "node_type": "array",
    "shape": [4],
    "data_type": "int32",
    "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": [2]}},
    "chunk_key_encoding": {"name": "default", "configuration": {"separator": "/"}},
    "fill_value": 0,
    "codecs": [{"name": "bytes", "configuration": {"endian": "little"}}],
    "attributes": {},
}
BYTES = V3["codecs"][0]
ONE_BYTE = [{"name": "bytes"}]


def changed(document: dict[str, Any], **changes: Any) -> dict[str, Any]:
    """The document with other members; LEFT_OUT takes one out."""
    return {name: value for name, value in (document | changes).items() if value is not LEFT_OUT}


def data(values: Any, dtype: str = "<i4") -> bytes:
    return np.array(values, dtype).tobytes()


def blosc(values: Any, shuffle: int, dtype: str = "<i4") -> bytes:
    from numcodecs import Blosc

    return bytes(Blosc("lz4", 5, shuffle).encode(np.array(values, dtype)))


# Always the first chunk, so that the fill value counts.
HALF = data([7, 8])
BLOSC = {"cname": "lz4", "clevel": 5, "blocksize": 0}
GROUP = {"zarr_format": 2}
LATIN = '{"name": "caf\u00e9"}'.encode("latin-1")


def v2_fill(name: str, who: str, dtype: str, fill: Any, values: list[Any], *, lenient: bool = True) -> Case:
    found = json.dumps(fill)
    return Case(
        f"v2-fill-{name}",
        who,
        f"fill value {found} of {dtype}" if isinstance(dtype, str) else f"fill value {found} of a structure",
        {".zarray": changed(V2, dtype=dtype, fill_value=fill)},
        values,
        (".zarray#/fill_value",) if lenient else (),
    )


def v3_fill(name: str, who: str, data_type: str, fill: Any, values: list[Any]) -> Case:
    codecs = ONE_BYTE if data_type in ("bool", "uint8") else [BYTES]
    document = changed(V3, data_type=data_type, fill_value=fill, codecs=codecs)
    what = f"fill value {json.dumps(fill)} of {data_type}"
    return Case(f"v3-fill-{name}", who, what, {"zarr.json": document}, values, ("zarr.json#/fill_value",))


def v2(name: str, who: str, what: str, pointer: str, **changes: Any) -> Case:
    keys = {".zarray": changed(V2, **changes), "0": HALF}
    return Case(f"v2-{name}", who, what, keys, [7, 8, 0, 0], (f".zarray{pointer}",))


def v3(name: str, who: str, what: str, pointer: str, chunk: bytes = HALF, **changes: Any) -> Case:
    keys = {"zarr.json": changed(V3, **changes), "c/0": chunk}
    return Case(f"v3-{name}", who, what, keys, [7, 8, 0, 0], (f"zarr.json{pointer}",))


def zmetadata(name: str, what: str, document: Any) -> Case:
    keys = {".zgroup": GROUP, "a/.zarray": V2, "a/0": HALF, ".zmetadata": document}
    return Case(f"v2-zmetadata-{name}", "writers that died half way, servers", what, keys, [7, 8, 0, 0], path="a")


CASES = [
    v2_fill("n5", "n5-zarr up to 1.3.1", "|u1", "0", [0] * 4),
    v2_fill("idr", "images of the IDR (v0.1)", ">u2", "0", [0] * 4),
    v2_fill("text-float", "n5-zarr up to 1.3.1", "<f8", "1.5", [1.5] * 4),
    v2_fill("text-exponent", "writers that print a float", "<i4", "1e3", [1000] * 4),
    v2_fill("text-nan", "writers that print a float", "<f4", "nan", ["NaN"] * 4),
    v2_fill("bool-number", "zarr-python 2, early zarrita", "|b1", 0, [False] * 4, lenient=False),
    v2_fill("integer-float", "zarr-python 2, JavaScript", "<i4", 7.0, [7] * 4, lenient=False),
    v2_fill("complex-number", "zarr-python 2", "<c8", 0, [[0, 0]] * 4, lenient=False),
    Case(
        "v2-fill-of-text",
        "zarr-python 2: its default, for text too",
        "fill value 0 of |O with the filter vlen-utf8",
        {".zarray": changed(V2, dtype="|O", filters=[{"id": "vlen-utf8"}])},
        ["", "", "", ""],
    ),
    Case(
        "v2-fill-of-structure",
        "zarr-python 2: its default, for structures too",
        "fill value 0 of a structure",
        {".zarray": changed(V2, dtype=[["a", "<i4"], ["b", "|u1"]])},
        [[0, 0]] * 4,
    ),
    Case(
        "v2-structure-padded",
        "zarr-python 2: structures that numpy aligned or places at offsets",
        'fields named "" for padding',
        {
            ".zarray": changed(
                V2,
                dtype=[["a", "|i1"], ["", "|V3"], ["b", "<i4"]],
                fill_value=base64.b64encode(b"\x01\xff\xfe\xfd" + data([70000])).decode(),
            ),
            "0": b"\x02\0\0\0" + data([7]) + b"\x03\0\0\0" + data([8]),
        },
        [[2, "AAAA", 7], [3, "AAAA", 8], [1, "//79", 70000], [1, "//79", 70000]],
    ),
    Case(
        "v2-structure-big",
        "zarr-python 2: fields of both byte orders",
        "a structure with fields of both byte orders, and a fill value",
        {
            ".zarray": changed(
                V2,
                dtype=[["a", ">i4"], ["b", "<u2"]],
                fill_value=base64.b64encode(data([70000], ">i4") + data([3], "<u2")).decode(),
            ),
            "0": data([7], ">i4") + data([1], "<u2") + data([8], ">i4") + data([2], "<u2"),
        },
        [[7, 1], [8, 2], [70000, 3], [70000, 3]],
    ),
    v2("no-fill-value", "older nccopy", "no fill_value", "", fill_value=LEFT_OUT),
    v2("no-order", "writers by hand", "no order", "", order=LEFT_OUT),
    v2("no-compressor", "writers by hand", "no compressor", "", compressor=LEFT_OUT),
    v2("no-filters", "writers by hand", "no filters", "", filters=LEFT_OUT),
    v2("scalars", "R (jsonlite)", "shape and chunks as numbers", "#/shape", shape=4, chunks=2),
    v2("filters-object", "R (jsonlite)", "filters {} for none", "#/filters", filters={}),
    v2("floats", "JSON libraries with one type of number", "shape [4.0]", "#/shape", shape=[4.0], chunks=[2.0]),
    v2("format-float", "JSON libraries with one type of number", "zarr_format 2.0", "#/zarr_format", zarr_format=2.0),
    *(
        Case(
            f"v2-blosc-{text}",
            "configurations by hand",
            f"blosc with shuffle {text!r}",
            {".zarray": changed(V2, compressor={"id": "blosc", "shuffle": text, **BLOSC}), "0": blosc([7, 8], number)},
            [7, 8, 0, 0],
            (".zarray#/compressor/shuffle",),
        )
        for number, text in enumerate(("noshuffle", "shuffle", "bitshuffle"))
    ),
    Case(
        "v2-u1-big",
        "OMERO, JZarr",
        "dtype >u1: a byte order that says nothing",
        {".zarray": changed(V2, dtype=">u1"), "0": data([7, 8], "u1")},
        [7, 8, 0, 0],
    ),
    Case(
        "v2-u1-name",
        "writers by hand",
        "dtype uint8",
        {".zarray": changed(V2, dtype="uint8"), "0": data([7, 8], "u1")},
        [7, 8, 0, 0],
        (".zarray#/dtype",),
    ),
    Case(
        "v2-attributes-latin1",
        "GDAL of the day",
        ".zattrs in Latin-1",
        {".zarray": V2, "0": HALF, ".zattrs": LATIN},
        [7, 8, 0, 0],
        (".zattrs",),
        attributes={"name": "café"},
    ),
    Case(
        "v2-attributes-twice",
        "programs that join texts",
        "a member of .zattrs twice",
        {".zarray": V2, "0": HALF, ".zattrs": b'{"units": "m", "units": "km"}'},
        [7, 8, 0, 0],
        (".zattrs",),
        attributes={"units": "km"},
    ),
    Case(
        "v2-attributes-list",
        "R (jsonlite): an empty list",
        ".zattrs []",
        {".zarray": V2, "0": HALF, ".zattrs": []},
        [7, 8, 0, 0],
        (".zattrs",),
    ),
    Case(
        "v2-nczarr-old",
        "the netCDF library up to 4.8",
        "_NCZARR_ARRAY in .zarray, no _ARRAY_DIMENSIONS",
        {".zarray": changed(V2, _NCZARR_ARRAY={"dimrefs": ["/time"], "storage": "chunked"}), "0": HALF},
        [7, 8, 0, 0],
        dims=("time",),
    ),
    Case(
        "v2-nczarr-new",
        "the netCDF library from 4.9",
        "_nczarr_array in .zattrs, no _ARRAY_DIMENSIONS",
        {".zarray": V2, "0": HALF, ".zattrs": {"_nczarr_array": {"dimension_references": ["/g/time"]}}},
        [7, 8, 0, 0],
        dims=("time",),
    ),
    Case(
        "v2-separator",
        "copies of folders of which the document is older",
        "chunks at 0/0, no dimension_separator: read as fill value, with a warning",
        {".zarray": changed(V2, shape=[4, 1], chunks=[2, 1]), "0/0": HALF},
        [[0], [0], [0], [0]],
        warns="separator '/'",
    ),
    zmetadata("no-json", "a page of HTML as .zmetadata", b"<html></html>"),
    zmetadata("no-root", ".zmetadata without the root", {"zarr_consolidated_format": 1, "metadata": {"a/.zarray": V2}}),
    zmetadata("no-format", ".zmetadata without its format", {"metadata": {".zgroup": GROUP, "a/.zarray": V2}}),
    zmetadata(
        "broken-member",
        "a wrong member in .zmetadata",
        {"zarr_consolidated_format": 1, "metadata": {".zgroup": GROUP, "a/.zarray": {"zarr_format": 2}}},
    ),
    v3_fill("bool-number", "early zarrita, early zarr-python 3", "bool", 0, [False] * 4),
    v3_fill("bool-one", "early zarrita, early zarr-python 3", "bool", 1, [True] * 4),
    v3_fill("integer-float", "early zarr-python 3, JavaScript", "uint8", 0.0, [0] * 4),
    v3_fill("nan", "writers that print a float", "float32", "nan", ["NaN"] * 4),
    v3_fill("text", "n5-zarr up to 1.3.1", "int32", "7", [7] * 4),
    v3("shape-number", "R (jsonlite)", "shape 4", "#/shape", shape=4),
    v3(
        "chunk-shape-floats",
        "JSON libraries with one type of number",
        "chunk_shape [2.0]",
        "#/chunk_grid/configuration/chunk_shape",
        chunk_grid={"name": "regular", "configuration": {"chunk_shape": [2.0]}},
    ),
    v3("attributes-null", "serialisers of optional members", "attributes null", "#/attributes", attributes=None),
    v3(
        "configuration-null",
        "serialisers of optional members",
        "configuration null of chunk_key_encoding",
        "#/chunk_key_encoding/configuration",
        chunk_key_encoding={"name": "default", "configuration": None},
    ),
    v3(
        "blosc-no-typesize",
        "several v3 writers",
        "blosc without typesize",
        "#/codecs/1/configuration",
        blosc([7, 8], 1),
        codecs=[BYTES, {"name": "blosc", "configuration": {**BLOSC, "shuffle": "shuffle"}}],
    ),
    v3(
        "blosc-number",
        "configurations taken over from v2",
        "blosc with shuffle 1",
        "#/codecs/1/configuration/shuffle",
        blosc([7, 8], 1),
        codecs=[BYTES, {"name": "blosc", "configuration": {**BLOSC, "shuffle": 1, "typesize": 4}}],
    ),
    Case(
        "v3-attributes-latin1",
        "programs that join texts",
        "attributes in Latin-1",
        {"zarr.json": json.dumps(V3).encode().replace(b'"attributes": {}', b'"attributes": ' + LATIN), "c/0": HALF},
        [7, 8, 0, 0],
        ("zarr.json#/attributes",),
        attributes={"name": "café"},
    ),
    Case(
        "v3-dimension-names-null",
        "writers without names",
        "dimension_names null",
        {"zarr.json": changed(V3, dimension_names=None), "c/0": HALF},
        [7, 8, 0, 0],
    ),
    Case(
        "v3-group-attributes-null",
        "serialisers of optional members",
        "attributes null of the group above",
        {"zarr.json": {"zarr_format": 3, "node_type": "group", "attributes": None}, "a/zarr.json": V3, "a/c/0": HALF},
        [7, 8, 0, 0],
        path="a",
    ),
    Case(
        "v3-consolidated-broken",
        "writers that died half way",
        "consolidated_metadata without its nodes",
        {
            "zarr.json": {"zarr_format": 3, "node_type": "group", "consolidated_metadata": {"kind": "inline"}},
            "a/zarr.json": V3,
            "a/c/0": HALF,
        },
        [7, 8, 0, 0],
        path="a",
    ),
]


def write_corpus(folder: Path) -> None:
    """One file a case."""
    folder.mkdir(exist_ok=True)
    for case in CASES:
        text = json.dumps(case.to_json(), indent=2, ensure_ascii=False, allow_nan=False)
        (folder / f"{case.name}.json").write_text(text + "\n", encoding="utf-8")


def main() -> None:
    write_corpus(HERE / "corpus")
    if "--peers" in sys.argv:
        sys.path.insert(0, str(HERE))
        import peers

        peers.record(HERE)


if __name__ == "__main__":
    main()
