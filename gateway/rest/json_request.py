"""Predict requests from JSON. No IO here.

util/json_tensor.cc, FillPredictRequestFromJson: what is accepted, what becomes of it, which error
comes first and in which words. An input that may be any of several (an unnamed value where the
signature has several inputs) is the first by name; TensorFlow Serving takes whichever its hash map
gives first.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Literal, NamedTuple

from tfx_encore.gateway.errors import ServingError, invalid
from tfx_encore.gateway.rest.json_careful import Members
from tfx_encore.gateway.rest.json_debug import debug_string
from tfx_encore.gateway.rest.json_document import (
    JsonObject,
    member,
    members,
    parse_request,
    shown,
    signature_name,
)
from tfx_encore.gateway.rest.json_leaves import even_leaves, is_base64, quick_values
from tfx_encore.gateway.rest.json_tensors import fill, shape_of, shaped, tensor
from tfx_encore.gateway.signature import Array, Tensors, TensorSpec

Format = Literal["row", "columnar"]
Specs = Mapping[str, TensorSpec]

_MISSING: Any = object()


class JsonPredict(NamedTuple):
    """A Predict request.

    Attributes:
        signature: as the request names it; empty if it does not.
        format: of the request, and so of the answer.
        inputs: as given; whether they are all is for whoever knows the signature to check.
    """

    signature: str
    format: Format
    inputs: Tensors


def parse_predict(body: bytes, inputs_of: Callable[[str], Specs]) -> JsonPredict:
    """Reads the body of a Predict request.

    Args:
        body: of the request, decompressed.
        inputs_of: the inputs of a signature (empty for the default one); raises ServingError if
            there is no such signature.

    Raises:
        ServingError: as TensorFlow Serving.
    """
    document = parse_request(body)
    signature = signature_name(document)
    specs = inputs_of(signature)
    if not specs:
        raise invalid(f"Failed to get input map for signature: {signature or 'DEFAULT'}")
    instances = member(document, "instances", _MISSING)
    inputs = member(document, "inputs", _MISSING)
    if instances is not _MISSING:
        _check_instances(document, instances, inputs)
        return JsonPredict(signature, "row", _rows(instances, specs))
    if inputs is _MISSING:
        raise invalid("Missing 'inputs' or 'instances' key")
    return JsonPredict(signature, "columnar", _columns(inputs, specs))


def _check_instances(document: JsonObject, instances: Any, inputs: Any) -> None:
    if inputs is not _MISSING:
        problem = (
            "Not formatted correctly expecting only one of 'inputs' or 'instances' keys to exist "
        )
    elif not isinstance(instances, list):
        problem = "Expecting 'instances' to be an list/array"
    elif not instances:
        problem = "No values in 'instances' array"
    else:
        return
    raise invalid(f"JSON Value: {debug_string(document)} {problem}")


# --- the columnar format --------------------------------------------------------------------------


def _columns(inputs: Any, specs: Specs) -> Tensors:
    if not isinstance(inputs, (dict, Members)) or is_base64(inputs):
        if len(specs) > 1:
            raise invalid(
                "inputs is a plain value/list, but expecting an object as multiple input tensors "
                "required as per tensorinfo_map"
            )
        name = next(iter(specs))
        return {name: tensor(inputs, name, specs[name].dtype)}
    found = {}
    for name in sorted(specs):
        value = member(inputs, name, _MISSING)
        if value is _MISSING:
            raise invalid(f"Missing named input: {name} in 'inputs' object.")
        found[name] = tensor(value, name, specs[name].dtype)
    return found


# --- the row format -------------------------------------------------------------------------------


def _rows(instances: list[Any], specs: Specs) -> Tensors:
    first = instances[0]
    if not isinstance(first, (dict, Members)) and len(specs) > 1:
        raise invalid(
            "instances is a plain list, but expecting list of objects as multiple input tensors "
            "required as per tensorinfo_map"
        )
    quick = _quick_rows(instances, specs)
    if quick is not None:
        return quick
    rows = _Rows(specs)
    if _is_element_object(first):
        for place, item in enumerate(instances):
            rows.add_object(place, item)
    else:
        for place, item in enumerate(instances):
            rows.add_value(place, item)
    return rows.tensors(len(instances))


def _is_element_object(value: Any) -> bool:
    return isinstance(value, (dict, Members)) and not is_base64(value)


def _quick_rows(instances: list[Any], specs: Specs) -> Tensors | None:
    """Returns the inputs if all instances are alike and right; None if not, or perhaps not."""
    if not _is_element_object(instances[0]) and len(specs) == 1:
        ((name, spec),) = specs.items()
        plain = _quick_tensor(instances, spec.dtype)
        return None if plain is None else {name: plain}
    # An instance that is all base 64 is no object of inputs, even if an input is named so.
    if "b64" in specs or set(map(type, instances)) != {dict}:
        return None
    if set(map(len, instances)) != {len(specs)}:
        return None
    columns = {}
    try:
        for name, spec in specs.items():
            columns[name] = _quick_tensor([item[name] for item in instances], spec.dtype)
    except KeyError:
        return None
    found = {name: column for name, column in columns.items() if column is not None}
    return found if len(found) == len(specs) else None


def _quick_tensor(values: list[Any], dtype: str) -> Array | None:
    even = even_leaves(values)
    if even is None:
        return None
    quick = quick_values(even[1], dtype)
    return None if quick is None else quick.reshape(even[0])


class _Rows:
    """Collects the inputs of instances one after another, and refuses the first that is wrong."""

    def __init__(self, specs: Specs) -> None:
        self._specs = specs
        self._first = min(specs)
        self._leaves: dict[str, list[Any]] = {}
        self._shapes: dict[str, tuple[int, ...]] = {}
        self._sizes: dict[str, int] = {}

    def add_object(self, place: int, item: Any) -> None:
        """Adds an instance that names its inputs."""
        if not _is_element_object(item):
            raise invalid(f"Expecting object but got list at item {place} of input list")
        names = set()
        for key, value in members(item):
            name = key.partition("\0")[0]  # TensorFlow Serving reads names as C strings
            names.add(name)
            try:
                self._add(name, value)
            except ServingError as error:
                raise invalid(
                    f"Failed to process element: {place} key: {shown(name)} of 'instances' list. "
                    f"Error: {_status(error)}"
                ) from error
        if names != set(self._specs):
            raise invalid(
                f"Failed to process element: {place} of 'instances' list. JSON object: "
                f"{debug_string(item)} keys must be equal to: {','.join(sorted(self._specs))}"
            )

    def add_value(self, place: int, item: Any) -> None:
        """Adds an instance that is the value of the only input."""
        if _is_element_object(item):
            raise invalid(f"Expecting value/list but got object at item {place} of input list")
        try:
            self._add(self._first, item)
        except ServingError as error:
            raise invalid(
                f"Failed to process element: {place} of 'instances' list. Error: {_status(error)}"
            ) from error

    def tensors(self, count: int) -> Tensors:
        """Returns what was added, with the batch dimension."""
        return {
            name: shaped(leaves, (count, *self._shapes[name]), name, self._specs[name].dtype)
            for name, leaves in self._leaves.items()
        }

    def _add(self, name: str, value: Any) -> None:
        if name not in self._specs:
            raise invalid(f"JSON object: does not have named input: {shown(name)}")
        shape = shape_of(value)
        leaves = self._leaves.setdefault(name, [])
        size = fill(value, shape, self._specs[name].dtype, leaves)
        if name not in self._sizes:
            self._sizes[name], self._shapes[name] = size, shape
        elif self._sizes[name] != size:
            raise invalid(f"Expecting tensor size: {self._sizes[name]} but got: {size}")
        elif self._shapes[name] != shape:
            raise invalid(
                f"Expecting shape {_dimensions(self._shapes[name])} but got: {_dimensions(shape)}"
            )


def _status(error: ServingError) -> str:
    """Returns an error as absl::Status::ToString writes it."""
    return f"{error.code.name}: {error.message}"


def _dimensions(shape: tuple[int, ...]) -> str:
    return f"[{','.join(map(str, shape))}]"
