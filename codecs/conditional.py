"""The ``conditional`` codec: for each chunk, which of some codecs are applied, said in a header of a few bits.

What HDF5 has as the filter mask of a chunk. Reading obeys the header and needs no setting. Writing needs a decision,
which is a setting of the writer and never part of the metadata.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, Literal, TypeAlias

import numpy as np
import numpy.typing as npt

from zarrdock.codecs.codec import BoundBytesBytes, Buffer, BytesBytesCodec, ByteSpec, Codec, Configuration
from zarrdock.errors import CodecError, MetadataError
from zarrdock.json_ import known_members

__all__ = ["BoundConditional", "Conditional", "Decision", "Trial", "with_decision"]

# All combinations are tried up to this number of codecs; with more, codecs are left out one by one while it pays.
_EXHAUSTIVE = 4
# Bound chains kept; metadata from elsewhere may have any number of codecs, and the header any of their combinations.
_MASKS = 64


class Trial:
    """A chunk that is about to be encoded, and what each combination of codecs would make of it.

    Attributes:
        data: the chunk's bytes.
        coords: of the chunk in the grid of all (inner) chunks of the array; None where that is not known, because a
            codec around the shard hides it.
        codecs: the configurations, in the order of the mask's bits.
    """

    __slots__ = ("_bound", "_encoded", "codecs", "coords", "data")

    def __init__(self, bound: BoundConditional, data: Buffer, coords: tuple[int, ...] | None) -> None:
        self._bound = bound
        self._encoded: dict[int, Buffer] = {0: data}
        self.data = data
        self.coords = coords
        self.codecs = bound.codecs

    def encoded(self, mask: int) -> Buffer:
        """The chunk, without header, with those codecs applied whose bits are set. Nothing is computed twice."""
        found = self._encoded.get(mask)
        if found is None:
            last = mask.bit_length() - 1
            before = mask & ~(1 << last)
            found = self._encoded[mask] = self._bound.step(mask).encode(self.encoded(before))
        return found

    def nbytes(self, mask: int) -> int:
        """Length of :meth:`encoded`."""
        return len(self.encoded(mask))


Decision: TypeAlias = "Literal['smaller', 'never', 'always'] | int | npt.NDArray[Any] | Callable[[Trial], int]"


@dataclass(frozen=True)
class Conditional(BytesBytesCodec):
    """Bytes-to-bytes codecs, each of them applied to a chunk or not.

    Args:
        codecs: the codecs, in their order: or their metadata.
        header_bits: bits of the header, a multiple of 8; None is as many as are needed. Bits without a codec are
            reserved for codecs to come, and 0.
        decision: of the writer. "smaller": the combination that makes the chunk smallest, found by trying; none, where
            nothing is gained. "never", "always". A mask for all chunks: bit i set applies codec i. An array of masks,
            one for each (inner) chunk of the array. A function of a :class:`Trial` that returns the mask; it may be
            called from several threads at once.
    Source: Zarr extensions, codec ``conditional``.

    >>> noise = np.random.default_rng(0).integers(0, 256, 1000, dtype="u1")
    >>> array = zarrdock.create_array({}, data=noise, compressors=zarrdock.Conditional((zarrdock.Zstd(),)))
    >>> bool((array[...] == noise).all())
    True
    """

    name: ClassVar[str] = "conditional"
    codecs: tuple[BytesBytesCodec, ...]
    header_bits: int | None = None
    decision: Decision = field(default="smaller", compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "codecs", _nested(self.codecs, new=True))
        fewest = -(-len(self.codecs) // 8) * 8
        bits: object = fewest if self.header_bits is None else self.header_bits
        if type(bits) is not int or bits % 8 or bits < fewest or bits > 2**16:
            expected = f"a multiple of 8, at least {fewest}"
            raise MetadataError(pointer="/header_bits", expected=expected, found=self.header_bits)
        object.__setattr__(self, "header_bits", bits)
        _check_decision(self.decision, len(self.codecs))

    @classmethod
    def from_user(cls, configuration: Configuration) -> Conditional:
        """Parse the configuration of a new array; nested codecs may omit members that follow from the array."""
        members = known_members(configuration, ("codecs", "header_bits"))
        return cls(**{"codecs": None, **members})

    @classmethod
    def from_json(cls, configuration: Configuration) -> Conditional:
        members = known_members(configuration, ("codecs", "header_bits"))
        return cls(_nested(members.get("codecs"), new=False), members.get("header_bits"))

    def to_json(self) -> dict[str, Any]:
        codecs = [codec.to_json() for codec in self.codecs]
        return {"name": self.name, "configuration": {"codecs": codecs, "header_bits": self.header_bits}}

    def with_defaults(self, spec: ByteSpec) -> Conditional:
        """The codec as metadata should have it: members that nested codecs derive from the chunk are filled in."""
        complete: list[BytesBytesCodec] = []
        for i, codec in enumerate(self.codecs):
            try:
                hook = getattr(codec, "with_defaults", None)
                complete.append(codec if hook is None else hook(spec))
                spec = _longer(spec, complete[-1].bind(spec).encoded)
            except MetadataError as error:
                raise error.below(f"/configuration/codecs/{i}") from error.__cause__
        return replace(self, codecs=tuple(complete))

    def bind(self, spec: ByteSpec) -> BoundConditional:
        return BoundConditional(self.with_defaults(spec), spec)


class BoundConditional(BoundBytesBytes):
    """Bound to the length of a chunk. Each combination of codecs is bound when it is first met."""

    __slots__ = ("_chains", "_decision", "_header_nbytes", "_needs_coords", "codecs", "decoded", "encoded")

    def __init__(self, codec: Conditional, spec: ByteSpec) -> None:
        assert codec.header_bits is not None
        self.codecs = codec.codecs
        self.decoded = spec
        self._header_nbytes = codec.header_bits // 8
        self._decision = codec.decision
        self._needs_coords = isinstance(codec.decision, np.ndarray) or callable(codec.decision)
        self._chains: dict[int, tuple[BoundBytesBytes, ...]] = {0: ()}
        longest = spec
        for nested in codec.codecs:
            longest = _longer(longest, nested.bind(longest).encoded)
        exact = spec.exact + self._header_nbytes if spec.exact is not None and not codec.codecs else None
        self.encoded = ByteSpec(exact, longest.limit + self._header_nbytes)

    @property
    def needs_coords(self) -> bool:
        return self._needs_coords

    def chain(self, mask: int) -> tuple[BoundBytesBytes, ...]:
        """The codecs of a mask, each bound to what the one before it makes."""
        found = self._chains.get(mask)
        if found is None:
            last = mask.bit_length() - 1
            before = self.chain(mask & ~(1 << last))
            bound = self.codecs[last].bind(before[-1].encoded if before else self.decoded)
            if len(self._chains) >= _MASKS:
                self._chains.clear()
                self._chains[0] = ()
            found = self._chains[mask] = (*before, bound)
        return found

    def step(self, mask: int) -> BoundBytesBytes:
        """The last codec of a mask."""
        return self.chain(mask)[-1]

    def encode(self, data: Buffer) -> Buffer:
        return self.encode_at(data, None)

    def encode_at(self, data: Buffer, coords: tuple[int, ...] | None) -> Buffer:
        trial = Trial(self, data, coords)
        mask = self._decide(trial)
        return b"".join((mask.to_bytes(self._header_nbytes, "little"), trial.encoded(mask)))

    def mask_of(self, data: Buffer) -> int:
        """The mask in the header of an encoded chunk."""
        n = self._header_nbytes
        header = bytes(memoryview(data)[:n])
        if len(header) < n:
            raise CodecError(f"{len(header)} bytes are fewer than the header has, {n}", codec=Conditional.name)
        mask = int.from_bytes(header, "little")
        if mask >> len(self.codecs):
            text = f"the header has bit {mask.bit_length() - 1} set, of a codec that the metadata does not have"
            raise CodecError(text, codec=Conditional.name)
        return mask

    def decode(self, data: Buffer) -> Buffer:
        chain = self.chain(self.mask_of(data))
        body: Buffer = memoryview(data)[self._header_nbytes :]
        for bound in reversed(chain):
            body = bound.decode(body)
        if not chain:
            n, spec = len(body), self.decoded
            if n > spec.limit or spec.exact not in (None, n):
                expected = f"at most {spec.limit}" if spec.exact is None else spec.exact
                raise CodecError(f"{n} bytes stored without a codec, expected {expected}", codec=Conditional.name)
        return body

    def decode_into(self, data: Buffer, out: memoryview) -> bool:
        chain = self.chain(self.mask_of(data))
        body: Buffer = memoryview(data)[self._header_nbytes :]
        for bound in reversed(chain[1:]):
            body = bound.decode(body)
        if chain:
            return chain[0].decode_into(body, out)
        if len(body) != len(out):
            return False
        out[:] = body
        return True

    def _decide(self, trial: Trial) -> int:
        decision = self._decision
        n = len(self.codecs)
        if isinstance(decision, str):
            if decision == "smaller":
                return _smallest(trial, n)
            return 0 if decision == "never" else (1 << n) - 1
        mask: Any = decision
        if isinstance(decision, np.ndarray):
            mask = self._looked_up(decision, trial.coords)
        elif callable(decision):
            mask = decision(trial)
        try:
            bits = int(mask)
        except (TypeError, ValueError):
            raise self._undecided(f"the decision was {mask!r}, which is no mask of bits") from None
        if not 0 <= bits < 1 << n:
            raise self._undecided(f"the decision was {bits}, where {n} codecs need a mask of {n} bits")
        return bits

    def _looked_up(self, masks: npt.NDArray[Any], coords: tuple[int, ...] | None) -> Any:
        if coords is None:
            raise self._undecided(
                "the chunk's place in the array is not known here, so no mask can be looked up for it"
            )
        if len(coords) != masks.ndim or any(c >= n for c, n in zip(coords, masks.shape, strict=True)):
            raise self._undecided(f"the array of masks, of shape {masks.shape}, has none for chunk {coords}")
        return masks[coords]

    def _undecided(self, message: str) -> CodecError:
        return CodecError(message, codec=Conditional.name, direction="encode")


def with_decision(codecs: Sequence[Codec], decision: Decision) -> tuple[Codec, ...]:
    """The same codecs, those that are conditional (in shards, too) to be written by ``decision``."""
    changed: list[Codec] = []
    for codec in codecs:
        if isinstance(codec, Conditional):
            nested = with_decision(codec.codecs, decision)
            codec = replace(codec, codecs=nested, decision=decision)  # type: ignore[arg-type]
        elif isinstance(inner := getattr(codec, "codecs", None), tuple):
            codec = replace(codec, codecs=with_decision(inner, decision))  # type: ignore[type-var]
        changed.append(codec)
    return tuple(changed)


def _smallest(trial: Trial, n: int) -> int:
    if n <= _EXHAUSTIVE:
        # The fewest codecs among equals: what costs nothing to store should not cost time to read.
        return min(range(1 << n), key=lambda mask: (trial.nbytes(mask), mask.bit_count()))
    best = (1 << n) - 1
    while best:
        fewer = [best & ~(1 << i) for i in range(n) if best >> i & 1]
        candidate = min(fewer, key=trial.nbytes)
        if trial.nbytes(candidate) > trial.nbytes(best):
            break
        best = candidate
    return best if trial.nbytes(best) < len(trial.data) else 0


def _longer(one: ByteSpec, other: ByteSpec) -> ByteSpec:
    """Size limit of the bytes after a codec that may be applied or skipped."""
    return ByteSpec(None, max(one.limit, other.limit), one.itemsize)


def _nested(given: object, *, new: bool) -> tuple[BytesBytesCodec, ...]:
    from zarrdock.codecs.builtin import parse_codec

    if not isinstance(given, list | tuple):
        raise MetadataError(pointer="/codecs", expected="a list of codecs", found=given)
    codecs: list[BytesBytesCodec] = []
    for i, item in enumerate(given):
        codec = item if isinstance(item, Codec) else parse_codec(item, f"/codecs/{i}", new=new)
        if not isinstance(codec, BytesBytesCodec):
            message = "conditional codecs work on bytes"
            raise MetadataError(message, pointer=f"/codecs/{i}", expected="a bytes-to-bytes codec", found=codec.name)
        codecs.append(codec)
    return tuple(codecs)


def _check_decision(decision: object, n: int) -> None:
    if isinstance(decision, str):
        if decision in ("smaller", "never", "always"):
            return
    elif isinstance(decision, np.ndarray):
        if decision.dtype.kind in "iub" and (
            not decision.size or 0 <= int(decision.min()) <= int(decision.max()) < 1 << n
        ):
            return
    elif callable(decision) or (type(decision) is int and 0 <= decision < 1 << n):
        return
    expected = f'"smaller", "never", "always", a mask of {n} bits, an array of such masks, or a function'
    raise MetadataError("no decision", pointer="/decision", expected=expected, found=decision)
