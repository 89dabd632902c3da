"""What a signature reads, so that equal rows become equal canonical rows. No IO here.

Written into a snapshot, so that whoever loads it makes the same rows from requests without looking
at the model's graph.
"""

from __future__ import annotations

from typing import Literal

from pydantic.dataclasses import dataclass


@dataclass(frozen=True)
class FeatureSpec:
    """One input of a signature: a tensor, or a feature parsed out of a tf.Example.

    Attributes:
        name: of the feature or the tensor.
        kind: `dense` and `sparse` are what the graph's parser makes of an Example's feature;
            `tensor` is an input of the signature itself.
        dtype: as `float32`, `int64`, `string`.
        shape: of one row's value; -1 for a dimension that varies. A sparse feature has none.
        default: data (hexadecimal) that the parser puts in for a missing dense feature; None if it
            refuses the row. A missing sparse feature is the same to the parser as an empty one.
        in_key: False if the graph provably computes no answer from it.
    """

    name: str
    kind: Literal["dense", "sparse", "tensor"]
    dtype: str
    shape: tuple[int, ...] = ()
    default: str | None = None
    in_key: bool = True


@dataclass(frozen=True)
class SignatureSpec:
    """How the rows of one signature are made.

    Attributes:
        signature: its name.
        form: `examples` takes serialised tf.Examples and the graph's parser is known; `opaque`
            takes them too, but what the graph does with them is not known, so that every feature is
            in the row as it came; `tensors` takes one tensor for each feature.
        input_name: name of the input that takes the Examples; empty for `tensors`.
        features: what the parser or the signature names; empty for `opaque`.
        excluded: features left out of an `opaque` row because the configuration says so.
    """

    signature: str
    form: Literal["examples", "opaque", "tensors"]
    input_name: str = ""
    features: tuple[FeatureSpec, ...] = ()
    excluded: tuple[str, ...] = ()

    @property
    def key_features(self) -> tuple[FeatureSpec, ...]:
        """The features that are in a row, and so in its key."""
        return tuple(feature for feature in self.features if feature.in_key)
