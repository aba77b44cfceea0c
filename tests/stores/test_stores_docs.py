"""The examples of docs/reference/stores.md that need no network run, in order, in an empty folder."""

import re
from pathlib import Path

import pytest

import zarrdock
from zarrdock.stores.fsspec_ import FsspecStore
from zarrdock.stores.local import LocalStore
from zarrdock.stores.memory import MemoryStore
from zarrdock.stores.retry import RetryPolicy


def test_the_examples_run(repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page = (repository / "docs/reference/stores.md").read_text("utf-8")
    blocks = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    assert len(blocks) >= 6
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {}
    for block in blocks:
        exec(compile(block, "stores.md", "exec"), names)


def test_the_others_compile(repository: Path) -> None:
    page = (repository / "docs/reference/stores.md").read_text("utf-8")
    for block in re.findall(r"```py\n(.*?)```", page, re.DOTALL):
        compile(block, "stores.md", "exec")


def test_the_figures_are_those_of_the_code(repository: Path, tmp_path: Path) -> None:
    page = (repository / "docs/reference/stores.md").read_text("utf-8")
    policy = RetryPolicy()
    assert f"{policy.attempts} tries" in page
    assert f"{policy.attempt_seconds:g} s a try" in page
    assert f"after {policy.deadline_seconds:g} s" in page
    assert policy.initial == 0.1
    assert policy.max == 10

    from obstore.store import S3Store as ObstoreS3

    from zarrdock.stores.gcs import GCSStore
    from zarrdock.stores.http_ import HTTPStore
    from zarrdock.stores.obstore_ import ObstoreStore
    from zarrdock.stores.s3 import S3Store

    options = {"key": "k", "secret": "s", "client_kwargs": {"region_name": "us-east-1"}}
    stores: dict[str, zarrdock.Store] = {
        "`S3Store`": S3Store("s3://b/p", storage_options=options),
        "`S3Store`, `direct_reads=False` (all through s3fs)": S3Store(
            "s3://b/p", storage_options=options, direct_reads=False
        ),
        "`GCSStore`": GCSStore("gs://b/p", storage_options={"token": "anon", "endpoint_url": "http://127.0.0.1:9"}),
        "`HTTPStore`": HTTPStore("http://127.0.0.1:9/p"),
        "`ObstoreStore`": ObstoreStore(ObstoreS3("b", region="us-east-1")),
        "`LocalStore`": LocalStore(tmp_path),
        "`MemoryStore`": MemoryStore(),
    }
    section = page[page.index("## How far apart") :]
    rows = dict(re.findall(r"^\| (.*?) \|.*\| ([^|]*) \|$", section, re.MULTILINE))
    units = {"kB": 1000, "KiB": 1024}
    for name, store in stores.items():
        number, _, unit = rows[name].partition(" ")
        assert store.traits.merge_gap_bytes == int(number) * units.get(unit, 1), name
        assert store.traits.n_concurrent == (64 if name == "`HTTPStore`" else 128) or not store.traits.remote
    assert FsspecStore.default_gap_bytes == int(rows["`FsspecStore`, remote"].split()[0]) * 1024
