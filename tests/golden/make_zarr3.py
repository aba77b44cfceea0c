"""Write zarr3.zip with zarr-python 3.x: ``python make_zarr3.py OUTDIR`` (versions in README.md)."""

from __future__ import annotations

from typing import Any

import numpy as np
from archive import output_folder, ramp, stop_the_clock, values
from zarr.codecs import (
    BloscCodec,
    BytesCodec,
    Crc32cCodec,
    GzipCodec,
    ShardingCodec,
    TransposeCodec,
    ZstdCodec,
)
from zarr3_extra import groups, later, version_2
from zarr3_writer import BIG, LITTLE, LITTLE_CRC, OUT, sharded, write


def codecs() -> None:
    data = values("codecs", (9, 14), "<i4")
    chunk = (4, 6)
    plain: dict[str, Any] = {"filters": [], "compressors": []}
    write("v3/bytes_little", data, chunk, ["bytes"], serializer=LITTLE, **plain)
    write("v3/bytes_big", data, chunk, ["bytes", "big_endian"], serializer=BIG, **plain)
    write("v3/bytes_big_float64", values("bf", (7,), "<f8"), (3,), ["bytes", "big_endian"], serializer=BIG, **plain)
    write("v3/bytes_big_complex64", values("bc", (7,), "<c8"), (3,), ["bytes", "big_endian"], serializer=BIG, **plain)
    for level in (0, 1, 6, 9):
        write(f"v3/gzip_level{level}", data, chunk, ["gzip"], compressors=GzipCodec(level=level))
    for level in (-5, 0, 3, 19):
        write(f"v3/zstd_level{level}", data, chunk, ["zstd"], compressors=ZstdCodec(level=level))
    write("v3/zstd_checksum", data, chunk, ["zstd", "zstd_checksum"], compressors=ZstdCodec(level=3, checksum=True))
    for cname in ("lz4", "lz4hc", "blosclz", "zstd", "zlib"):
        for shuffle in ("noshuffle", "shuffle", "bitshuffle"):
            blosc = BloscCodec(cname=cname, shuffle=shuffle, clevel=5)
            write(f"v3/blosc_{cname}_{shuffle}", data, chunk, ["blosc", cname, shuffle], compressors=blosc)
    write("v3/blosc_clevel0", data, chunk, ["blosc"], compressors=BloscCodec(cname="lz4", clevel=0))
    blocks = BloscCodec(cname="lz4", clevel=1, blocksize=256, shuffle="shuffle")
    write("v3/blosc_blocksize", values("bb", (1024,), "<i2"), (512,), ["blosc"], compressors=blocks)
    for dtype in ("|u1", "<f8", "<c16", "|b1"):
        blosc = BloscCodec(cname="zstd", shuffle="bitshuffle")
        path = f"v3/blosc_bitshuffle_{np.dtype(dtype).name}"
        write(path, values(path, (5, 9), dtype), (4, 4), ["blosc", "bitshuffle"], compressors=blosc)
    write("v3/crc32c", data, chunk, ["crc32c"], compressors=Crc32cCodec())
    write("v3/crc32c_big", data, chunk, ["crc32c", "big_endian"], serializer=BIG, compressors=Crc32cCodec())
    write("v3/gzip_crc32c", data, chunk, ["gzip", "crc32c"], compressors=[GzipCodec(level=1), Crc32cCodec()])
    chain = [ZstdCodec(level=1), Crc32cCodec(), GzipCodec(level=1), BloscCodec(cname="lz4", typesize=1), Crc32cCodec()]
    write("v3/long_chain", data, chunk, ["zstd", "gzip", "blosc", "crc32c"], compressors=chain)
    cube = ramp((5, 6, 7), "<u2")
    for order in ((0, 1, 2), (0, 2, 1), (1, 0, 2), (1, 2, 0), (2, 0, 1), (2, 1, 0)):
        name = "".join(map(str, order))
        write(f"v3/transpose_{name}", cube, (2, 3, 4), ["transpose"], filters=TransposeCodec(order=order))
    four = ramp((3, 4, 2, 5), "<i2")
    write("v3/transpose_4d", four, (2, 3, 2, 2), ["transpose"], filters=TransposeCodec(order=(2, 0, 3, 1)))
    twice = [TransposeCodec(order=(1, 2, 0)), TransposeCodec(order=(0, 2, 1))]
    write("v3/transpose_twice", cube, (2, 3, 4), ["transpose", "zstd"], filters=twice)
    flip = TransposeCodec(order=(1, 0))
    write(
        "v3/transpose_big_blosc",
        data,
        chunk,
        ["transpose", "big_endian", "blosc"],
        filters=flip,
        serializer=BIG,
        compressors=BloscCodec(),
    )


def sharding() -> None:
    data = values("sharding", (19, 11), "<i2")
    shard, inner = (8, 8), (4, 2)
    gz = [LITTLE, GzipCodec(level=1)]
    for where in ("start", "end"):
        for suffix, index in {"": LITTLE_CRC, "_nocrc": [LITTLE], "_bigindex": [BIG, Crc32cCodec()]}.items():
            codec = ShardingCodec(chunk_shape=inner, codecs=gz, index_codecs=index, index_location=where)
            kinds = ["gzip", "index_crc32c"] if len(index) == 2 else ["gzip"]
            kinds += ["index_big_endian"] if suffix == "_bigindex" else []
            sharded(f"v3/sharding_{where}{suffix}", data, shard, codec, kinds)
        twice = ShardingCodec(
            chunk_shape=inner,
            codecs=[LITTLE],
            index_codecs=[LITTLE, Crc32cCodec(), Crc32cCodec()],
            index_location=where,
        )
        sharded(f"v3/sharding_{where}_twocrc", data, shard, twice, ["index_crc32c"])
        bare = ShardingCodec(chunk_shape=inner, codecs=[LITTLE], index_location=where)
        sharded(f"v3/sharding_{where}_uncompressed", data, shard, bare, ["index_crc32c"])
        some = [np.s_[0:4, 2:4], np.s_[6:7, 5:6], np.s_[17:19, 9:11]]
        codec = ShardingCodec(chunk_shape=inner, codecs=gz, index_location=where)
        sharded(f"v3/sharding_{where}_partial", data, shard, codec, ["missing_chunks"], only=some, fill_value=-7)
        nested = ShardingCodec(
            chunk_shape=(4, 4),
            codecs=[
                ShardingCodec(chunk_shape=(2, 4), codecs=gz, index_location="end" if where == "start" else "start")
            ],
            index_location=where,
        )
        sharded(f"v3/sharding_nested_{where}", data, shard, nested, ["nested_sharding"])
        sharded(
            f"v3/sharding_nested_{where}_partial",
            data,
            shard,
            nested,
            ["nested_sharding", "missing_chunks"],
            only=some,
            fill_value=9,
        )
    for name, codec_list in {
        "zstd": [LITTLE, ZstdCodec(level=3, checksum=True)],
        "blosc": [LITTLE, BloscCodec(cname="lz4", shuffle="bitshuffle", typesize=2)],
        "crc32c": [BIG, Crc32cCodec()],
        "zstd_crc32c": [LITTLE, ZstdCodec(), Crc32cCodec()],
    }.items():
        codec = ShardingCodec(chunk_shape=inner, codecs=codec_list)
        sharded(f"v3/sharding_inner_{name}", data, shard, codec, ["index_crc32c", *name.split("_")])
    flip = TransposeCodec(order=(1, 0))
    inside = ShardingCodec(chunk_shape=inner, codecs=[flip, *gz])
    sharded("v3/sharding_transpose_inside", data, shard, inside, ["transpose", "transpose_inside_shard"])
    # zarr-python wants inner chunks that divide the chunk as it is *before* the transpose as well: both are met here.
    before = ["transpose", "transpose_before_sharding"]
    tall = ShardingCodec(chunk_shape=(4, 2), codecs=gz)
    sharded("v3/sharding_transpose_outside", data, (8, 4), tall, before, filters=[flip])
    hole: dict[str, Any] = {"only": [np.s_[9:12, 0:3]], "fill_value": 3}
    sharded(
        "v3/sharding_transpose_outside_partial", data, (8, 4), tall, [*before, "missing_chunks"], filters=[flip], **hole
    )
    cube = ramp((7, 5, 6), "<i4")
    codec = ShardingCodec(chunk_shape=(2, 2, 2), codecs=[TransposeCodec(order=(2, 0, 1)), LITTLE])
    both = [*before, "transpose_inside_shard"]
    sharded("v3/sharding_transpose_both", cube, (4, 2, 6), codec, both, filters=[TransposeCodec(order=(1, 2, 0))])
    plain = ShardingCodec(chunk_shape=inner, codecs=gz)
    for name, after in {
        "zstd": [ZstdCodec(level=1)],
        "crc32c": [Crc32cCodec()],
        "gzip_crc32c": [GzipCodec(level=1), Crc32cCodec()],
    }.items():
        sharded(
            f"v3/sharding_then_{name}",
            data,
            shard,
            plain,
            ["bytes_codec_after_sharding", *name.split("_")],
            compressors=after,
        )
    start = ShardingCodec(chunk_shape=inner, codecs=gz, index_location="start")
    sharded(
        "v3/sharding_start_then_crc32c",
        data,
        shard,
        start,
        ["bytes_codec_after_sharding", "crc32c"],
        compressors=[Crc32cCodec()],
    )
    for order in ("lexicographic", "colexicographic", "morton", "unordered"):
        codec = ShardingCodec(chunk_shape=inner, codecs=gz, subchunk_write_order=order)
        sharded(f"v3/sharding_order_{order}", data, shard, codec, ["subchunk_order"])
    one = ShardingCodec(chunk_shape=(8, 8), codecs=gz)
    sharded("v3/sharding_one_chunk", data, shard, one, ["single_chunk_shard"])
    sharded("v3/sharding_1d", values("s1", (37,), "<f8"), (16,), ShardingCodec(chunk_shape=(4,), codecs=gz), [])
    sharded("v3/sharding_3d", cube, (4, 4, 4), ShardingCodec(chunk_shape=(2, 2, 4), codecs=gz), [])
    sharded(
        "v3/sharding_bool",
        values("sb", (9, 9), "|b1"),
        (6, 6),
        ShardingCodec(chunk_shape=(3, 2), codecs=[BytesCodec(endian=None)]),
        [],
    )
    sharded("v3/sharding_all_missing", data, shard, plain, ["missing_chunks"], only=[], fill_value=5)
    # An explicit chunk of the fill value inside a shard that exists: a stored chunk, not an absent one.
    flat = np.zeros((16, 8), "<i2")
    sharded(
        "v3/sharding_explicit_empty", flat, shard, plain, ["write_empty_chunks"], config={"write_empty_chunks": True}
    )


def dtypes() -> None:
    names = "bool int8 int16 int32 int64 uint8 uint16 uint32 uint64 float16 float32 float64 complex64 complex128"
    for name in names.split():
        data = values(f"dtype {name}", (7, 5), name, special=True)
        write(f"v3/dtype_{name}", data, (3, 4), ["dtype", "zstd"])
    for size in (1, 2, 3, 8):
        data = values(f"raw {size}", (7,), f"V{size}")
        fill = np.void(bytes(range(1, size + 1)))
        write(
            f"v3/dtype_raw_bytes{size}",
            data,
            (3,),
            ["dtype", "raw_bytes", "missing_chunks"],
            only=[np.s_[0:5]],
            fill_value=fill,
        )


def fill_values() -> None:
    first = [np.s_[0:3]]
    fills: dict[str, list[Any]] = {
        "float16": [np.nan, np.inf, -np.inf, -0.0, 0.1],
        "float32": [np.nan, np.inf, -np.inf, -0.0, 0.1],
        "float64": [np.nan, np.inf, -np.inf, -0.0, 0.1, 5e-324, 1.7976931348623157e308],
        "complex64": [1 + 2j, complex(np.nan, -np.inf), complex(-0.0, np.inf)],
        "complex128": [1.5 - 2.25j, complex(np.nan, np.nan), complex(-np.inf, -0.0)],
        "bool": [True],
        "int8": [-128],
        "int64": [-(2**63), 2**53 + 1],
        "uint64": [2**64 - 1],
    }
    for name, choices in fills.items():
        for number, fill in enumerate(choices):
            path = f"v3/fill_{name}_{number}"
            write(
                path,
                values(path, (8,), name),
                (3,),
                ["fill_value", "missing_chunks"],
                only=first,
                fill_value=np.dtype(name).type(fill),
            )
    # Chunks that equal the fill value but for the sign of zero must not be dropped.
    zeros = np.array([0.0, 0.0, -0.0, -0.0, 0.0, -0.0])
    write("v3/fill_zero_signs", zeros, (2,), ["fill_value", "negative_zero"], fill_value=0.0)
    write("v3/fill_all_missing", ramp((6, 6), "<i4"), (4, 4), ["fill_value", "missing_chunks"], only=[], fill_value=42)


def shapes_and_keys() -> None:
    data = values("keys", (7, 10), "<u2")
    for name in ("default", "v2"):
        for sign, word in {"/": "slash", ".": "dot"}.items():
            encoding = {"name": name, "separator": sign}
            write(f"v3/keys_{name}_{word}", data, (3, 4), [f"keys_{name}_{word}"], chunk_key_encoding=encoding)
            write(
                f"v3/keys_{name}_{word}_0d",
                np.array(7, "<i4"),
                (),
                [f"keys_{name}_{word}", "0d"],
                chunk_key_encoding=encoding,
            )
            write(
                f"v3/keys_{name}_{word}_1d",
                ramp((7,), "<i4"),
                (3,),
                [f"keys_{name}_{word}"],
                chunk_key_encoding=encoding,
            )
    codec = ShardingCodec(chunk_shape=(2, 2), codecs=[LITTLE])
    sharded(
        "v3/keys_v2_dot_sharding",
        data,
        (4, 4),
        codec,
        ["keys_v2_dot"],
        chunk_key_encoding={"name": "v2", "separator": "."},
    )
    write("v3/0d", np.array(-1.5), (), ["0d"])
    write("v3/0d_missing", np.array(0, "<i4"), (), ["0d", "missing_chunks"], only=[], fill_value=11)
    write(
        "v3/0d_sharding",
        np.array(3, "<i2"),
        (),
        ["0d", "sharding"],
        serializer=ShardingCodec(chunk_shape=(), codecs=LITTLE_CRC),
        filters=[],
        compressors=[],
    )
    write("v3/zero_length", np.empty((0, 4)), (2, 2), ["zero_length"])
    write("v3/zero_length_middle", np.empty((3, 0, 2), "|u1"), (2, 1, 2), ["zero_length"])
    write(
        "v3/zero_length_sharding",
        np.empty((0, 4), "<i2"),
        (4, 4),
        ["zero_length", "sharding"],
        serializer=codec,
        filters=[],
        compressors=[],
    )
    write("v3/chunk_larger_than_array", ramp((3, 2), "<i4"), (8, 8), ["chunk_larger_than_array"])
    write("v3/one_element_chunks", ramp((3, 4), "|i1"), (1, 1), ["small_chunks"])
    write("v3/rank6", ramp((2, 3, 1, 2, 3, 2), "<i4"), (1, 2, 1, 2, 2, 2), ["rank6"])
    some = [np.s_[0:3, 0:4], np.s_[6:7, 8:10]]
    write("v3/missing_chunks", data, (3, 4), ["missing_chunks"], only=some, fill_value=1)
    write(
        "v3/explicit_empty_chunks",
        np.full((4, 4), 6, "<i4"),
        (2, 2),
        ["write_empty_chunks"],
        fill_value=6,
        config={"write_empty_chunks": True},
    )
    write("v3/dimension_names", data, (3, 4), ["dimension_names"], dimension_names=["y", "x"])
    write(
        "v3/dimension_names_null",
        ramp((2, 3, 4), "<i4"),
        (2, 2, 2),
        ["dimension_names"],
        dimension_names=["t", None, ""],
    )
    attributes = {
        "text": "Größe µm – 測",
        "int": 2**53,
        "float": 0.1,
        "none": None,
        "flag": True,
        "list": [1, [2, {}]],
        "map": {"a": {"b": []}},
        "": "empty key",
    }
    write("v3/attributes", data, (3, 4), ["attributes"], attributes=attributes)


if __name__ == "__main__":
    folder = output_folder()
    stop_the_clock()
    for step in (codecs, sharding, dtypes, fill_values, shapes_and_keys, groups, version_2, later):
        step()
    OUT.save(folder)
