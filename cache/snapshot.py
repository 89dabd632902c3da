"""The file format of a cache snapshot: writing, streaming, verifying. Plain files only.

    snapshot.json           SnapshotMeta as JSON
    entries-00000.bin ...   each: magic `ENCSNAP1`, then blocks; entries by seen count, most first

A block is framed by the length of its payload (u32) and the payload's CRC-32 (u32). The payload
holds n entries column by column, so that a batch of answers is written without a loop over its rows
(`cache.snapshot_block`). The whole canonical row is stored, not only its key: a hit compares it in
full, an invalidation by slice looks at its features, and verifying computes it again.
See docs/formats/snapshot.md.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator
from typing import Annotated, Any, BinaryIO

from pydantic import Field
from pydantic.dataclasses import dataclass

from tfx_encore.cache.answers import decode_answer
from tfx_encore.cache.keys import KeyMaker
from tfx_encore.cache.row_spec import SignatureSpec
from tfx_encore.cache.snapshot_block import FRAME, Block, Entry, check_frame, read_block
from tfx_encore.schemas.errors import DataError, SnapshotError
from tfx_encore.schemas.serial import from_json, to_json

SNAPSHOT_FORMAT = 1
META_FILE = "snapshot.json"
SHARD_BYTES = 16 * 2**20
_LARGEST_BLOCK = 2**30

_MAGIC = b"ENCSNAP1"
Opener = Callable[[str, str], Any]
"""Opens (path, mode) as a binary file; `open` itself, or `tfx.dsl.io.fileio.open`."""


@dataclass(frozen=True)
class SnapshotFile:
    """One file of entries: name, size in bytes, entries, hexadecimal SHA-256."""

    name: str
    bytes: int
    entries: int
    sha256: str


@dataclass(frozen=True)
class SnapshotMeta:
    """What a snapshot says of itself.

    Attributes:
        fingerprint: of the model whose answers these are.
        signatures: how the rows of each signature are made; an entry names one by its index.
        output_filter: outputs kept, sorted; empty for all.
        entries: number of answers.
        bytes: size of the files of entries.
        files: in the order of reading.
        generation: sequence of the newest invalidation record of the model when the computing of
            the answers began; records up to it do not withdraw them. 0 if nobody knew.
        format: of the files; a reader refuses one it does not know.
    """

    fingerprint: str
    signatures: tuple[SignatureSpec, ...]
    output_filter: tuple[str, ...]
    entries: int
    bytes: int
    files: tuple[SnapshotFile, ...]
    generation: Annotated[int, Field(ge=0, lt=2**63)] = 0
    format: int = SNAPSHOT_FORMAT

    def key_makers(self) -> tuple[KeyMaker, ...]:
        """One for each signature, in the order of their indices."""
        return tuple(
            KeyMaker(self.fingerprint, spec.signature, self.output_filter)
            for spec in self.signatures
        )


class SnapshotWriter:
    """Writes blocks into shards, then `snapshot.json`, which makes them a snapshot.

    Args:
        directory: where; it exists and is empty.
        opener: how files are opened.
        shard_bytes: a new file is begun once the current one has this size.
    """

    def __init__(
        self, directory: str, opener: Opener = open, shard_bytes: int = SHARD_BYTES
    ) -> None:
        self._directory = directory
        self._open = opener
        self._shard_bytes = shard_bytes
        self._files: list[SnapshotFile] = []
        self._file: BinaryIO | None = None
        self._digest = hashlib.sha256()
        self._size = 0
        self._count = 0

    def write(self, block: Block) -> None:
        """Appends a block; an empty one leaves no trace."""
        if not len(block):
            return
        if self._file is None:
            self._begin()
        self._put(block.frame())
        self._count += len(block)
        if self._size >= self._shard_bytes:
            self._end()

    def close(
        self,
        fingerprint: str,
        signatures: Iterable[SignatureSpec],
        output_filter: Iterable[str] = (),
        generation: int = 0,
    ) -> SnapshotMeta:
        """Ends the last shard and writes `snapshot.json`; returns what it says.

        Args:
            fingerprint: of the model.
            signatures: in the order of their indices.
            output_filter: outputs kept; empty for all.
            generation: see `SnapshotMeta`.
        """
        self._end()
        meta = SnapshotMeta(
            fingerprint=fingerprint,
            signatures=tuple(signatures),
            output_filter=tuple(sorted(set(output_filter))),
            entries=sum(file.entries for file in self._files),
            bytes=sum(file.bytes for file in self._files),
            files=tuple(self._files),
            generation=generation,
        )
        with self._open(f"{self._directory}/{META_FILE}", "wb") as file:
            file.write(to_json(meta, indent=2).encode() + b"\n")
        return meta

    def _begin(self) -> None:
        name = f"entries-{len(self._files):05d}.bin"
        self._file = self._open(f"{self._directory}/{name}", "wb")
        self._digest, self._size, self._count = hashlib.sha256(), 0, 0
        self._put(_MAGIC)

    def _put(self, data: bytes) -> None:
        assert self._file is not None
        self._file.write(data)
        self._digest.update(data)
        self._size += len(data)

    def _end(self) -> None:
        if self._file is None:
            return
        self._file.close()
        self._file = None
        name = f"entries-{len(self._files):05d}.bin"
        self._files.append(SnapshotFile(name, self._size, self._count, self._digest.hexdigest()))


def read_meta(directory: str, opener: Opener = open) -> SnapshotMeta:
    """Reads `snapshot.json`.

    Raises:
        SnapshotError: missing, not readable, or of another format.
    """
    path = f"{directory}/{META_FILE}"
    try:
        with opener(path, "rb") as file:
            meta = from_json(SnapshotMeta, file.read(), source=path)
    except (OSError, DataError) as error:
        raise SnapshotError(f"{path}: not a snapshot: {error}") from error
    if meta.format != SNAPSHOT_FORMAT:
        raise SnapshotError(
            f"{path}: snapshot format {meta.format}; this version reads {SNAPSHOT_FORMAT}: "
            "run CacheWarmer again with this version"
        )
    return meta


def read_entries(directory: str, opener: Opener = open) -> Iterator[Entry]:
    """Streams the entries, most frequent first, a block in memory at a time.

    Stop early to load only the head. Counts and digests of a file are checked at its end.

    Raises:
        SnapshotError: damaged, cut short, or not as `snapshot.json` says.
    """
    for block in read_blocks(directory, opener):
        yield from block.entries()


def read_blocks(directory: str, opener: Opener = open) -> Iterator[Block]:
    """Streams the blocks, each checked by its checksum.

    Raises:
        SnapshotError: as `read_entries`.
    """
    meta = read_meta(directory, opener)
    for item in meta.files:
        yield from _read_file(f"{directory}/{item.name}", item, len(meta.signatures), opener)


def verify_snapshot(directory: str, opener: Opener = open) -> SnapshotMeta:
    """Reads everything: sizes, digests, checksums, order, and that each key is its row's.

    Raises:
        SnapshotError: the first thing that is wrong, with its place.
    """
    meta = read_meta(directory, opener)
    makers = meta.key_makers()
    previous = None
    for place, entry in enumerate(read_entries(directory, opener)):
        if makers[entry.signature].key(entry.row) != entry.key:
            raise SnapshotError(f"{directory}: entry {place}: the key is not that of its row")
        if previous is not None and entry.seen > previous:
            raise SnapshotError(f"{directory}: entry {place} was seen more often than the last")
        try:
            decode_answer(entry.answer)
        except DataError as error:
            raise SnapshotError(f"{directory}: entry {place}: {error}") from error
        previous = entry.seen
    return meta


def _read_file(path: str, item: SnapshotFile, signatures: int, opener: Opener) -> Iterator[Block]:
    digest = hashlib.sha256(_MAGIC)
    size, count = len(_MAGIC), 0
    try:
        with opener(path, "rb") as file:
            _check(file.read(len(_MAGIC)) == _MAGIC, path, 0, "is not a file of entries")
            while header := file.read(FRAME.size):
                payload = _read_payload(file, header, path, size)
                digest.update(header)
                digest.update(payload)
                block = _block(payload, path, size)
                known = all(entry < signatures for entry in block.signatures)
                _check(known, path, size, "names no known signature")
                size += len(header) + len(payload)
                count += len(block)
                yield block
    except OSError as error:
        raise SnapshotError(f"{path}: cannot be read: {error}") from error
    told = f"has {size} bytes, {count} entries; snapshot.json says {item.bytes}, {item.entries}"
    _check((size, count) == (item.bytes, item.entries), path, size, told)
    _check(digest.hexdigest() == item.sha256, path, size, "does not have the digest it should")


def _read_payload(file: BinaryIO, header: bytes, path: str, at: int) -> bytes:
    _check(len(header) == FRAME.size, path, at, "is cut short")
    length = int(FRAME.unpack(header)[0])
    _check(length <= _LARGEST_BLOCK, path, at, f"holds a block of {length} bytes")
    payload = file.read(length)
    _check(len(payload) == length, path, at, "is cut short")
    _check(check_frame(header, payload), path, at, "fails a checksum")
    return payload


def _block(payload: bytes, path: str, at: int) -> Block:
    try:
        return read_block(payload)
    except DataError as error:
        _check(False, path, at, str(error))
        raise


def _check(fine: bool, path: str, at: int, problem: str) -> None:
    if not fine:
        raise SnapshotError(
            f"{path}: {problem} (at byte {at}); remove the snapshot and run CacheWarmer again"
        )
