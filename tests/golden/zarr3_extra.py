"""The rest of make_zarr3.py: groups, format 2, and the types and codecs for later work."""

from __future__ import annotations

from typing import Any

import numcodecs
import numpy as np
import zarr
from archive import ramp, values
from zarr.codecs import ShardingCodec, ZstdCodec
from zarr.codecs import numcodecs as nc
from zarr.codecs.scale_offset import ScaleOffset
from zarr3_writer import BIG, LITTLE_CRC, OUT, sharded, write


def groups() -> None:
    for name, consolidated in (("groups", False), ("consolidated", True)):
        path = f"v3/{name}"
        root = zarr.create_group(str(OUT.root / path), attributes={"title": "root", "n": 1})
        root.create_group("a", attributes={"level": 1}).create_group("b").create_group("empty")
        more = ["consolidated"] if consolidated else []
        write(f"{path}/top", values(f"{path} top", (5,), "<f4"), (2,), ["in_group", *more], attributes={"units": "m"})
        write(f"{path}/a/b/deep", ramp((4, 4), "<u1"), (2, 2), ["in_group", *more], dimension_names=["y", None])
        codec = ShardingCodec(chunk_shape=(2,), codecs=LITTLE_CRC)
        sharded(f"{path}/a/shards", ramp((9,), "<i8"), (4,), codec, ["in_group", *more])
        if consolidated:
            zarr.consolidate_metadata(str(OUT.root / path), zarr_format=3)
        OUT.add_group(path, 3, {"top": "array", "a": "group"}, more, {"title": "root", "n": 1})
        OUT.add_group(f"{path}/a", 3, {"b": "group", "shards": "array"}, more, {"level": 1})
        OUT.add_group(f"{path}/a/b", 3, {"deep": "array", "empty": "group"}, more)
        OUT.add_group(f"{path}/a/b/empty", 3, {}, more)


def version_2() -> None:
    """Format 2 as this release writes it, which is not byte for byte what 2.x wrote."""
    old: dict[str, Any] = {"zarr_format": 2}
    data = values("v2", (7, 10), "<i4")
    kinds: dict[str, Any] = {
        "none": None,
        "zlib": numcodecs.Zlib(level=3),
        "gzip": numcodecs.GZip(level=3),
        "zstd": numcodecs.Zstd(level=3),
        "zstd_checksum": numcodecs.Zstd(level=3, checksum=True),
        "blosc": numcodecs.Blosc(cname="lz4", shuffle=2),
        "lz4": numcodecs.LZ4(),
        "bz2": numcodecs.BZ2(),
        "lzma": numcodecs.LZMA(preset=1),
    }
    for name, codec in kinds.items():
        write(f"v2/{name}", data, (3, 4), ["v2", name], compressors=codec, **old)
    write("v2/order_f", data, (3, 4), ["v2", "order_f"], order="F", **old)
    write("v2/big_endian", data, (3, 4), ["v2", "big_endian"], dtype=">i4", **old)
    write("v2/slash", data, (3, 4), ["v2", "slash"], chunk_key_encoding={"name": "v2", "separator": "/"}, **old)
    write(
        "v2/filters",
        data,
        (3, 4),
        ["v2", "filters", "delta", "shuffle"],
        filters=[numcodecs.Delta(dtype="<i4"), numcodecs.Shuffle(4)],
        **old,
    )
    for number, fill in enumerate((np.nan, np.inf, -np.inf, -0.0)):
        write(
            f"v2/fill_float64_{number}",
            ramp((8,), "<f8"),
            (3,),
            ["v2", "fill_value", "missing_chunks"],
            only=[np.s_[0:3]],
            fill_value=fill,
            **old,
        )
    write(
        "v2/fill_complex",
        values("v2c", (8,), "<c8"),
        (3,),
        ["v2", "fill_value", "missing_chunks"],
        only=[np.s_[0:3]],
        fill_value=np.complex64(1 - 2j),
        **old,
    )
    write("v2/0d", np.array(4, "<i4"), (), ["v2", "0d"], **old)
    write("v2/attributes", data, (3, 4), ["v2", "attributes"], attributes={"a": [1, None, "ü"]}, **old)
    root = zarr.create_group(str(OUT.root / "v2/consolidated"), attributes={"title": "old"}, zarr_format=2)
    root.create_group("g", attributes={"k": 1})
    write("v2/consolidated/g/x", data, (3, 4), ["v2", "in_group", "consolidated"], attributes={"units": "s"}, **old)
    zarr.consolidate_metadata(str(OUT.root / "v2/consolidated"), zarr_format=2)
    OUT.add_group("v2/consolidated", 2, {"g": "group"}, ["consolidated"], {"title": "old"})
    OUT.add_group("v2/consolidated/g", 2, {"x": "array"}, ["consolidated"], {"k": 1})


def later() -> None:
    text = np.array(["", "a", "häßlich", "測試", "🦓", "nul\0inside", "x" * 40], dtype=object)
    write("later/v3_string", text, (3,), ["string", "vlen-utf8"], dtype="string")
    write(
        "later/v3_string_missing",
        text,
        (3,),
        ["string", "vlen-utf8", "missing_chunks"],
        dtype="string",
        only=[np.s_[0:3]],
        fill_value="fehlt",
    )
    grid = np.array([["a", "bb"], ["", "dddd"], ["é", "f"]], dtype=object)
    vlen = ShardingCodec(chunk_shape=(1, 2), codecs=[{"name": "vlen-utf8"}, ZstdCodec()])
    write(
        "later/v3_string_sharding",
        grid,
        (2, 2),
        ["string", "vlen-utf8", "sharding"],
        dtype="string",
        serializer=vlen,
        filters=[],
        compressors=[],
    )
    blobs = np.array([b"", b"\0\xff", b"abc", bytes(range(40)), b"z"], dtype=object)
    write("later/v3_bytes", blobs, (2,), ["variable_length_bytes", "vlen-bytes"], dtype="variable_length_bytes")
    fixed = np.array(["", "a", "öß", "測試測試測", "abc"], dtype="<U5")
    write("later/v3_fixed_length_utf32", fixed, (2,), ["fixed_length_utf32"])
    write("later/v3_fixed_length_utf32_big", fixed, (2,), ["fixed_length_utf32", "big_endian"], serializer=BIG)
    write(
        "later/v3_null_terminated_bytes",
        np.array([b"", b"a", b"1234567", b"\xff\0x"], "S7"),
        (3,),
        ["null_terminated_bytes"],
    )
    times = np.array(["2026-11-22T01:02:03.123456789", "NaT", "1960-01-01"], "<M8[ns]")
    write("later/v3_datetime64_ns", times, (2,), ["datetime64"])
    write("later/v3_datetime64_10s", times.astype("<M8[10s]"), (2,), ["datetime64"])
    write("later/v3_datetime64_missing", times, (1,), ["datetime64", "missing_chunks"], only=[np.s_[0:1]])
    write("later/v3_timedelta64_ms", np.array([0, -5, 2**40], "<m8[ms]"), (2,), ["timedelta64"])
    record = np.dtype([("id", "<u2"), ("x", "<f8"), ("ok", "|b1")])
    rows = np.array([(1, 0.5, True), (2, -1.5, False), (65535, 1e300, True)], record)
    write("later/v3_struct", rows, (2,), ["struct"])
    write("later/v3_struct_big", rows, (2,), ["struct", "big_endian"], serializer=BIG)
    deep = np.dtype([("p", [("a", "<i2"), ("b", "<f4")]), ("s", "S3")])
    write(
        "later/v3_struct_nested", np.array([((1, 2.5), b"ab"), ((-3, 4.5), b"xyz")], deep), (2,), ["struct", "nested"]
    )
    data = values("later", (9, 14), "<i4")
    for name, codec in {
        "lz4": nc.LZ4(acceleration=1),
        "zlib": nc.Zlib(level=3),
        "bz2": nc.BZ2(level=1),
        "lzma": nc.LZMA(preset=1),
        "zstd": nc.Zstd(level=3),
        "gzip": nc.GZip(level=1),
        "blosc": nc.Blosc(cname="lz4", shuffle=1),
        "shuffle": nc.Shuffle(elementsize=4),
        "crc32": nc.CRC32(),
        "crc32c": nc.CRC32C(),
        "adler32": nc.Adler32(),
        "fletcher32": nc.Fletcher32(),
        "jenkins_lookup3": nc.JenkinsLookup3(),
    }.items():
        write(f"later/v3_numcodecs_{name}", data, (4, 6), [f"numcodecs.{name}"], compressors=codec)
    write("later/v3_numcodecs_delta", data, (4, 6), ["numcodecs.delta"], filters=nc.Delta(dtype="<i4"))
    halves = ramp((7, 4), "<f8") / 2
    scale = nc.FixedScaleOffset(offset=1, scale=2, dtype="<f8", astype="<i2")
    write("later/v3_numcodecs_fixedscaleoffset", halves, (3, 3), ["numcodecs.fixedscaleoffset"], filters=scale)
    write(
        "later/v3_numcodecs_astype",
        ramp((7, 4), "<f8"),
        (3, 3),
        ["numcodecs.astype"],
        filters=nc.AsType(encode_dtype="<i2", decode_dtype="<f8"),
    )
    write(
        "later/v3_numcodecs_packbits",
        values("pb", (7, 5), "|b1"),
        (3, 4),
        ["numcodecs.packbits"],
        filters=nc.PackBits(),
    )
    write("later/v3_scale_offset", halves, (3, 3), ["scale_offset"], filters=ScaleOffset(offset=1, scale=2))
    zarr.config.set({"array.rectilinear_chunks": True})
    write("later/v3_rectilinear", ramp((8, 6), "<i4"), ((2, 3, 3), (4, 2)), ["rectilinear"])
    write(
        "later/v3_rectilinear_missing",
        ramp((8, 6), "<i4"),
        ((1, 5, 2), (6,)),
        ["rectilinear", "missing_chunks"],
        only=[np.s_[1:6, :]],
        fill_value=8,
    )
