"""The requests of every operation, beside zarr-python's: ``python -m tools.request_table PAGE``.

Both run in the same process against the same servers through the same counting proxy. zarr-python is imported only
here, and only to be measured; where it can't do something the table has a dash.
"""

from __future__ import annotations

import logging
import sys
import warnings
from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final, TypeAlias

from support.operations import (
    ACROSS,
    DELAY_SECONDS,
    INSIDE,
    NEW,
    ONE_SHARD,
    OPERATIONS,
    PART,
    Box,
    Call,
    Counted,
    Place,
    Prepare,
    Service,
    ZarrFormat,
    count,
    hierarchies,
    measure,
    place,
    values,
    without_many_objects,
)

__all__ = ["document", "main", "run"]

# A service, and the name of an operation -> what zarrdock and zarr-python took.
Rows: TypeAlias = dict[tuple[Service, str], tuple[Counted, Counted | None]]

# Other people's servers, so that neither side is at home.
SHOWN: Final[tuple[Service, ...]] = ("S3 (moto)", "GCS (emulator)", "Azure (Azurite)", "HTTP")


def _store(place: Place, path: str) -> Any:
    """zarr-python's store, on a filesystem that has forgotten what it listed."""
    from zarr.storage import FsspecStore

    store = FsspecStore.from_url(place.url(path), storage_options=place.options, read_only=place.scheme == "http")
    store.fs.invalidate_cache()
    return store


def _get(key: str, make_range: Callable[[Any], Any] = lambda abc: None) -> Prepare:
    def prepare(place: Place) -> Call:
        import zarr.abc.store
        from zarr.core.buffer import default_buffer_prototype
        from zarr.core.sync import sync

        store = _store(place, "volume")
        return lambda: sync(store.get(key, default_buffer_prototype(), make_range(zarr.abc.store)))

    return prepare


def _open(path: str, zarr_format: ZarrFormat | None) -> Prepare:
    def prepare(place: Place) -> Call:
        import zarr

        store = _store(place, path)
        return lambda: zarr.open_array(store, mode="r", zarr_format=zarr_format)

    return prepare


def _child(path: str, zarr_format: ZarrFormat | None) -> Prepare:
    def prepare(place: Place) -> Call:
        import zarr

        store = _store(place, path)
        return lambda: zarr.open_group(store, mode="r", zarr_format=zarr_format)["g2/a"].attrs.asdict()

    return prepare


def _read(box: Box, *, hot: bool = False) -> Prepare:
    def prepare(place: Place) -> Call:
        import zarr

        array: Any = zarr.open_array(_store(place, "volume"), mode="r", zarr_format=3)
        if hot:
            array[box]
        return lambda: array[box]

    return prepare


def _list(path: str) -> Prepare:
    def prepare(place: Place) -> Call:
        import zarr

        store = _store(place, path)
        return lambda: list(zarr.open_group(store, mode="r", zarr_format=3).arrays())

    return prepare


def _members(place: Place) -> Call:
    import zarr

    store = _store(place, "plain")
    return lambda: list(zarr.open_group(store, mode="r", zarr_format=3).members())


def _create(*, overwrite: bool = False) -> Prepare:
    def prepare(place: Place) -> Call:
        import zarr

        store = _store(place, place.new())
        return lambda: zarr.create_array(store, overwrite=overwrite, **NEW)

    return prepare


def _write(box: Box, *, existing: bool = False) -> Prepare:
    def prepare(place: Place) -> Call:
        import zarr

        array: Any = zarr.create_array(_store(place, place.new()), **NEW)
        if existing:
            array[ONE_SHARD] = values()[ONE_SHARD]

        def write() -> None:
            array[box] = values()[box]

        return write

    return prepare


THEIRS: Final[Mapping[str, Prepare]] = {
    "get a whole object": _get("zarr.json"),
    "get a range": _get("zarr.json", lambda abc: abc.RangeByteRequest(5, 50)),
    "get the last bytes": _get("zarr.json", lambda abc: abc.SuffixByteRequest(20)),
    "get what is missing": _get("nothing"),
    "open an array, format known": _open("volume", 3),
    "open an array, format unknown": _open("volume", None),
    "open a v2 array, format unknown": _open("v2", None),
    "open a consolidated group, and its child's child": _child("tree", 3),
    "the same, format unknown": _child("tree", None),
    "the same, v2, format unknown": _child("tree2", None),
    "box inside a shard, cold": _read(INSIDE),
    "box inside a shard, hot": _read(INSIDE, hot=True),
    "box over 8 shards, cold": _read(ACROSS),
    "box over 8 shards, hot": _read(ACROSS, hot=True),
    "a whole shard": _read(ONE_SHARD),
    "open a consolidated group of 1,000 arrays, and all of them": _list("many"),
    "open a group without consolidated metadata, and its 4 members": _members,
    "create an array": _create(),
    "create an array with overwrite": _create(overwrite=True),
    "write a full shard": _write(ONE_SHARD),
    "write a part of a shard": _write(PART, existing=True),
}


def _peer(name: str, where: Place) -> Counted | None:
    """Cost of zarr-python; None if it cannot do the operation."""
    if name not in THEIRS:
        return None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of its own, on formats and shutdown
        try:
            counts = [count(where.proxy, THEIRS[name](where)) for _ in range(2)]
        except (NotImplementedError, ValueError):  # the latter from adlfs, for ranges from the end
            return None
    return min(counts, key=lambda counted: (counted.rounds, counted.requests))


def run() -> Rows:
    """Count everything."""
    rows: Rows = {}
    items = without_many_objects(hierarchies())
    for service in SHOWN:
        with place(service, items) as where:
            for operation in OPERATIONS:
                if operation.is_for(where):
                    rows[service, operation.name] = measure(operation, where), _peer(operation.name, where)
    return rows


def table(rows: Rows) -> str:
    """The table in Markdown."""
    lines = [
        "| operation | budget | " + " | ".join(f"{service} | zarr-python" for service in SHOWN) + " |",
        "|---|---" + "|---|---" * len(SHOWN) + "|",
    ]
    for operation in OPERATIONS:
        cells = [f"{operation.rounds} / {operation.requests}"]
        for service in SHOWN:
            ours, theirs = rows.get((service, operation.name), (None, None))
            cells += [str(ours or ""), str(theirs or ("–" if ours else ""))]
        lines.append(f"| {operation.name} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


HEADING: Final = """# Requests

What each operation costs on the wire: round trips one after another / requests. The budget is what zarrdock may take
at most, and what `tests/budgets` holds it to, on S3 (moto and a strict fake), on S3 by obstore, on Google Cloud
Storage (the emulator and a strict fake), on Azure (Azurite and a strict fake) and on a web server. Beside it
zarr-python's `FsspecStore`, measured in the same run through the same proxy: zarr {zarr}, s3fs {s3fs},
gcsfs {gcsfs}, adlfs {adlfs}, fsspec {fsspec}.

Made by `python -m tools.request_table docs/measurements/requests.md`. A proxy stands before the service, delays every
request by {delay:g} s and keeps its time: rounds are the longest chain of requests of which each began when the one
before had been answered. Each operation starts with a store that has asked for nothing yet; filesystems have
forgotten what they listed. "Hot" is the second read of the same array. A dash: not possible.

"""

NOTES: Final = """
The volume is 64 x 64 x 64 uint16 in 8 shards of 64 chunks. The box inside a shard takes 27 chunks, the one over 8
shards a corner of each. The trees have 4 groups with an array each.

How it comes about:

- *One GET a read*, whole, ranged, or from the end, and no HEAD before it: a missing key is the answer 404.
- *Azure knows no ranges from the end*: where the end of an object is read (the index of a shard, the last bytes), its
  size is asked for first. That is one more request for each, and one more round, than the budget says.
- *One round to open.* All documents that may say what is there are asked for together.
- *One round for a hot read.* The shard's index is kept with the version it came from, and the data request itself
  asks for that version; if the shard has changed, the answer says so and the index is read again.
- *A whole shard is one request* once nearly all of it is wanted: index and chunks come together.
- *Merging*: chunks of a shard that lie close together are one request; how close is the store's `merge_gap_bytes`
  (see `docs/reference/stores.md`).
- *Creation* is one PUT on condition that there is nothing; zarr-python looks first, so that two processes can both
  believe to have created the array. With `overwrite` the place is listed, so that nothing of the old array stays.
  Below the root of a store the documents of the groups above are asked for beside it, since they may hold a copy.
- *A write* relies on the array's document. One that was read or written more than two seconds ago is asked for again,
  beside the other requests of the write (see `docs/design/metadata-copies.md`).
- *A part of a shard* is one GET and one PUT on condition that the shard is still the same. zarr-python's PUT has no
  condition: of two writers one loses.
- *Not counted*: a service that speaks S3's protocol and is not Amazon's is asked once in a process, before the first
  conditional write, whether it keeps conditions: five small requests in four rounds (see `docs/reference/stores.md`).
- *Without consolidated metadata* a group's members are one page of listing for each 1,000 names, then all their
  documents in one round.
"""


def document(rows: Rows) -> str:
    """The whole page."""
    names = {"zarr": "zarr", "s3fs": "s3fs", "gcsfs": "gcsfs", "adlfs": "adlfs", "fsspec": "fsspec"}
    heading = HEADING.format(delay=DELAY_SECONDS, **{name: version(package) for name, package in names.items()})
    return heading + table(rows) + NOTES


def main(arguments: Sequence[str]) -> None:
    """Measure, and write the page to the path given."""
    logging.getLogger("asyncio").setLevel(logging.CRITICAL)  # sessions that zarr-python leaves open at the end
    Path(arguments[0]).write_text(document(run()), "utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
