"""Transformed keys: how many distinct rows remain once the model's transform has seen them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import apache_beam as beam
from apache_beam.pvalue import TaggedOutput

from tfx_encore.cache.answers import encode_bodies
from tfx_encore.cache.keys import KeyMaker
from tfx_encore.cache.row_spec import SignatureSpec
from tfx_encore.cache.snapshot_block import cut
from tfx_encore.components.cache_warmer.head import HeadRow
from tfx_encore.components.cache_warmer.inference import Session, padded
from tfx_encore.components.packing import Batches, Packed, unpack
from tfx_encore.schemas.errors import DataError

GROUPS = "groups"  # kind of packs, with the columns key, before, after, place in the head or -1
DISTINCT = "distinct"


class TransformKeys(beam.DoFn):
    """Pack of distinct rows -> (bucket, packed transformed keys with what was seen of each).

    Args:
        path: of the SavedModel.
        spec: of the transform signature.
        outputs: transformed features to tell rows apart by; empty for all.
        fingerprint: of the model.
        signature: the signature whose raw rows these are.
        output_filter: part of their keys.
        batch_size: rows in each call.
        buckets: of transformed keys.
        folder: for the packs; every worker reaches it.
    """

    def __init__(
        self,
        *,
        path: str,
        spec: SignatureSpec,
        outputs: Sequence[str],
        fingerprint: str,
        signature: str,
        output_filter: Sequence[str],
        batch_size: int,
        buckets: int,
        folder: str,
    ) -> None:
        self._args = (path, spec, tuple(outputs))
        self._raw = (fingerprint, signature, tuple(output_filter))
        self._batch_size = batch_size
        self._buckets = buckets
        self._folder = folder

    def setup(self) -> None:
        """Loads the model and begins the hashes."""
        self._session = Session(*self._args)
        self._raw_keys = KeyMaker(*self._raw)
        self._keys = KeyMaker(self._raw[0], self._args[1].signature, self._args[2])

    def process(self, packed: Packed, head: Mapping[bytes, int]) -> Iterator[tuple[int, Packed]]:
        """Yields the keys of one pack; a row that the transform refuses keeps its raw key."""
        name = packed.path.rpartition("/")[2].removesuffix(".pack")
        batches = Batches(GROUPS, self._buckets, 4, folder=self._folder, name=name)
        rows = unpack(packed)
        for start in range(0, len(rows), self._batch_size):
            batch = rows[start : start + self._batch_size]
            raw = [self._raw_keys.key(row) for row, *_ in batch]
            keys = self._transform([example for *_, example in batch], raw)
            for key, raw_key, (_, before, after, _) in zip(keys, raw, batch, strict=True):
                values = (key, before, after, head.get(raw_key, -1))
                if batches.add(key, values, len(key) + 24):
                    yield from batches.flush()
        yield from batches.flush()

    def _transform(self, examples: list[bytes], raw: list[bytes]) -> list[bytes]:
        try:
            outputs = self._session.answer(padded(examples, self._batch_size))
        except DataError:
            if len(examples) == 1:
                return raw
            pairs = zip(examples, raw, strict=True)
            return [self._transform([example], [key])[0] for example, key in pairs]
        rows = cut(*encode_bodies(outputs))
        return [self._keys.key(row) for row in rows[: len(examples)]]


class MergeGroups(beam.DoFn):
    """(bucket, packs) -> [times seen after the cut, places] of each key of the head that was.

    The number of distinct keys seen before the cut is the output `distinct`.
    """

    def process(self, element: tuple[int, Iterable[Packed]]) -> Iterator[Any]:
        """Yields what is known of one bucket."""
        groups: dict[bytes, tuple[int, int, list[int]]] = {}
        for packed in element[1]:
            for key, before, after, place in zip(*unpack(packed), strict=True):
                known = groups.get(key, (0, 0, []))
                if place >= 0:
                    known[2].append(place)
                groups[key] = (known[0] + before, known[1] + after, known[2])
        distinct = sum(before > 0 for before, _, _ in groups.values())
        yield TaggedOutput(DISTINCT, {DISTINCT: distinct})
        for _, after, places in groups.values():
            if places and after:
                yield [after, sorted(places)]


def places_of(head: Sequence[HeadRow]) -> dict[bytes, int]:
    """Row key -> place in the head."""
    return {row.key: place for place, row in enumerate(head)}
