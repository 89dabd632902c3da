"""Transformed keys: how many distinct rows remain once the model's transform has seen them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import apache_beam as beam

from tfx_encore.cache.answers import encode_bodies
from tfx_encore.cache.keys import KeyMaker
from tfx_encore.cache.row_spec import SignatureSpec
from tfx_encore.cache.snapshot_block import cut
from tfx_encore.components.cache_warmer.counting import Seen
from tfx_encore.components.cache_warmer.head import HeadRow
from tfx_encore.components.cache_warmer.inference import Session, padded
from tfx_encore.components.cache_warmer.reading import write_json
from tfx_encore.schemas.errors import DataError

Group = tuple[int, int, tuple[int, ...]]
"""Rows of one transformed key: seen before the cut, after it, places in the head."""


class TransformKeys(beam.DoFn):
    """Batch of distinct rows -> (transformed key, Group) for each.

    Args:
        path: of the SavedModel.
        spec: of the transform signature.
        outputs: transformed features to tell rows apart by; empty for all.
        fingerprint: of the model.
        signature: the signature whose raw rows these are.
        output_filter: part of their keys.
        batch_size: rows in each call.
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
    ) -> None:
        self._args = (path, spec, tuple(outputs))
        self._raw = (fingerprint, signature, tuple(output_filter))
        self._batch_size = batch_size

    def setup(self) -> None:
        """Loads the model and begins the hashes."""
        self._session = Session(*self._args)
        self._raw_keys = KeyMaker(*self._raw)
        self._keys = KeyMaker(self._raw[0], self._args[1].signature, self._args[2])

    def process(
        self,
        batch: Sequence[tuple[tuple[int, bytes], Seen]],
        head: Mapping[bytes, int],
    ) -> Iterator[tuple[bytes, Group]]:
        """Yields a pair for each row; a row that the transform refuses keeps its raw key."""
        raw = [self._raw_keys.key(row) for (_, row), _ in batch]
        keys = self._transform([seen[2] for _, seen in batch], raw)
        for key, raw_key, (_, (before, after, _)) in zip(keys, raw, batch, strict=True):
            place = head.get(raw_key)
            yield key, (before, after, () if place is None else (place,))

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


def merge_groups(groups: Iterable[Group]) -> Group:
    """Adds up the rows of one transformed key."""
    before = after = 0
    places: list[int] = []
    for more_before, more_after, more in groups:
        before += more_before
        after += more_after
        places.extend(more)
    return before, after, tuple(places)


def places_of(head: Sequence[HeadRow]) -> dict[bytes, int]:
    """Row key -> place in the head."""
    return {row.key: place for place, row in enumerate(head)}


def save_groups(groups: Any, path: str) -> None:
    """Saves the number of distinct transformed keys, and those of the head (no more than it has).

    Args:
        groups: (transformed key, Group), keys distinct.
        path: prefix of two JSON files.
    """
    _ = (
        groups
        | "Count transformed" >> beam.Map(lambda item: int(item[1][0] > 0))
        | "Sum transformed" >> beam.CombineGlobally(sum)
        | "Save transformed" >> beam.Map(write_json, f"{path}-distinct.json")
    )
    _ = (
        groups
        | "Of the head" >> beam.Filter(lambda item: item[1][2] and item[1][1])
        | "Held and places" >> beam.Map(lambda item: [item[1][1], list(item[1][2])])
        | "All of the head" >> beam.combiners.ToList()
        | "Save the head's" >> beam.Map(write_json, f"{path}-held.json")
    )
