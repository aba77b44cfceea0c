"""The face of a group, and walking a hierarchy."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any, TypeAlias, Unpack

from zarrdock.array.array import Array, Missing
from zarrdock.array.consolidated_copies import n_changes, note_change, place_of
from zarrdock.array.create import ArrayParameters, check_parameters, make_array, resolved_shape
from zarrdock.array.dtypes.dtype import data_type_of
from zarrdock.array.execution.drivers import send
from zarrdock.array.hierarchy import Hierarchy, consolidated_node, walk
from zarrdock.array.metadata.consolidated import consolidate, to_consolidated_v2
from zarrdock.array.metadata.v3 import ArrayMetadata, GroupMetadata, Node
from zarrdock.array.node import Attributes, Placed
from zarrdock.array.node_storage import (
    join,
    load,
    load_many,
    new_node_path,
    node_path,
    replace_node,
    require_group,
    save_new,
    update_metadata,
)
from zarrdock.array.planning.chunk_cache import ChunkCache
from zarrdock.codecs.write_options import DEFAULT_WRITE_OPTIONS, WriteOptions, WriteOptionsLike, write_options
from zarrdock.errors import (
    InvalidKeyError,
    MetadataError,
    NodeExistsError,
    NodeNotFoundError,
    ReadOnlyError,
    UnsupportedError,
    ZarrdockError,
)
from zarrdock.json_ import as_json, serialise
from zarrdock.stores.base import Read, Results, Store

if TYPE_CHECKING:
    from zarrdock.facts import Facts

__all__ = ["Group", "NodeOptions", "walk", "wrap"]

Member: TypeAlias = "Array | Group"


@dataclass(frozen=True, slots=True)
class NodeOptions:
    """Settings that nodes hand on to the nodes opened through them: read-only or not, how arrays are written, and where
    decoded chunks are kept, and whether missing ones are an error.
    """

    read_only: bool = False
    write: WriteOptions = DEFAULT_WRITE_OPTIONS
    chunk_cache: ChunkCache | None = None
    missing: Missing = "fill"


def wrap(store: Store, path: str, node: Node, options: NodeOptions, *, is_copy: bool = False) -> Member:
    """The face of a node whose metadata is known, from its own document or, ``is_copy``, from a consolidated one."""
    if isinstance(node, ArrayMetadata):
        array = Array(
            store,
            path,
            node,
            read_only=options.read_only,
            options=options.write,
            chunk_cache=options.chunk_cache,
            missing=options.missing,
        )
        if is_copy:
            array._distrust()
        return array
    return Group(store, path, node, options)


class Group(Placed):
    """Arrays and groups under one name. ``group["a/b"]`` opens a member; iterating gives names.

    With consolidated metadata members are found without a request; without, in a round for their names and one for
    all their documents.

    >>> group = zarrdock.create_group({}, attributes={"unit": "mm"})
    >>> _ = group.create_array("a/x", shape=4, dtype="int8")
    >>> group["a/x"].shape
    (4,)
    >>> list(group)
    ['a']
    """

    def __init__(
        self,
        store: Store,
        path: str,
        metadata: GroupMetadata,
        options: NodeOptions = NodeOptions(),
        *,
        holder: Group | None = None,
    ) -> None:
        self._store = store
        self._path = path
        self._metadata = metadata
        self._options = replace(options, read_only=options.read_only or store.read_only)
        self._holder = holder  # the group whose copy of metadata this one came from
        self._place = ""
        self._seen = n_changes()

    # -- what it is ---------------------------------------------------------------------------------------------------

    @property
    def metadata(self) -> GroupMetadata:
        """All metadata, consolidated nodes included."""
        return self._current()

    @property
    def read_only(self) -> bool:
        """True where writing is refused."""
        return self._options.read_only

    @property
    def zarr_format(self) -> int:
        """2 or 3."""
        return self._metadata.zarr_format

    @property
    def attrs(self) -> Attributes:
        """Attributes, as a mutable mapping; every change is an atomic update of what is stored.

        >>> group = zarrdock.create_group({})
        >>> group.attrs["unit"] = "mm"
        >>> group.attrs
        {'unit': 'mm'}
        """
        return Attributes(lambda: self._metadata.attributes, self._change_attributes)

    def __repr__(self) -> str:
        return f"<zarrdock.Group {self.name!r} in {self._store}>"

    # -- members ------------------------------------------------------------------------------------------------------

    def __getitem__(self, path: str) -> Member:
        member = node_path(path)
        if not member:
            return self
        metadata = self._current()
        if metadata.consolidated is not None and member in metadata.consolidated:
            return self._wrap(member, consolidated_node(self._store, self._path, metadata, member), is_copy=True)
        try:
            node = load(self._store, join(self._path, member), None, metadata.zarr_format, consolidated=False)
        except NodeNotFoundError as error:
            raise MemberNotFoundError(str(error)) from None
        return self._wrap(member, node, is_copy=False)

    def _wrap(self, member: str, node: Node, *, is_copy: bool) -> Member:
        """A member whose metadata is known, ``is_copy`` from what this group holds of it."""
        path = join(self._path, member)
        if isinstance(node, GroupMetadata):
            group = Group(self._store, path, node, self._options, holder=self if is_copy else None)
            group._seen = self._seen
            return group
        return wrap(self._store, path, node, self._options, is_copy=is_copy)

    def _current(self) -> GroupMetadata:
        """The metadata; where it holds a copy of that of members, and metadata of any was changed in this process since
        it was read, it is read again.
        """
        if self._metadata.consolidated is None:
            return self._metadata
        if not self._place:
            self._place = place_of(self._store, self._path)
        if n_changes(self._place) <= self._seen:
            return self._metadata
        seen = n_changes()
        copy = None if self._holder is None else self._holder._current().consolidated
        node = None
        if self._holder is not None and copy is not None:
            member = self._path[len(self._holder.path) + 1 :] if self._holder.path else self._path
            node = copy.get(member)
        if node is None:
            node = load(self._store, self._path, "group", 2 if self.zarr_format == 2 else 3)
        if not isinstance(node, GroupMetadata):
            raise NodeNotFoundError(f"at {self.name!r} in {self._store} there is now an array instead of a group")
        self._metadata = node
        self._seen = seen
        return self._metadata

    def get(self, path: str, default: Any = None) -> Any:
        """The member at ``path``, or ``default`` where there is none.

        >>> group = zarrdock.create_group({})
        >>> group.get("missing") is None
        True
        """
        try:
            return self[path]
        except NodeNotFoundError:
            return default

    def __contains__(self, path: object) -> bool:
        try:
            return isinstance(path, str) and self.get(path) is not None
        except MetadataError:  # there is one that can't be opened, here or at all
            return True

    def __iter__(self) -> Iterator[str]:
        """Names of all members, of those too that can't be opened.

        Without consolidated metadata that is a listing and a document each; ``list(group)`` asks for the length too,
        and so for everything twice: ``list(group.keys())`` does not.
        """
        metadata = self._current()
        if metadata.consolidated is not None:
            yield from sorted(name for name in metadata.consolidated if "/" not in name)
            return
        for name, node in Hierarchy(self._store).members(self._path, metadata):
            if isinstance(node, ZarrdockError) and not isinstance(node, MetadataError):
                raise node
            yield name

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def keys(self) -> Iterator[str]:
        """Names of the members."""
        return iter(self)

    def members(
        self, *, on_error: Callable[[str, ZarrdockError], object] | None = None
    ) -> Iterator[tuple[str, Member]]:
        """Names and members right below, in the order of their names. One that cannot be opened, since its metadata is
        damaged or asks for something that is not supported, hides no other: it is left out.

        Args:
            on_error: called with the name and the error of each member that is left out, of those too that the store
                does not give. By default a warning says so.
        Raises:
            StoreError: the store failed, and there is no ``on_error``.

        >>> group = zarrdock.create_group({})
        >>> _ = group.create_array("x", shape=4, dtype="int8")
        >>> _ = group.create_group("y")
        >>> [(name, type(member).__name__) for name, member in group.members()]
        [('x', 'Array'), ('y', 'Group')]
        """
        metadata = self._current()
        is_copy = metadata.consolidated is not None
        for name, node in _members(self._store, self._path, metadata):
            try:
                if isinstance(node, ZarrdockError):
                    raise node
                member = self._wrap(name, node, is_copy=is_copy)
            except ZarrdockError as error:
                if on_error is not None:
                    on_error(name, error)
                elif not isinstance(error, (MetadataError, UnsupportedError)):
                    raise
                else:
                    warnings.warn(f"{join(self._path, name)!r} is left out: {error}", RuntimeWarning, stacklevel=2)
                continue
            yield name, member

    def arrays(self) -> Iterator[tuple[str, Array]]:
        """Names and arrays right below.

        >>> group = zarrdock.create_group({})
        >>> _ = group.create_array("x", shape=4, dtype="int8")
        >>> [(name, array.shape) for name, array in group.arrays()]
        [('x', (4,))]
        """
        return ((name, member) for name, member in self.members() if isinstance(member, Array))

    def groups(self) -> Iterator[tuple[str, Group]]:
        """Names and groups right below."""
        return ((name, member) for name, member in self.members() if isinstance(member, Group))

    def array_keys(self) -> Iterator[str]:
        """Names of the arrays right below."""
        return (name for name, _ in self.arrays())

    def group_keys(self) -> Iterator[str]:
        """Names of the groups right below."""
        return (name for name, _ in self.groups())

    def nmembers(self, max_depth: int | None = 0) -> int:
        """Number of arrays and groups below.

        Args:
            max_depth: 0 counts those right below, 1 also those one level deeper, and so on; None counts all.

        >>> group = zarrdock.create_group({})
        >>> _ = group.create_array("a/b", shape=4, dtype="int8")
        >>> group.nmembers(), group.nmembers(max_depth=None)
        (1, 2)
        """
        return sum(1 for _ in self._walk(max_depth))

    def tree(self, max_depth: int | None = None) -> str:
        """The hierarchy below as text, one line per node; arrays with shape and data type.

        Args:
            max_depth: as for :meth:`nmembers`.

        >>> group = zarrdock.create_group(zarrdock.MemoryStore())
        >>> _ = group.create_array("a/b", shape=(4, 4), dtype="int16")
        >>> print(group.tree())
        /
        └── a
            └── b (4, 4) int16
        """
        below: dict[str, list[tuple[str, str]]] = {}
        for path, node in self._walk(max_depth):
            parent, _, name = path.rpartition("/")
            if isinstance(node, ArrayMetadata):
                name += f" {node.shape} {node.dtype}" if not node.unknown else f" {node.shape}"
            elif isinstance(node, ZarrdockError):
                name += f" (cannot be opened: {node})"
            below.setdefault(parent, []).append((path, name))

        def lines(path: str, margin: str) -> Iterator[str]:
            members = below.get(path, [])
            for i, (at, text) in enumerate(members):
                is_last = i == len(members) - 1
                yield f"{margin}{'└── ' if is_last else '├── '}{text}"
                yield from lines(at, margin + ("    " if is_last else "│   "))

        return "\n".join([self.name, *lines("", "")])

    def _walk(self, max_depth: int | None) -> Iterator[tuple[str, Node | ZarrdockError]]:
        nodes = walk(self._store, self._path, self._metadata)
        return ((path, node) for path, node in nodes if max_depth is None or path.count("/") <= max_depth)

    @property
    def info(self) -> Facts:
        """Facts of the group from its metadata: a dictionary that prints as a table, also in notebooks."""
        from zarrdock.facts import Facts

        facts = Facts({"Group": self.name, "Store": str(self._store), "Format": f"Zarr v{self.zarr_format}"})
        facts["Attributes"] = len(self._metadata.attributes)
        consolidated = self._metadata.consolidated
        facts["Consolidated metadata"] = "no" if consolidated is None else f"of {len(consolidated)} nodes"
        return facts

    def _repr_html_(self) -> str:
        return self.info._repr_html_()

    def create_group(self, name: str, *, attributes: Mapping[str, Any] | None = None, overwrite: bool = False) -> Group:
        """Make a group at ``name``, and groups at every level above it that is missing.

        Raises:
            NodeExistsError: a node is there, or an array at a level above it.
            ReadOnlyError: the group was opened for reading.

        >>> group = zarrdock.create_group({})
        >>> group.create_group("a/b", attributes={"unit": "mm"}).name
        '/a/b'
        """
        path = self._new_path(name)
        metadata = GroupMetadata(attributes=as_json(attributes or {}), zarr_format=self._metadata.zarr_format)
        check = self._start_check()
        self._make_parents(path)
        save_new(self._store, path, metadata, overwrite=overwrite)
        check()
        return Group(self._store, path, metadata, self._options)

    def require_group(self, name: str) -> Group:
        """The group at ``name``, made if it is missing.

        >>> group = zarrdock.create_group({})
        >>> group.require_group("a").name, group.require_group("a").name
        ('/a', '/a')
        """
        try:
            return self.create_group(name)
        except NodeExistsError:
            member = self[name]
            if isinstance(member, Group):
                return member
            raise

    def create_array(
        self,
        path: str,
        *,
        overwrite: bool = False,
        options: WriteOptionsLike = None,
        **parameters: Unpack[ArrayParameters],
    ) -> Array:
        """Make an array at ``path``, and groups at every level above it that is missing.

        Args:
            path: of the array below this group.
            overwrite: replace the node that is there.
            options: how the array is written; a mapping changes some of the group's own.
            parameters: those of :func:`zarrdock.create_array`.
        Raises:
            NodeExistsError, MetadataError, ReadOnlyError, StoreError. TypeError: an unknown keyword.

        >>> group = zarrdock.create_group(zarrdock.MemoryStore())
        >>> group.create_array("a/b", shape=(4, 4), dtype="int16", chunks=(2, 2)).path
        'a/b'
        """
        check_parameters(parameters, "create_array")
        write = write_options(options, self._options.write)
        found = self._new_path(path)
        check = self._start_check()
        array = make_array(
            self._store,
            found,
            parameters,
            zarr_format=3 if self._metadata.zarr_format == 3 else 2,
            overwrite=overwrite,
            options=write,
            chunk_cache=self._options.chunk_cache,
            prepare=partial(self._make_parents, found),
        )
        check()
        return array

    def require_array(
        self, path: str, *, options: WriteOptionsLike = None, **parameters: Unpack[ArrayParameters]
    ) -> Array:
        """The array at ``path``, made as :meth:`create_array` does if it is missing.

        Raises:
            NodeExistsError: the array there has another shape or data type, or there is a group.

        >>> group = zarrdock.create_group({})
        >>> group.require_array("x", shape=4, dtype="int8")[:] = 1
        >>> group.require_array("x", shape=4, dtype="int8")[...].tolist()
        [1, 1, 1, 1]
        """
        try:
            return self.create_array(path, options=options, **parameters)
        except NodeExistsError:
            member = self[path]
            if not isinstance(member, Array):
                raise
        wanted = resolved_shape(parameters)
        if wanted is not None and member.shape != wanted:
            raise NodeExistsError(f"the array {member.name!r} has the shape {member.shape}, not {wanted}")
        dtype = parameters.get("dtype", getattr(parameters.get("data"), "dtype", None))
        if dtype is not None and data_type_of(dtype, zarr_format=self.zarr_format).numpy != member.dtype:
            raise NodeExistsError(f"the array {member.name!r} has the data type {member.dtype}, not {dtype}")
        return member

    def __delitem__(self, path: str) -> None:
        self._check_writable()
        member = node_path(path)
        if not member or member not in self:
            raise MemberNotFoundError(f"there is no member {path!r} in {self.name!r}")
        replace_node(self._store, join(self._path, member), None)

    def _new_path(self, name: str) -> str:
        self._check_writable()
        member = new_node_path(name)
        if not member:
            raise InvalidKeyError("a member needs a name", store=self._store)
        return join(self._path, member)

    def _start_check(self) -> Callable[[], None]:
        """Make sure that the group was not deleted since it was opened: nobody would find a member of it. Remote stores
        are asked beside what is written, and the answer is looked at by the function that is returned.
        """
        read = [Read(join(self._path, "zarr.json" if self._metadata.zarr_format == 3 else ".zgroup"))]

        def check(found: Results, note: str = "") -> None:
            if found[0] is None:
                message = f"the group {self.name!r} in {self._store} was deleted since it was opened"
                raise NodeNotFoundError(message + note)

        future = send(self._store, read)
        if future is None:
            check(self._store.read(read))
            return lambda: None
        return lambda: check(future.result(), ": the new member was written, and create_group makes the group again")

    def _make_parents(self, path: str) -> None:
        """Make the groups between this one and a path below it."""
        start = len(self._path) + 1 if self._path else 0
        for n, letter in enumerate(path):
            if letter != "/" or n < start:
                continue
            parent = path[:n]
            try:
                save_new(self._store, parent, GroupMetadata(zarr_format=self._metadata.zarr_format), overwrite=False)
            except NodeExistsError:
                require_group(self._store, parent, self._metadata.zarr_format)

    def append(self, data: Mapping[str, Any], dim: str) -> slice:
        """Append to all arrays right below that have a dimension: a cube's data and its coordinates get the same rows.
        Any number of processes may append at once: each gets rows of its own.

        Rows stand in the order in which they were claimed, which is not that of the coordinate's values where writers
        come in another order: sort when reading, or write to the rows that are meant. The coordinate (the array that
        has the dimension's name) is written last.

        Where writing fails the rows are given back, and the arrays are as they were; where that can't be done, the
        error has a note that says which rows they are. So they are after a kill: fill value, or part of the data, and
        some of the arrays may be shorter until the next append.

        Args:
            data: values by name, for every array that has the dimension.
            dim: name of the dimension (``dimension_names``; in v2 the attribute ``_ARRAY_DIMENSIONS``).
        Returns:
            The rows that were written, as a slice along the dimension.
        Raises:
            SelectionError: arrays are missing, or the data does not fit. ConflictError: the arrays are of different
                lengths, as they are where others append to one after the other. Nothing was changed in either case.

        >>> import zarrdock
        >>> cube = zarrdock.create_group({})
        >>> _ = cube.create_array("time", shape=0, dtype="i8", chunks=100, dimension_names=["time"])
        >>> _ = cube.create_array("t2m", shape=(0, 3), dtype="f4", chunks=(100, 3), dimension_names=["time", "x"])
        >>> cube.append({"time": [7, 8], "t2m": [[1, 2, 3], [4, 5, 6]]}, dim="time")
        slice(0, 2, None)
        """
        from zarrdock.array.append_together import append_together

        self._check_writable()
        return append_together(self._arrays_now(data, dim), data, dim)

    def _arrays_now(self, names: Iterable[str], dim: str) -> dict[str, Array]:
        """The arrays of these names, and those that have the dimension, by the documents that are stored now."""
        metadata = self._current()
        wanted = {node_path(name) for name in names}
        if metadata.consolidated is not None:
            known = _members(self._store, self._path, metadata)
            wanted |= {name for name, node in known if isinstance(node, ArrayMetadata) and dim in (node.dims or ())}
        elif self._store.traits.listable:
            wanted |= set(self._store.list_dir(self._path).prefixes)
        found: dict[str, Array] = {}
        paths = sorted(wanted)
        nodes = load_many(self._store, [join(self._path, name) for name in paths], metadata.zarr_format, lenient=True)
        for name, node in zip(paths, nodes, strict=True):
            if isinstance(node, ArrayMetadata):
                member = self._wrap(name, node, is_copy=False) if name in names or dim in (node.dims or ()) else None
                if isinstance(member, Array):
                    found[name] = member
            elif isinstance(node, ZarrdockError):
                raise node
        return found

    # -- metadata -----------------------------------------------------------------------------------------------------

    def _check_writable(self) -> None:
        if self.read_only:
            raise ReadOnlyError(
                "the group was opened for reading only: open it with mode='r+'", key=self._path, store=self._store
            )

    def _change_attributes(self, change: Callable[[dict[str, Any]], dict[str, Any]]) -> None:
        self._check_writable()
        new = update_metadata(
            self._store,
            self._path,
            self._metadata,
            lambda stored: stored.replace(attributes=change(dict(stored.attributes))),
            attributes=True,
            single_writer=self._options.write.single_writer,
        )
        assert isinstance(new, GroupMetadata)
        self._metadata = new.replace(consolidated=self._metadata.consolidated)  # which is read again when it is used

    def consolidate(self) -> Group:
        """Write the metadata of all nodes below into this group's own document (v3) or into ``.zmetadata`` (v2), for
        readers that open many.

        It is a copy. What zarrdock adds, changes or removes later is brought up to date in it; what other programs
        change is not, and while nodes are changed by others it is better not made.

        >>> store = zarrdock.MemoryStore()
        >>> group = zarrdock.create_group(store)
        >>> _ = group.create_array("a/b", shape=4, dtype="int8")
        >>> list(group.consolidate().metadata.consolidated)
        ['a', 'a/b']
        """
        self._check_writable()
        bare = load(self._store, self._path, "group", 2 if self.zarr_format == 2 else 3, consolidated=False)
        assert isinstance(bare, GroupMetadata)
        bare = bare.replace(consolidated=None)
        nodes = {
            path: node for path, node in walk(self._store, self._path, bare) if not isinstance(node, ZarrdockError)
        }
        if self._metadata.zarr_format == 2:
            whole = consolidate(bare, nodes)
            self._store.write(join(self._path, ".zmetadata"), serialise(to_consolidated_v2(whole)))
            note_change(self._store, self._path)
            self._metadata, self._holder, self._seen = whole, None, n_changes()
            return self
        new = update_metadata(
            self._store,
            self._path,
            bare,
            lambda stored: consolidate(stored.replace(consolidated=None), nodes),
            attributes=False,
            single_writer=self._options.write.single_writer,
        )
        assert isinstance(new, GroupMetadata)
        self._metadata, self._holder, self._seen = new, None, n_changes()
        return self


class MemberNotFoundError(NodeNotFoundError, KeyError):
    """A group has no such member. A KeyError too, as for any mapping."""


def _members(store: Store, path: str, metadata: GroupMetadata) -> Iterator[tuple[str, Node | ZarrdockError]]:
    if metadata.consolidated is None:
        yield from Hierarchy(store, lenient=False).members(path, metadata)
        return
    nodes = metadata.consolidated
    for name in sorted({member.partition("/")[0] for member in nodes}):
        if name in nodes:
            try:
                node: Node | ZarrdockError = consolidated_node(store, path, metadata, name)
            except ZarrdockError as error:
                node = error
            yield name, node
