"""A node's attributes as a mutable mapping: every change is an atomic update of the stored metadata."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, MutableMapping
from typing import TYPE_CHECKING, Any, Self

from zarrdock.json_ import as_json
from zarrdock.stores.base import Store

__all__ = ["Attributes", "Placed"]


# -- Where a node is: what the faces of arrays and groups say alike.


class Placed:
    """A node of a hierarchy: its store, and its path there."""

    _store: Store
    _path: str

    if TYPE_CHECKING:

        @property
        def metadata(self) -> Any: ...

        @property
        def attrs(self) -> Attributes: ...

    @property
    def store(self) -> Store:
        """The store of the hierarchy."""
        return self._store

    @property
    def path(self) -> str:
        """Path within the hierarchy; "" for the root."""
        return self._path

    @property
    def name(self) -> str:
        """Path with a leading "/", as zarr-python has it."""
        return "/" + self._path

    @property
    def basename(self) -> str:
        """Last part of the path."""
        return self._path.rpartition("/")[2]

    @property
    def pipeline_url(self) -> str:
        """URL pipeline of the node (ZEP 8), as :func:`zarrdock.open` and other implementations read it:
        ``s3://bucket/a.zip|zip:inner|zarr3:``. Credentials are left out; where no URL leads to it: UnsupportedError.
        """
        return self._store.pipeline_url(self._path, zarr_format=self.metadata.zarr_format)

    def update_attributes(self, attributes: Mapping[str, Any]) -> Self:
        """Set some attributes in one atomic update, as ``node.attrs.update(attributes)`` does.

        Returns:
            This node.

        >>> array = zarrdock.create_array({}, shape=3, dtype="int16", attributes={"unit": "mm"})
        >>> dict(array.update_attributes({"unit": "m", "scale": 2}).attrs)
        {'unit': 'm', 'scale': 2}
        """
        self.attrs.update(attributes)
        return self


Change = Callable[[dict[str, Any]], dict[str, Any]]


class Attributes(MutableMapping[str, Any]):
    """Attributes of an array or group.

    Reading is of what the node knew when it was opened, or last changed by this object; writing changes what is
    stored *now*, so that two processes that
    set different attributes both succeed. To change many with one write, use :meth:`update` or :meth:`put`. Values are
    what JSON holds; numpy's scalars and arrays become numbers and lists.

    >>> group = zarrdock.create_group({}, attributes={"unit": "mm"})
    >>> group.attrs.update(scale=2, origin=np.array([0, 4]))
    >>> group.attrs
    {'unit': 'mm', 'scale': 2, 'origin': [0, 4]}
    """

    def __init__(self, current: Callable[[], Mapping[str, Any]], change: Callable[[Change], None]) -> None:
        self._current = current
        self._change = change

    def __getitem__(self, name: str) -> Any:
        return self._current()[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._current())

    def __len__(self) -> int:
        return len(self._current())

    def __setitem__(self, name: str, value: Any) -> None:
        new = as_json(value)
        self._change(lambda stored: {**stored, name: new})

    def __delitem__(self, name: str) -> None:
        if name not in self._current():
            raise KeyError(name)
        self._change(lambda stored: {key: value for key, value in stored.items() if key != name})

    def update(self, *others: Any, **values: Any) -> None:
        """Set several with one write."""
        new = as_json(dict(*others, **values))
        self._change(lambda stored: {**stored, **new})

    def put(self, values: Mapping[str, Any]) -> None:
        """Replace all attributes by ``values``, with one write.

        >>> group = zarrdock.create_group({}, attributes={"unit": "mm"})
        >>> group.attrs.put({"scale": 2})
        >>> group.attrs
        {'scale': 2}
        """
        new = as_json(values)
        self._change(lambda stored: dict(new))

    def asdict(self) -> dict[str, Any]:
        """A copy."""
        return dict(self._current())

    def __repr__(self) -> str:
        return repr(self.asdict())
