"""Which features a SavedModel's signatures read."""

from __future__ import annotations

from typing import Optional

from tfx_encore.cache.saved_model_graph import load_meta_graph, read_signature, signature_names


def features_read(path: str, signatures: tuple[str, ...] = ()) -> Optional[tuple[str, ...]]:
    """Features that any of `signatures` computes answers from, sorted; None if it cannot be told.

    Args:
        path: of a SavedModel.
        signatures: those that it does not have are passed over; all of its own by default.

    Raises:
        ModelError: no SavedModel there.
    """
    meta = load_meta_graph(path)
    names = [name for name in signature_names(meta) if not signatures or name in signatures]
    readings = [read_signature(meta, name).features_read for name in names]
    if not readings or any(reading is None for reading in readings):
        return None
    return tuple(sorted({feature for reading in readings for feature in reading or ()}))
