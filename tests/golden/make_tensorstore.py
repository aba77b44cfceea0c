"""Write tensorstore.zip with TensorStore: ``python make_tensorstore.py OUTDIR`` (versions in README.md)."""

from __future__ import annotations

import base64
import importlib.metadata
import json
from collections.abc import Iterable
from typing import Any

import numpy as np
import tensorstore as ts
from archive import Archive, output_folder, partial, ramp, values

OUT = Archive("tensorstore", f"TensorStore {importlib.metadata.version('tensorstore')}")
LITTLE: dict[str, Any] = {"name": "bytes", "configuration": {"endian": "little"}}
BIG: dict[str, Any] = {"name": "bytes", "configuration": {"endian": "big"}}
CRC: dict[str, Any] = {"name": "crc32c"}
ZERO = object()  # the fill value was not said: zero


def grid(chunks: tuple[int, ...]) -> dict[str, Any]:
    return {"name": "regular", "configuration": {"chunk_shape": chunks}}


def codec(name: str, **configuration: Any) -> dict[str, Any]:
    return {"name": name, "configuration": configuration}


def shards(
    inner: tuple[int, ...], codecs: list[Any] | None = None, index: list[Any] | None = None, **more: Any
) -> dict[str, Any]:
    codecs, index = codecs or [LITTLE], index or [LITTLE, CRC]
    return codec("sharding_indexed", chunk_shape=inner, codecs=codecs, index_codecs=index, **more)


def spec(path: str, driver: str, **more: Any) -> dict[str, Any]:
    return {"driver": driver, "kvstore": {"driver": "file", "path": f"{OUT.root / path}/"}, **more}


def store(array: Any, data: np.ndarray, only: Iterable[tuple[slice, ...]] | None) -> None:
    for region in [...] if only is None else only:
        array[region].write(data[region]).result()


def write(
    path: str,
    data: np.ndarray,
    chunks: tuple[int, ...],
    features: Iterable[str],
    *,
    data_type: str | None = None,
    only: Iterable[tuple[slice, ...]] | None = None,
    fill: Any = ZERO,
    expected: np.ndarray | None = None,
    keep_empty: bool = False,
    **metadata: Any,
) -> None:
    """Create a format 3 array; ``fill`` is a pair of the JSON and the value where the two differ."""
    name = data_type or data.dtype.name
    as_json, value = fill if isinstance(fill, tuple) else (fill, 0 if fill is ZERO else fill)
    members: dict[str, Any] = {"shape": data.shape, "data_type": name, "chunk_grid": grid(chunks), **metadata}
    if as_json is not ZERO:
        members["fill_value"] = as_json
    more = {"store_data_equal_to_fill_value": True} if keep_empty else {}
    array = ts.open(spec(path, "zarr3", metadata=members, **more), create=True).result()
    store(array, data, only)
    if expected is None:
        expected = data if only is None else partial(data, value, only)
    found = json.loads((OUT.root / path / "zarr.json").read_text())["data_type"]
    OUT.add_array(path, 3, expected, found, features, metadata.get("attributes"), metadata.get("dimension_names"))


def codecs() -> None:
    data = values("codecs", (9, 14), "<i4")
    chunk = (4, 6)
    write("v3/default", data, chunk, ["bytes"])
    write("v3/bytes_big", data, chunk, ["bytes", "big_endian"], codecs=[BIG])
    write("v3/bytes_big_complex64", values("bc", (7,), "<c8"), (3,), ["bytes", "big_endian"], codecs=[BIG])
    for level in (1, 6, 9):
        write(f"v3/gzip_level{level}", data, chunk, ["gzip"], codecs=[LITTLE, codec("gzip", level=level)])
    for level in (-5, 1, 3, 19):
        write(f"v3/zstd_level{level}", data, chunk, ["zstd"], codecs=[LITTLE, codec("zstd", level=level)])
    write(
        "v3/zstd_checksum",
        data,
        chunk,
        ["zstd", "zstd_checksum"],
        codecs=[LITTLE, codec("zstd", level=3, checksum=True)],
    )
    for cname in ("lz4", "lz4hc", "blosclz", "zstd", "zlib"):
        for shuffle in ("noshuffle", "shuffle", "bitshuffle"):
            blosc = codec("blosc", cname=cname, shuffle=shuffle, clevel=5)
            write(f"v3/blosc_{cname}_{shuffle}", data, chunk, ["blosc", cname, shuffle], codecs=[LITTLE, blosc])
    write("v3/crc32c", data, chunk, ["crc32c"], codecs=[LITTLE, CRC])
    write(
        "v3/long_chain",
        data,
        chunk,
        ["zstd", "gzip", "crc32c", "big_endian"],
        codecs=[BIG, codec("zstd"), CRC, codec("gzip", level=1), CRC],
    )
    cube = ramp((5, 6, 7), "<u2")
    for order in ((0, 2, 1), (1, 0, 2), (1, 2, 0), (2, 0, 1), (2, 1, 0)):
        name = "".join(map(str, order))
        write(f"v3/transpose_{name}", cube, (2, 3, 4), ["transpose"], codecs=[codec("transpose", order=order), LITTLE])
    write(
        "v3/transpose_F",
        data,
        chunk,
        ["transpose"],
        codecs=[codec("transpose", order="F"), BIG, codec("gzip", level=1)],
    )


def sharding() -> None:
    data = values("sharding", (19, 11), "<i2")
    shard, inner = (8, 8), (4, 2)
    # Not gzip: of a few bytes, TensorStore's deflate makes another stream (of the same content) from run to run.
    zs = [LITTLE, codec("zstd", level=3)]
    some = [np.s_[0:4, 2:4], np.s_[6:7, 5:6], np.s_[17:19, 9:11]]
    for where in ("start", "end"):
        base = ["sharding", f"index_{where}"]
        for suffix, index in {"": [LITTLE, CRC], "_nocrc": [LITTLE], "_bigindex": [BIG, CRC]}.items():
            kinds = (
                [*base, "zstd"]
                + (["index_crc32c"] if len(index) == 2 else [])
                + (["index_big_endian"] if suffix == "_bigindex" else [])
            )
            write(
                f"v3/sharding_{where}{suffix}",
                data,
                shard,
                kinds,
                codecs=[shards(inner, zs, index, index_location=where)],
            )
        write(f"v3/sharding_{where}_uncompressed", data, shard, base, codecs=[shards(inner, index_location=where)])
        write(
            f"v3/sharding_{where}_partial",
            data,
            shard,
            [*base, "missing_chunks"],
            codecs=[shards(inner, zs, index_location=where)],
            only=some,
            fill=-7,
        )
        nested = shards(
            (4, 4), [shards((2, 4), zs, index_location="end" if where == "start" else "start")], index_location=where
        )
        write(f"v3/sharding_nested_{where}", data, shard, [*base, "nested_sharding"], codecs=[nested])
        write(
            f"v3/sharding_nested_{where}_partial",
            data,
            shard,
            [*base, "nested_sharding", "missing_chunks"],
            codecs=[nested],
            only=some,
            fill=9,
        )
    end = ["sharding", "index_end"]
    for name, chain in {
        "zstd_crc32c": [*zs, CRC],
        "blosc": [LITTLE, codec("blosc", cname="lz4", shuffle="shuffle", clevel=5)],
        "crc32c": [BIG, CRC],
    }.items():
        write(f"v3/sharding_inner_{name}", data, shard, [*end, *name.split("_")], codecs=[shards(inner, chain)])
    flip = codec("transpose", order=(1, 0))
    write(
        "v3/sharding_transpose_inside",
        data,
        shard,
        [*end, "transpose", "transpose_inside_shard"],
        codecs=[shards(inner, [flip, *zs])],
    )
    before = [*end, "transpose", "transpose_before_sharding"]
    # Inner chunks divide the transposed chunk (6, 8), not the array's (8, 6): the two can't be confused.
    write("v3/sharding_transpose_outside", data, (8, 6), before, codecs=[flip, shards((2, 4), zs)])
    write(
        "v3/sharding_transpose_outside_partial",
        data,
        (8, 6),
        [*before, "missing_chunks"],
        codecs=[flip, shards((2, 4), zs)],
        only=[np.s_[9:12, 0:3]],
        fill=3,
    )
    both = shards((3, 2, 1), [codec("transpose", order=(2, 0, 1)), LITTLE])
    write(
        "v3/sharding_transpose_both",
        ramp((7, 5, 6), "<i4"),
        (4, 3, 2),
        [*before, "transpose_inside_shard"],
        codecs=[codec("transpose", order=(1, 2, 0)), both],
    )
    deep = shards((8, 8), [shards((4, 4), [shards((2, 2), zs)], index_location="start")])
    write("v3/sharding_nested_3_levels", data, (16, 16), [*end, "nested_sharding"], codecs=[deep])
    write("v3/sharding_1d", values("s1", (37,), "<f8"), (16,), end, codecs=[shards((4,), zs)])
    write(
        "v3/sharding_explicit_empty",
        np.zeros((16, 8), "<i2"),
        shard,
        [*end, "write_empty_chunks"],
        codecs=[shards(inner, zs)],
        keep_empty=True,
    )


def dtypes() -> None:
    names = "bool int8 int16 int32 int64 uint8 uint16 uint32 uint64 float16 float32 float64 complex64 complex128"
    for name in names.split():
        data = values(f"dtype {name}", (7, 5), name, special=True)
        write(f"v3/dtype_{name}", data, (3, 4), ["dtype"])
    for size, data_type in (
        (1, "r8"),
        (2, "r16"),
        (3, "r24"),
        (2, {"name": "raw_bytes", "configuration": {"length_bytes": 2}}),
    ):
        word = data_type if isinstance(data_type, str) else "raw_bytes2"
        path, data = f"v3/dtype_{word}", values(f"raw {size}", (7,), f"V{size}")
        fill = bytes(range(1, size + 1))
        # To create such an array with its shape given aborts the process: the metadata is ours.
        (OUT.root / path).mkdir(parents=True)
        metadata = {
            "zarr_format": 3,
            "node_type": "array",
            "shape": [7],
            "data_type": data_type,
            "chunk_grid": grid((3,)),
            "chunk_key_encoding": {"name": "default"},
            "codecs": [{"name": "bytes"}],
            "fill_value": base64.b64encode(fill).decode(),
        }
        (OUT.root / path / "zarr.json").write_text(json.dumps(metadata))
        array = ts.open(spec(path, "zarr3")).result()
        array[0:5].write(data[0:5].view("V1").reshape(5, size)).result()
        expected = partial(data, np.void(fill), [np.s_[0:5]])
        OUT.add_array(path, 3, expected, data_type, ["dtype", "raw", "fill_base64", "missing_chunks"], None)


def fill_values() -> None:
    first = [np.s_[0:3]]
    payload = {"float16": ("0x7e01", "<u2"), "float32": ("0x7fc00123", "<u4"), "float64": ("0xfff8000000000123", "<u8")}
    for name in ("float16", "float32", "float64"):
        dtype = np.dtype(name)
        text, bits = payload[name]
        # NaN is the one quiet NaN the specification names; numpy's own has the same bits.
        fills = [
            ("NaN", np.nan),
            ("Infinity", np.inf),
            ("-Infinity", -np.inf),
            (-0.0, -0.0),
            (0.1, 0.1),
            (text, np.array(int(text, 16), bits).view(dtype)),
        ]
        for number, fill in enumerate(fills):
            path = f"v3/fill_{name}_{number}"
            kinds = ["fill_value", "missing_chunks"] + (["fill_hex", "nan_payload"] if fill[0] == text else [])
            write(path, values(path, (8,), name), (3,), kinds, only=first, fill=fill)
    write(
        "v3/fill_float32_hex_number",
        values("hex", (8,), "<f4"),
        (3,),
        ["fill_value", "fill_hex", "missing_chunks"],
        only=first,
        fill=("0x3f800000", 1.0),
    )
    pairs = [
        ([1.0, -2.0], 1 - 2j),
        (["NaN", "-Infinity"], complex(np.nan, -np.inf)),
        ([-0.0, "Infinity"], complex(-0.0, np.inf)),
    ]
    for name in ("complex64", "complex128"):
        for number, fill in enumerate(pairs):
            path = f"v3/fill_{name}_{number}"
            write(path, values(path, (8,), name), (3,), ["fill_value", "missing_chunks"], only=first, fill=fill)
    for name, fill in {"bool": True, "int8": -128, "int64": -(2**63), "uint64": 2**64 - 1}.items():
        write(
            f"v3/fill_{name}", values(name, (8,), name), (3,), ["fill_value", "missing_chunks"], only=first, fill=fill
        )
    zeros = np.array([0.0, 0.0, -0.0, -0.0, 0.0, -0.0])
    write("v3/fill_zero_signs", zeros, (2,), ["fill_value", "negative_zero"], fill=0.0)


def shapes_and_keys() -> None:
    data = values("keys", (7, 10), "<u2")
    for name in ("default", "v2"):
        for sign, word in {"/": "slash", ".": "dot"}.items():
            keys = {"chunk_key_encoding": codec(name, separator=sign)}
            write(f"v3/keys_{name}_{word}", data, (3, 4), [f"keys_{name}_{word}"], **keys)
            write(f"v3/keys_{name}_{word}_0d", np.array(7, "<i4"), (), [f"keys_{name}_{word}", "0d"], **keys)
        write(
            f"v3/keys_{name}_unsaid",
            data,
            (3, 4),
            [f"keys_{name}_default_separator"],
            chunk_key_encoding={"name": name},
        )
    write("v3/0d", np.array(-1.5), (), ["0d"])
    write("v3/zero_length", np.empty((0, 4)), (2, 2), ["zero_length", "sharding"])  # it picks sharding by itself
    write("v3/zero_length_plain", np.empty((3, 0)), (2, 2), ["zero_length"], codecs=[LITTLE])
    write("v3/chunk_larger_than_array", ramp((3, 2), "<i4"), (8, 8), ["chunk_larger_than_array"])
    some = [np.s_[0:3, 0:4], np.s_[6:7, 8:10]]
    write("v3/missing_chunks", data, (3, 4), ["missing_chunks"], only=some, fill=1)
    names = ["t", None, ""]
    write("v3/dimension_names_null", ramp((2, 3, 4), "<i4"), (2, 2, 2), ["dimension_names"], dimension_names=names)
    write(
        "v3/attributes",
        data,
        (3, 4),
        ["attributes"],
        attributes={"text": "Größe µm", "none": None, "list": [1, {"a": []}]},
    )


def write2(
    path: str,
    data: np.ndarray,
    chunks: tuple[int, ...],
    features: Iterable[str],
    *,
    dtype: str | None = None,
    only: Any = None,
    fill: Any = None,
    **metadata: Any,
) -> None:
    """Create a format 2 array; ``fill`` is a pair of the JSON and the value where the two differ."""
    as_json, value = fill if isinstance(fill, tuple) else (fill, fill)
    members = {
        "shape": data.shape,
        "chunks": chunks,
        "dtype": dtype or data.dtype.str,
        "fill_value": as_json,
        "compressor": None,
        **metadata,
    }
    store(ts.open(spec(path, "zarr", metadata=members), create=True).result(), data, only)
    expected = data if only is None else partial(data, value, only)
    OUT.add_array(path, 2, expected, members["dtype"], ["v2", *features])


def version_2() -> None:
    data = values("v2", (9, 14), "<i4")
    kinds: dict[str, Any] = {
        "none": None,
        "zlib": {"id": "zlib", "level": 3},
        "gzip": {"id": "gzip", "level": 3},
        "bz2": {"id": "bz2", "level": 2},
        "zstd": {"id": "zstd", "level": 3},
        "blosc_default": {"id": "blosc"},
        "blosc_bitshuffle": {"id": "blosc", "cname": "zlib", "clevel": 3, "shuffle": 2},
    }
    for name, compressor in kinds.items():
        write2(f"v2/{name}", data, (4, 6), [name.split("_")[0]], compressor=compressor)
    for sign, word in {".": "dot", "/": "slash"}.items():
        for order in "CF":
            write2(
                f"v2/{word}_{order}",
                data,
                (4, 6),
                [word, f"order_{order.lower()}"],
                order=order,
                dimension_separator=sign,
            )
    for kind in "b1 i1 u1 i2 u4 i8 f2 f4 f8 c8 c16".split():
        for order in "|" if kind[1:] == "1" else "<>":
            name = f"v2/dtype_{ {'<': 'little', '>': 'big', '|': 'single'}[order] }_{kind}"
            write2(name, values(f"v2 {kind}", (7, 5), kind, special=True), (3, 4), ["dtype"], dtype=order + kind)
    fills: list[Any] = [None, ("NaN", np.nan), ("Infinity", np.inf), ("-Infinity", -np.inf), (-0.0, -0.0)]
    for number, fill in enumerate(fills):
        # What is absent under a null fill value is zeros to TensorStore, not to all: hence it is written.
        only = None if fill is None else [np.s_[0:3]]
        write2(
            f"v2/fill_float32_{number}",
            values(f"fill {number}", (8,), "<f4"),
            (3,),
            ["fill_value"],
            only=only,
            fill=fill,
        )
    write2("v2/0d", np.array(-1.5), (), ["0d"])
    write2("v2/missing_chunks", data, (4, 6), ["missing_chunks"], only=[np.s_[0:4, 6:12]], fill=5)


def later() -> None:
    import ml_dtypes

    for name in (
        "bfloat16",
        "int2",
        "int4",
        "float8_e4m3fn",
        "float8_e5m2",
        "float8_e3m4",
        "float8_e4m3fnuz",
        "float8_e5m2fnuz",
        "float4_e2m1fn",
    ):
        dtype = np.dtype(getattr(ml_dtypes, name))
        low, high = (-(2 ** (int(name[3:]) - 1)), 2 ** (int(name[3:]) - 1) - 1) if name.startswith("int") else (-6, 6)
        data = np.random.default_rng(len(name)).integers(low, high + 1, (7, 5)).astype(dtype)
        # numpy has no such type: the expected values are the bits, one or two bytes an element.
        bits = data.view("<u2" if dtype.itemsize == 2 else "|i1" if name.startswith("int") else "|u1")
        write(f"later/v3_{name}", data, (3, 4), ["dtype", name, "bits"], data_type=name, expected=bits)
    raw = np.dtype([("a", "<i4"), ("b", ">f8"), ("c", "S3")])
    rows = np.array([(1, 0.5, b"abc"), (-2, 1e300, b"def"), (3, -0.0, b"ghi"), (4, 1.25, b"jkl")], raw)
    fields = [[name, raw[name].str] for name in raw.names or ()]
    for name in raw.names or ():
        metadata = {"shape": [4], "chunks": [3], "dtype": fields, "compressor": None, "fill_value": None}
        array = ts.open(spec("later/v2_struct", "zarr", field=name, metadata=metadata), create=True, open=True).result()
        column = np.ascontiguousarray(rows[name])
        array[...].write(column.view("S1").reshape(4, 3) if name == "c" else column).result()
    OUT.add_array("later/v2_struct", 2, rows, fields, ["struct", "fill_null"])
    text = np.array([b"abcd", b"efgh", b"ijkl", b"mnop"], "S4")
    metadata = {"shape": [4], "chunks": [3], "dtype": "|S4", "compressor": None, "fill_value": None}
    array = ts.open(spec("later/v2_S4", "zarr", metadata=metadata), create=True).result()
    array[...].write(text.view("S1").reshape(4, 4)).result()
    OUT.add_array("later/v2_S4", 2, text, "|S4", ["null_terminated_bytes", "fill_null"])


if __name__ == "__main__":
    folder = output_folder()
    for step in (codecs, sharding, dtypes, fill_values, shapes_and_keys, version_2, later):
        step()
    OUT.save(folder)
