"""The corpus of documents that others write: each is read as it is meant, says what was unusual, and is written
strictly. Beside it stands what zarr-python and TensorStore do with each.
"""

import importlib.util
import json
import sys
import warnings
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

import zarrdock
from zarrdock.checking import check
from zarrdock.errors import UnsupportedError

HERE = Path(__file__).parent
FILES = sorted((HERE / "corpus").glob("*.json"))


def load(name: str) -> ModuleType:
    """A script beside this file."""
    spec = importlib.util.spec_from_file_location(f"documents_{name}", HERE / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


peers = load("peers")


def values_of(array: zarrdock.Array) -> Any:
    return peers.plain(np.asarray(array[...]).tolist())


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_it_is_read_as_meant_and_written_strictly(file: Path, tmp_path: Path) -> None:
    case = json.loads(file.read_text(encoding="utf-8"))
    peers.unpack(case["keys"], tmp_path)
    root = zarrdock.open(tmp_path, "r+")
    array = root[case["path"]] if isinstance(root, zarrdock.Group) else root
    with warnings.catch_warnings():
        if "warns" in case:
            warnings.simplefilter("ignore")
        assert values_of(array) == case["values"]
    leniencies = array.metadata.leniencies
    places = {f"{one.document}{'#' if one.pointer else ''}{one.pointer}" for one in leniencies}
    assert set(case["read_leniently"]) <= places
    assert bool(places) == bool(case["read_leniently"])
    if "dims" in case:
        assert array.dimension_names == tuple(case["dims"])
    if "attributes" in case:
        assert dict(array.attrs) == case["attributes"]
    said = [problem.message for problem in check(tmp_path).problems]
    for one in (*leniencies, *root.metadata.leniencies):
        assert any(str(one) in message for message in said)
    if "warns" in case:
        assert any(case["warns"] in message for message in said)
        return
    # Written again it is strict, and says the same.
    array.attrs["written"] = True
    if array.ndim:
        array.resize(array.shape)
    again = zarrdock.open_array(tmp_path, path=case["path"])
    assert values_of(again) == case["values"]
    assert again.metadata.leniencies == ()
    assert again.metadata.fill_value == array.metadata.fill_value or again.fill_value != again.fill_value


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_a_copy_is_strict(file: Path, tmp_path: Path) -> None:
    case = json.loads(file.read_text(encoding="utf-8"))
    peers.unpack(case["keys"], tmp_path)
    if "warns" in case:
        pytest.skip("its chunks are not found")
    for zarr_format in (2, 3):
        target: dict[str, bytes] = {}
        try:
            zarrdock.copy(tmp_path, target, zarr_format=zarr_format)
        except UnsupportedError:
            continue
        copied = zarrdock.open_array(target, path=case["path"])
        assert values_of(copied) == case["values"]
        assert copied.metadata.leniencies == ()
        assert check(target).problems == ()


def test_the_corpus_is_what_its_script_writes(tmp_path: Path) -> None:
    make = load("make")
    make.write_corpus(tmp_path)
    made = {file.name: file.read_text(encoding="utf-8") for file in tmp_path.iterdir()}
    assert made.keys() == {file.name for file in FILES}
    for file in FILES:
        if "blosc" not in file.stem:  # other versions of the library may compress otherwise
            assert made[file.name] == file.read_text(encoding="utf-8")
    assert peers.readme(HERE) == (HERE / "README.md").read_text(encoding="utf-8")


@pytest.mark.peer
@pytest.mark.parametrize("peer", sorted(peers.PEERS))
def test_peers_do_what_is_recorded(peer: str) -> None:
    try:
        number = version(peers.PEERS[peer])
    except PackageNotFoundError:
        pytest.skip(f"{peer} is not installed")
    recorded = json.loads((HERE / "peers.json").read_text())[peer].get(number)
    if recorded is None:
        pytest.skip(f"nothing is recorded of {peer} {number}: python tests/documents/make.py --peers")
    assert peers.verdicts(peer, FILES) == recorded
