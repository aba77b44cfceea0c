"""xarray's own tests of its Zarr backend, written through :class:`ZarrStore` and read with the engine "zarrdock"."""

import contextlib
import warnings
from collections.abc import Iterator
from typing import Any

import pytest

xr = pytest.importorskip("xarray")
zarr = pytest.importorskip("zarr")

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # of what xarray's tests would use and is not here
    theirs = pytest.importorskip("xarray.tests.test_backends")
    trees = pytest.importorskip("xarray.tests.test_backends_datatree")

from xarray.tests import conftest  # noqa: E402

import zarrdock  # noqa: E402
from zarrdock.adapters.xarray import XarrayBackend  # noqa: E402
from zarrdock.adapters.zarr_python import ZarrStore  # noqa: E402

FIXTURES = ("create_test_datatree", "simple_datatree", "time_unit", "use_dask", "unaligned_datatree_zarr_factory")
for module in (conftest, trees):  # not every release has all of them
    globals().update({name: getattr(module, name) for name in FIXTURES if hasattr(module, name)})

pytestmark = [
    pytest.mark.peer,
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore:.*(String|UTF32|[Cc]onsolidated|V3 specification|specification|Numcodecs).*"),
]


class Suite(theirs.ZarrBase):
    @contextlib.contextmanager
    def create_zarr_target(self) -> Iterator[Any]:
        yield ZarrStore(zarrdock.MemoryStore())

    @contextlib.contextmanager
    def open(self, path: Any, **kwargs: Any) -> Iterator[Any]:
        with xr.open_dataset(path, engine=XarrayBackend, **kwargs) as ds:
            yield ds


# Tests that cannot hold here, and why. Of both formats: none. Those that xarray itself skips are skipped here as well.
LEFT_OUT_V3 = {
    "test_compressor_encoding": "compares codecs with zarr-python's objects: the engine has JSON, which to_zarr takes",
    "test_hidden_zarr_keys": "for v2 alone, says the test",
}
LEFT_OUT_V2 = {
    "test_dimension_names": "for v3 alone, says the test",
    "test_shard_encoding_with_dask": "for v3 alone, says the test",
    "test_zarr_fill_value_in_encoding_on_read": "for v3 alone, says the test",
    "test_zarr_fill_value_setting": "asks for use_zarr_fill_value_as_mask=False and expects the mask: xarray's own "
    "engine does not hand the option on, and this one does",
}


def test_what_is_left_out_is_there() -> None:
    """A list of exceptions that xarray has made needless is out of date."""
    for name in {**LEFT_OUT_V3, **LEFT_OUT_V2}:
        assert callable(getattr(theirs.ZarrBase, name))


class TestV3(Suite):
    locals().update(dict.fromkeys(LEFT_OUT_V3))

    @pytest.fixture(autouse=True)
    def default_zarr_format(self) -> Iterator[int]:
        with zarr.config.set({"default_zarr_format": 3}):
            yield 3


class TestV2(Suite):
    locals().update(dict.fromkeys(LEFT_OUT_V2))

    @pytest.fixture(autouse=True)
    def default_zarr_format(self) -> Iterator[int]:
        with zarr.config.set({"default_zarr_format": 2}):
            yield 2


class TestTrees(trees.TestZarrDatatreeIO):
    """Written by zarr-python to files, read with the engine "zarrdock"."""

    engine = XarrayBackend

    test_zarr_encoding = None  # compares codecs with zarr-python's objects
    test_to_zarr_not_consolidated = None  # expects a warning where nothing is consolidated: nothing warns here

    @pytest.mark.filterwarnings("ignore:Duplicate name")
    def test_to_zarr_zip_store(self, tmpdir: Any, simple_datatree: Any, zarr_format: Any) -> None:
        """xarray expects this to fail with its own engine."""
        super().test_to_zarr_zip_store(tmpdir, simple_datatree, zarr_format)

    @pytest.fixture(autouse=True)
    def _engine(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def ours(function: Any) -> Any:
            return lambda *arguments, **options: function(*arguments, **options | {"engine": XarrayBackend})

        for name in ("open_datatree", "open_groups"):
            monkeypatch.setattr(trees, name, ours(getattr(xr, name)))
