"""Write zarr2.zip with zarr-python 2.18: ``python make_zarr2.py OUTDIR`` (versions in README.md)."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

import numcodecs
import numpy as np
import zarr
from archive import Archive, output_folder, partial, ramp, stop_the_clock, values

OUT = Archive("zarr2", f"zarr-python {zarr.__version__}")
numcodecs.blosc.set_nthreads(1)


def write(
    path: str,
    data: np.ndarray,
    chunks: Any,
    features: Iterable[str],
    *,
    only: Iterable[tuple[slice, ...]] | None = None,
    attributes: dict[str, Any] | None = None,
    **options: Any,
) -> None:
    """Create the array, write ``data`` (or only some regions of it) and record what a reader must find."""
    options = {"compressor": numcodecs.Zlib(level=1), "write_empty_chunks": False, "dtype": data.dtype} | options
    store = zarr.DirectoryStore(str(OUT.root / path))
    array = zarr.create(data.shape, chunks=chunks, store=store, **options)
    if attributes:
        array.attrs.update(attributes)
    if only is None:
        array[...] = data
        expected = data
    else:
        for region in only:
            array[region] = data[region]
        expected = partial(data, array.fill_value, only)
    metadata = json.loads((OUT.root / path / ".zarray").read_text())
    OUT.add_array(path, 2, expected, metadata["dtype"], features, attributes)


def compressors() -> None:
    data = values("v2 codecs", (9, 14), "<i4")
    c = numcodecs
    kinds: dict[str, Any] = {
        "none": None,
        "zlib_1": c.Zlib(level=1),
        "zlib_9": c.Zlib(level=9),
        "gzip_1": c.GZip(level=1),
        "gzip_9": c.GZip(level=9),
        "zstd_1": c.Zstd(level=1),
        "zstd_19": c.Zstd(level=19),
        "zstd_negative": c.Zstd(level=-3),
        "zstd_checksum": c.Zstd(level=3, checksum=True),
        "lz4_1": c.LZ4(acceleration=1),
        "lz4_10": c.LZ4(acceleration=10),
        "bz2_1": c.BZ2(level=1),
        "bz2_9": c.BZ2(level=9),
        "lzma_xz": c.LZMA(format=1, preset=1),
        "lzma_alone": c.LZMA(format=2, preset=1),
        "lzma_raw": c.LZMA(format=3, filters=[{"id": 3, "dist": 4}, {"id": 33, "preset": 1}]),
    }
    for cname in ("lz4", "lz4hc", "blosclz", "zstd", "zlib"):
        for shuffle, word in {0: "noshuffle", 1: "shuffle", 2: "bitshuffle", -1: "autoshuffle"}.items():
            kinds[f"blosc_{cname}_{word}"] = c.Blosc(cname=cname, shuffle=shuffle, clevel=5)
    kinds["blosc_clevel0"] = c.Blosc(cname="lz4", clevel=0)
    for name, codec in kinds.items():
        write(f"v2/{name}", data, (4, 6), [name.split("_")[0], *name.split("_")[1:]], compressor=codec)
    small = c.Blosc(cname="lz4", clevel=1, blocksize=256)
    write("v2/blosc_blocksize", values("bb", (1024,), "<i2"), 512, ["blosc"], compressor=small)
    for dtype in ("|u1", "|b1", "<f8"):
        path = f"v2/blosc_auto_{np.dtype(dtype).name}"
        write(path, values(path, (9, 7), dtype), (4, 4), ["blosc", "autoshuffle"], compressor=c.Blosc(shuffle=-1))


def filters() -> None:
    c = numcodecs
    data = values("v2 filters", (9, 14), "<i4")
    halves = ramp((9, 4), "<f8") / 2
    chunk = (4, 6)
    write("v2/filter_delta", data, chunk, ["filters", "delta"], filters=[c.Delta(dtype="<i4")])
    write("v2/filter_delta_astype", ramp((50,), "<i4"), 20, ["filters", "delta"], filters=[c.Delta("<i4", "<i2")])
    write("v2/filter_delta_float", ramp((7, 6), "<f8"), (3, 4), ["filters", "delta"], filters=[c.Delta("<f8")])
    write("v2/filter_delta_big", data, chunk, ["filters", "delta", "big_endian"], dtype=">i4", filters=[c.Delta(">i4")])
    write("v2/filter_delta_order_f", data, chunk, ["filters", "delta", "order_f"], order="F", filters=[c.Delta("<i4")])
    write("v2/filter_shuffle", data, chunk, ["filters", "shuffle"], filters=[c.Shuffle(elementsize=4)])
    write("v2/filter_shuffle_odd", values("v2 odd", (7,), "<f8"), 3, ["filters", "shuffle"], filters=[c.Shuffle(8)])
    scale = c.FixedScaleOffset(offset=1, scale=2, dtype="<f8", astype="<i2")
    write("v2/filter_fixedscaleoffset", halves, (4, 3), ["filters", "fixedscaleoffset"], filters=[scale])
    scale = c.FixedScaleOffset(offset=0, scale=2, dtype=">f8", astype="|u1")
    write(
        "v2/filter_fixedscaleoffset_big", halves, (4, 3), ["filters", "fixedscaleoffset"], dtype=">f8", filters=[scale]
    )
    for name, check in {
        "crc32": c.CRC32(),
        "crc32_end": c.CRC32(location="end"),
        "crc32c": c.get_codec({"id": "crc32c"}),
        "crc32c_start": c.get_codec({"id": "crc32c", "location": "start"}),
        "adler32": c.Adler32(),
        "fletcher32": c.Fletcher32(),
        "jenkins_lookup3": c.JenkinsLookup3(),
    }.items():
        write(f"v2/filter_{name}", data, chunk, ["filters", "checksum", name], filters=[check])
    write("v2/compressor_crc32", data, chunk, ["checksum", "crc32"], compressor=c.CRC32())
    bits = values("v2 bits", (7, 11), "|b1")
    write("v2/filter_packbits", bits, (3, 5), ["filters", "packbits"], filters=[c.PackBits()])
    write(
        "v2/filter_packbits_order_f",
        bits,
        (3, 5),
        ["filters", "packbits", "order_f"],
        order="F",
        filters=[c.PackBits()],
    )
    write("v2/filter_astype", ramp((7, 4), "<f8"), (3, 3), ["filters", "astype"], filters=[c.AsType("<i2", "<f8")])
    write("v2/filter_quantize", halves, (4, 3), ["filters", "quantize"], filters=[c.Quantize(1, "<f8")])
    write("v2/filter_bitround", ramp((7, 4), "<f4"), (3, 3), ["filters", "bitround"], filters=[c.BitRound(10)])
    chain = [c.Delta("<i4"), c.Shuffle(4), c.CRC32()]
    write("v2/filter_chain", data, chunk, ["filters", "delta", "shuffle", "crc32"], filters=chain, compressor=c.Zstd(1))
    write("v2/filter_no_compressor", data, chunk, ["filters", "delta"], filters=[c.Delta("<i4")], compressor=None)


def dtypes() -> None:
    for kind in "b1 i1 i2 i4 i8 u1 u2 u4 u8 f2 f4 f8 c8 c16".split():
        for order in "|" if kind[1:] == "1" else "<>":
            name = f"v2/dtype_{ {'<': 'little', '>': 'big', '|': 'single'}[order] }_{kind}"
            data = values(f"v2 {kind}", (7, 5), kind, special=True)
            write(name, data, (3, 4), ["dtype", "big_endian"] if order == ">" else ["dtype"], dtype=order + kind)
    write("v2/dtype_void3", values("void", (7,), "V3"), 3, ["dtype", "raw"])


def fill_values() -> None:
    first = [np.s_[0:3]]
    floats = [None, 0, np.nan, np.inf, -np.inf, -0.0, 0.1]
    fills: dict[str, list[Any]] = {
        "<f2": floats,
        "<f4": floats,
        ">f8": floats,
        "<i4": [None, -5],
        "|u1": [255],
        "|b1": [True, None],
        "<u8": [2**64 - 1],
        "<i8": [-(2**63)],
        "<c8": [None, 0, 1 - 2j, complex(np.nan, -np.inf)],
        ">c16": [1.5 + 1j],
        "|V3": [b"\x01\x02\x03", None],
        "|V1": [b"\xff"],
    }
    for dtype, choices in fills.items():
        for number, fill in enumerate(choices):
            path = f"v2/fill_{np.dtype(dtype).name}_{number}"
            data = values(path, (8,), dtype)
            # With a null fill value an absent chunk has no defined content, so there every chunk is written.
            kinds = ["fill_value", "fill_null"] if fill is None else ["fill_value", "missing_chunks"]
            if dtype[1] == "V":
                kinds.append("fill_base64")
            write(path, data, 3, kinds, only=None if fill is None else first, dtype=dtype, fill_value=fill)
    zeros = np.array([0.0, 0.0, -0.0, -0.0, 0.0, -0.0])
    write("v2/fill_zero_signs", zeros, 2, ["fill_value", "negative_zero"], fill_value=0.0, write_empty_chunks=True)
    write("v2/fill_all_missing", ramp((6, 6), "<i4"), (4, 4), ["fill_value", "missing_chunks"], only=[], fill_value=42)


def shapes_and_keys() -> None:
    data = values("v2 keys", (7, 10), "<u2")
    for sign, word in {".": "dot", "/": "slash"}.items():
        for order in "CF":
            features = [word, "order_f"] if order == "F" else [word]
            write(f"v2/{word}_{order}", data, (3, 4), features, dimension_separator=sign, order=order)
        cube = ramp((3, 4, 5), "<i4")
        write(f"v2/{word}_3d_F", cube, (2, 3, 2), [word, "order_f"], dimension_separator=sign, order="F")
        write(f"v2/{word}_1d", ramp((7,), "<i4"), 3, [word], dimension_separator=sign)
        write(f"v2/{word}_0d", np.array(-2.5), (), [word, "0d"], dimension_separator=sign)
    write("v2/order_f_big_endian", data, (3, 4), ["order_f", "big_endian"], order="F", dtype=">u2", compressor=None)
    write("v2/order_f_0d", np.array(4, "<i4"), (), ["order_f", "0d"], order="F")
    write("v2/0d_missing", np.array(0, "<i4"), (), ["0d", "missing_chunks"], only=[], fill_value=11)
    write("v2/zero_length", np.empty((0, 4)), (2, 2), ["zero_length"])
    write("v2/zero_length_last", np.empty((3, 0), "<i2"), (2, 1), ["zero_length"])
    write("v2/chunk_larger_than_array", ramp((3, 2), "<i4"), (8, 8), ["chunk_larger_than_array"])
    write("v2/rank5_F", ramp((2, 3, 1, 4, 3), "<i2"), (1, 2, 1, 3, 2), ["order_f"], order="F")
    some = [np.s_[0:3, 0:4], np.s_[6:7, 8:10]]
    write("v2/missing_chunks", data, (3, 4), ["missing_chunks"], only=some, fill_value=1)
    attributes = {"text": "Größe µm – 測", "int": 2**53, "float": 0.1, "none": None, "list": [1, [2, {}]], "": "empty"}
    write("v2/attributes", data, (3, 4), ["attributes"], attributes=attributes)


def groups() -> None:
    for name, consolidated in (("groups", False), ("consolidated", True)):
        path = f"v2/{name}"
        store = zarr.DirectoryStore(str(OUT.root / path))
        root = zarr.group(store)
        root.attrs.update({"title": "root", "n": 1})
        root.create_group("a").attrs["level"] = 1
        root.create_group("a/b/empty")
        more = ["consolidated"] if consolidated else []
        write(f"{path}/top", values(f"{path} top", (5,), "<f4"), 2, ["in_group", *more], attributes={"units": "m"})
        deep = ramp((4, 4), "<u1")
        write(f"{path}/a/b/deep", deep, (2, 2), ["in_group", "slash", *more], dimension_separator="/")
        if consolidated:
            zarr.consolidate_metadata(store)
        OUT.add_group(path, 2, {"top": "array", "a": "group"}, more, {"title": "root", "n": 1})
        OUT.add_group(f"{path}/a", 2, {"b": "group"}, more, {"level": 1})
        OUT.add_group(f"{path}/a/b", 2, {"deep": "array", "empty": "group"}, more)
        OUT.add_group(f"{path}/a/b/empty", 2, {}, more)


def later() -> None:
    c = numcodecs
    text = np.array(["", "a", "häß", "測試測試測", "🦓z"], "<U5")
    write("later/v2_U5", text, 2, ["fixed_length_utf32"])
    write("later/v2_U5_big", text, 2, ["fixed_length_utf32", "big_endian"], dtype=">U5")
    write("later/v2_U5_fill", text, 2, ["fixed_length_utf32", "missing_chunks"], only=[np.s_[0:2]], fill_value="Ä")
    ascii_text = np.array([b"", b"a", b"1234567", b"\xff\0x"], "S7")
    write("later/v2_S7", ascii_text, 3, ["null_terminated_bytes"])
    write(
        "later/v2_S7_fill",
        ascii_text,
        2,
        ["null_terminated_bytes", "fill_base64", "missing_chunks"],
        only=[np.s_[0:2]],
        fill_value=b"zz",
    )
    times = np.array(["2026-11-22T01:02:03.123456789", "NaT", "1960-01-01"], "<M8[ns]")
    write("later/v2_datetime64_ns", times, 2, ["datetime64"])
    write("later/v2_datetime64_D_big", times.astype("<M8[D]"), 2, ["datetime64", "big_endian"], dtype=">M8[D]")
    write(
        "later/v2_datetime64_fill",
        times,
        1,
        ["datetime64", "missing_chunks"],
        only=[np.s_[0:1]],
        fill_value=np.datetime64("NaT", "ns"),
    )
    write("later/v2_timedelta64_ms", np.array([0, -5, 2**40], "<m8[ms]"), 2, ["timedelta64"])
    record = np.dtype([("id", "<u2"), ("x", ">f8"), ("ok", "|b1"), ("tag", "S3")])
    rows = np.array([(1, 0.5, True, b"a"), (2, -1.5, False, b"bcd"), (65535, 1e300, True, b"")], record)
    write("later/v2_struct", rows, 2, ["struct"])
    write(
        "later/v2_struct_fill",
        rows,
        1,
        ["struct", "fill_base64", "missing_chunks"],
        only=[np.s_[0:2]],
        fill_value=rows[1],
    )
    write("later/v2_struct_null", rows, 2, ["struct", "fill_null"], fill_value=None)
    deep = np.dtype([("p", [("a", "<i2"), ("b", "<f4")]), ("v", "<i2", (2,))])
    write("later/v2_struct_nested", np.array([((1, 2.5), [3, 4]), ((-3, 4.5), [5, 6])], deep), 1, ["struct", "nested"])
    words = np.array(["", "a", "häßlich", "測試", "🦓", "nul\0inside", "x" * 40], dtype=object)
    write(
        "later/v2_vlen_utf8", words, 3, ["object", "vlen-utf8"], dtype=object, object_codec=c.VLenUTF8(), fill_value=""
    )
    write(
        "later/v2_vlen_utf8_fill",
        words,
        3,
        ["object", "vlen-utf8", "missing_chunks"],
        only=[np.s_[0:3]],
        dtype=object,
        object_codec=c.VLenUTF8(),
        fill_value="fehlt",
    )
    write(
        "later/v2_vlen_utf8_2d",
        words[:6].reshape(3, 2),
        (2, 2),
        ["object", "vlen-utf8", "order_f"],
        order="F",
        dtype=object,
        object_codec=c.VLenUTF8(),
        fill_value="",
    )
    blobs = np.array([b"", b"\0\xff", b"abc", bytes(range(40)), b"z"], dtype=object)
    write(
        "later/v2_vlen_bytes",
        blobs,
        2,
        ["object", "vlen-bytes"],
        dtype=object,
        object_codec=c.VLenBytes(),
        fill_value=None,
    )
    write("later/v2_json2", words, 3, ["object", "json2"], dtype=object, object_codec=c.JSON(), fill_value="")
    sexes = np.array(["b", "a", "b"], dtype=object)
    write(
        "later/v2_categorize",
        sexes,
        2,
        ["object", "categorize"],
        dtype=object,
        object_codec=c.Categorize(["a", "b"], dtype=object),
        fill_value="",
    )
    write("later/v2_base64", values("b64", (9, 4), "<i4"), (4, 3), ["base64"], compressor=c.Base64())


if __name__ == "__main__":
    folder = output_folder()
    stop_the_clock()
    for step in (compressors, filters, dtypes, fill_values, shapes_and_keys, groups, later):
        step()
    OUT.save(folder)
