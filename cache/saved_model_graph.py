"""Adapter: what a SavedModel's signature reads, proved from its graph. Needs TensorFlow.

The graph is evaluated symbolically, function calls inlined: every tensor becomes a number, and two
tensors get the same number only if the same operations make them from the same inputs, variables
and constants. What cannot be followed counts as read, as stateful, as different.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from tensorflow.core.protobuf import saved_model_pb2
from tensorflow.python.framework import dtypes, op_def_registry, tensor_util

from tfx_encore.cache.row_spec import FeatureSpec, SignatureSpec
from tfx_encore.cache.rows import cell
from tfx_encore.schemas.errors import ModelError

_CALLS = frozenset({"PartitionedCall", "StatefulPartitionedCall"})
_PASS_THROUGH = frozenset({"Identity", "IdentityN", "StopGradient", "PreventGradient"})
# Stateful by declaration, yet the same answer every time as nothing in a signature writes to them;
# what writes (AssignVariableOp, LookupTableInsertV2...) is not in this list.
_HARMLESS = frozenset(
    {
        *_CALLS,
        "Assert",
        "HashTable",
        "HashTableV2",
        "InitializeTable",
        "InitializeTableV2",
        "InitializeTableFromTextFile",
        "InitializeTableFromTextFileV2",
        "LookupTableFind",
        "LookupTableFindV2",
        "LookupTableSize",
        "LookupTableSizeV2",
        "Placeholder",
        "ReadVariableOp",
        "ResourceGather",
        "ResourceGatherNd",
        "VarHandleOp",
        "VarIsInitializedOp",
        "If",
        "While",
        "Case",
    }
)
_RESOURCES = frozenset({"VarHandleOp", "HashTable", "HashTableV2"})


@dataclass(frozen=True)
class GraphReading:
    """What the graph of one signature says.

    Attributes:
        spec: how the signature's rows are made.
        outputs: names of its outputs, sorted.
        features_read: features or inputs that an answer is computed from; None if not known.
        stateful_ops: operations by which two runs may differ, sorted; empty if there are none.
        transformed_only: proved that answers are computed only from tensors that the transform
            signature outputs (and from the number of rows).
        transformed_read: those outputs of the transform signature, if so.
    """

    spec: SignatureSpec
    outputs: tuple[str, ...]
    features_read: tuple[str, ...] | None
    stateful_ops: tuple[str, ...]
    transformed_only: bool = False
    transformed_read: tuple[str, ...] = ()


def load_meta_graph(path: str | Path) -> Any:
    """Reads the serving MetaGraphDef of a SavedModel.

    Raises:
        ModelError: no SavedModel there, or none tagged `serve`.
    """
    file = Path(path) / "saved_model.pb"
    try:
        saved = saved_model_pb2.SavedModel.FromString(file.read_bytes())
    except Exception as error:
        raise ModelError(f"{file}: cannot be read as a SavedModel: {error}") from error
    for meta in saved.meta_graphs:
        if "serve" in meta.meta_info_def.tags:
            return meta
    tags = [list(meta.meta_info_def.tags) for meta in saved.meta_graphs]
    raise ModelError(f"{file}: no graph is tagged 'serve'; found {tags}")


def signature_names(meta: Any) -> tuple[str, ...]:
    """Names of a MetaGraphDef's signatures, without TensorFlow's own."""
    return tuple(sorted(name for name in meta.signature_def if not name.startswith("__")))


def read_signature(
    meta: Any,
    signature: str,
    *,
    output_filter: Iterable[str] = (),
    transform_signature: str | None = None,
    exclude: Iterable[str] = (),
) -> GraphReading:
    """Reads one signature of a MetaGraphDef.

    Args:
        meta: from `load_meta_graph`.
        signature: which.
        output_filter: outputs that are asked for; empty for all.
        transform_signature: the one whose outputs are the transformed features, if the model has
            it.
        exclude: features left out of rows where the graph's parser is not known.

    Raises:
        ModelError: no such signature or output.
    """
    graph = SymbolicGraph(meta)
    outputs = graph.signature_outputs(signature)
    wanted = tuple(output_filter) or tuple(outputs)
    unknown = sorted(set(wanted) - set(outputs))
    if unknown:
        raise ModelError(
            f"signature {signature!r} has no outputs {unknown}; it has {list(outputs)}"
        )
    parsed = dict(graph.parsed)
    leaves = graph.leaves(outputs[name] for name in wanted)
    definition = meta.signature_def[signature]
    spec, read = _spec(
        signature,
        definition,
        leaves=leaves,
        parsed=parsed,
        opaque=graph.opaque,
        exclude=tuple(exclude),
    )
    stateful = graph.stateful_ops(signature)
    reading = GraphReading(spec, tuple(sorted(outputs)), read, stateful)
    if transform_signature and transform_signature in meta.signature_def and not stateful:
        return graph.with_transform(
            reading, [outputs[name] for name in wanted], transform_signature
        )
    return reading


def _spec(
    signature: str,
    definition: Any,
    *,
    leaves: set[tuple[Any, ...]],
    parsed: Mapping[str, FeatureSpec],
    opaque: bool,
    exclude: tuple[str, ...],
) -> tuple[SignatureSpec, tuple[str, ...] | None]:
    """Decides what a row of the signature is, and which features are read."""
    direct = {leaf[1] for leaf in leaves if leaf[0] == "input"}
    if not _takes_examples(definition, parsed):
        if parsed:  # Examples beside other inputs: the bytes of each are what is known
            direct = set(definition.inputs)
        tensors = tuple(
            _tensor_spec(name, info, name in direct)
            for name, info in sorted(definition.inputs.items())
        )
        return SignatureSpec(signature, "tensors", "", tensors), tuple(sorted(direct))
    (input_name,) = definition.inputs
    if direct or opaque or not parsed:
        return SignatureSpec(signature, "opaque", input_name, (), tuple(sorted(exclude))), None
    read = {leaf[1].name for leaf in leaves if leaf[0] == "feature"}
    features = tuple(
        FeatureSpec(spec.name, spec.kind, spec.dtype, spec.shape, spec.default, spec.name in read)
        for _, spec in sorted(parsed.items())
    )
    return SignatureSpec(signature, "examples", input_name, features), tuple(sorted(read))


def _takes_examples(definition: Any, parsed: Mapping[str, FeatureSpec]) -> bool:
    """True if the one input is a vector of strings that are parsed, or are named as Examples."""
    inputs = list(definition.inputs.items())
    if len(inputs) != 1 or inputs[0][1].dtype != dtypes.string.as_datatype_enum:
        return False
    name, info = inputs[0]
    return bool(parsed) or (name == "examples" and len(info.tensor_shape.dim) == 1)


def _only_rows_vary(info: Any) -> bool:
    """True if the first dimension is the only one of an input that is not fixed."""
    dims = info.tensor_shape.dim
    return len(dims) > 0 and all(dim.size >= 0 for dim in dims[1:])


def _tensor_spec(name: str, info: Any, in_key: bool) -> FeatureSpec:
    shape = tuple(int(dim.size) for dim in info.tensor_shape.dim)[1:]
    return FeatureSpec(name, "tensor", _dtype_name(info.dtype), shape, None, in_key)


def _dtype_name(number: int) -> str:
    return str(dtypes.as_dtype(number).name)


@dataclass
class SymbolicGraph:
    """The symbolic evaluation of one MetaGraphDef."""

    meta: Any
    parsed: dict[str, FeatureSpec] = field(default_factory=dict)
    opaque: bool = False

    def __post_init__(self) -> None:
        self._keys: list[tuple[Any, ...]] = []
        self._ids: dict[tuple[Any, ...], int] = {}
        self._library = {item.signature.name: item for item in self.meta.graph_def.library.function}
        self._bodies: dict[str, tuple[dict[str, Any], list[str], list[str]]] = {}
        self._calls: dict[tuple[Any, ...], list[int]] = {}
        self._flat_inputs: set[str] = set()
        self._main = {node.name: node for node in self.meta.graph_def.node}
        self.node_of: dict[int, Any] = {}

    def signature_outputs(self, signature: str) -> dict[str, int]:
        """Evaluates a signature; returns output name -> value."""
        if signature not in self.meta.signature_def:
            raise ModelError(
                f"the model has no signature {signature!r}; it has {signature_names(self.meta)}"
            )
        definition = self.meta.signature_def[signature]
        self._flat_inputs = {
            name for name, info in definition.inputs.items() if _only_rows_vary(info)
        }
        args = {
            _node_of(info.name): self._id(("input", name))
            for name, info in definition.inputs.items()
        }
        names = sorted(definition.outputs)
        values = self._evaluate(self._main, [definition.outputs[name].name for name in names], args)
        return dict(zip(names, values, strict=True))

    def leaves(self, values: Iterable[int], cut: frozenset[int] = frozenset()) -> set[Any]:
        """Inputs, features and cuts that the values are computed from."""
        found: set[Any] = set()
        stack, seen = list(values), set()
        while stack:
            value = stack.pop()
            if value in seen:
                continue
            seen.add(value)
            key = self._keys[value]
            if value in cut:
                found.add(("cut", value))
            elif key[0] in ("input", "feature"):
                found.add(key)
            elif key[0] == "op":
                stack.extend(key[3])
            elif key[0] == "out":
                stack.append(key[1])
        return found

    def with_transform(
        self, reading: GraphReading, outputs: list[int], transform: str
    ) -> GraphReading:
        """Adds to a reading whether everything goes through the transform signature's outputs."""
        named = self.signature_outputs(transform)
        cut = {value: name for name, value in sorted(named.items(), reverse=True)}
        leaves = self.leaves(outputs, frozenset(cut))
        only = all(leaf[0] == "cut" for leaf in leaves) and not self.stateful_ops(transform)
        read = tuple(sorted(cut[leaf[1]] for leaf in leaves)) if only else ()
        return GraphReading(
            reading.spec, reading.outputs, reading.features_read, reading.stateful_ops, only, read
        )

    def stateful_ops(self, signature: str) -> tuple[str, ...]:
        """Operations that run with the signature and may differ between runs."""
        outputs = self.meta.signature_def[signature].outputs.values()
        stack = [_node_of(info.name) for info in outputs]
        nodes, seen = [], set()
        while stack:
            name = stack.pop()
            if name in seen or name not in self._main:
                continue
            seen.add(name)
            nodes.append(self._main[name])
            stack.extend(_node_of(item) for item in self._main[name].input)
        found: set[str] = set()
        functions: set[str] = set()
        while nodes:
            node = nodes.pop()
            for function in _functions_of(node, self._library) - functions:
                functions.add(function)
                nodes.extend(self._library[function].node_def)
            if node.op not in self._library and _stateful(node.op):
                found.add(node.op)
        return tuple(sorted(found))

    def _id(self, key: tuple[Any, ...]) -> int:
        if key not in self._ids:
            self._ids[key] = len(self._keys)
            self._keys.append(key)
        return self._ids[key]

    def _evaluate(
        self, nodes: Mapping[str, Any], wanted: list[str], args: Mapping[str, int]
    ) -> list[int]:
        """Values of the wanted tensors; iterative, as graphs are deeper than Python's stack."""
        done: dict[str, list[int] | int] = dict(args)
        stack = [_node_of(name) for name in wanted]
        while stack:
            name = stack[-1]
            if name in done:
                stack.pop()
                continue
            inputs = [self._flat(item, nodes) for item in _data_inputs(nodes[name])]
            missing = [_node_of(item) for item in inputs if _node_of(item) not in done]
            if missing:
                if len(stack) > 2 * len(nodes) + len(wanted) + 2:  # a TF1 loop: give up on it
                    raise ModelError(f"the graph has a cycle at {name!r}; export the model again")
                stack.extend(dict.fromkeys(missing))
                continue
            stack.pop()
            done[name] = self._node(nodes[name], [self._pick(done, item) for item in inputs])
        return [self._pick(done, self._flat(name, nodes)) for name in wanted]

    def _flat(self, tensor: str, nodes: Mapping[str, Any]) -> str:
        """Rewrites `node:output:2`, as functions write it, to `node:5`, as graphs do."""
        name, _, rest = tensor.partition(":")
        output, _, index = rest.partition(":")
        if not index:
            return tensor
        node = nodes[name]
        if node.op in self._library:
            definition = self._library[node.op].signature
        else:
            definition = op_def_registry.get(node.op)
        at = int(index)
        for arg in definition.output_arg if definition is not None else ():
            if arg.name == output:
                return f"{name}:{at}"
            at += _length(arg, node)
        raise ModelError(f"the graph names an output {tensor!r} of unknown operation {node.op}")

    def _pick(self, done: Mapping[str, list[int] | int], tensor: str) -> int:
        name, _, index = tensor.partition(":")
        value = done[name]
        at = int(index or 0)
        if isinstance(value, list):
            return value[at]
        return value if at == 0 else self._id(("out", value, at))

    def _node(self, node: Any, inputs: list[int]) -> list[int] | int:
        if node.op in _PASS_THROUGH:
            return inputs if node.op == "IdentityN" else inputs[0]
        if node.op in _CALLS or node.op in self._library:
            name = node.attr["f"].func.name if node.op in _CALLS else node.op
            return self._call(name, inputs)
        if node.op == "ParseExampleV2":
            outputs = self._parse_example(node, inputs)
            if outputs is not None:
                return outputs
            self.opaque = True
        if node.op == "Const":
            return self._id(("const", node.attr["value"].tensor.SerializeToString()))
        if node.op == "Shape" and self._rows_only(inputs[0]):
            return self._id(("shape", inputs[0]))
        name = node.name if node.op in _RESOURCES and not node.attr["shared_name"].s else ""
        value = self._id(("op", node.op, (_attributes(node), name), tuple(inputs)))
        self.node_of.setdefault(value, node)
        return value

    def _rows_only(self, value: int) -> bool:
        """True if the shape of this leaf tells nothing but the number of rows."""
        key = self._keys[value]
        if key[0] == "input":
            return key[1] in self._flat_inputs
        return bool(key[0] == "feature" and key[2] == "dense")

    def _call(self, function: str, inputs: list[int]) -> list[int]:
        key = (function, tuple(inputs))
        if key not in self._calls:
            nodes, args, returned = self._body(function)
            self._calls[key] = self._evaluate(nodes, returned, dict(zip(args, inputs, strict=True)))
        return self._calls[key]

    def _body(self, function: str) -> tuple[dict[str, Any], list[str], list[str]]:
        """Nodes, argument names and returned tensors of a function."""
        if function not in self._bodies:
            definition = self._library[function]
            nodes = {node.name: node for node in definition.node_def}
            args = [arg.name for arg in definition.signature.input_arg]
            returned = [definition.ret[arg.name] for arg in definition.signature.output_arg]
            self._bodies[function] = (nodes, args, returned)
        return self._bodies[function]

    def _parse_example(self, node: Any, inputs: list[int]) -> list[int] | None:
        """Values of a ParseExampleV2's outputs; None if it cannot be told what it parses."""
        names = [self.constant(value) for value in inputs[2:5]]
        defaults = [self.constant(value) for value in inputs[5:]]
        if self._keys[inputs[0]][0] != "input" or any(v is None for v in [*names, *defaults]):
            return None
        sparse, dense, ragged = ([key.decode() for key in value.ravel()] for value in names)
        shapes = list(node.attr["dense_shapes"].list.shape)
        if ragged or any(dim.size < 0 for shape in shapes for dim in shape.dim):
            return None
        kinds = node.attr["sparse_types"].list.type
        specs = [
            FeatureSpec(n, "sparse", _dtype_name(t)) for n, t in zip(sparse, kinds, strict=True)
        ]
        outputs = [
            self._feature(spec, part) for part in ("indices", "sparse", "shape") for spec in specs
        ]
        for name, kind, shape, default in zip(
            dense, node.attr["Tdense"].list.type, shapes, defaults, strict=True
        ):
            dims = tuple(int(dim.size) for dim in shape.dim)
            dtype = _dtype_name(kind)
            data = _default_data(default, dims, dtype)
            outputs.append(self._feature(FeatureSpec(name, "dense", dtype, dims, data), "dense"))
        return None if None in outputs else outputs  # type: ignore[return-value]

    def _feature(self, spec: FeatureSpec, part: str) -> int | None:
        known = self.parsed.setdefault(spec.name, spec)
        return self._id(("feature", spec, part)) if known == spec else None

    def key(self, value: int) -> tuple[Any, ...]:
        """Returns what a value is, told by the first item.

        One of `("op", operation, attributes, inputs)`, `("const", bytes)`, `("input", name)`,
        `("feature", spec, part)`, `("shape", value)`, `("out", value, index)`.
        """
        return self._keys[value]

    def constant(self, value: int) -> Any:
        """Returns the array that a value is in every run, without regard to its shape, or None."""
        key = self._keys[value]
        while key[:2] == ("op", "Reshape"):  # parse_example reshapes defaults; values are the same
            key = self._keys[key[3][0]]
        if key[0] != "const":
            return None
        from tensorflow.core.framework import tensor_pb2

        return tensor_util.MakeNdarray(tensor_pb2.TensorProto.FromString(key[1]))


def _default_data(default: Any, dims: tuple[int, ...], dtype: str) -> str | None:
    """Data of a dense feature's default; TensorFlow writes "required" as an empty default."""
    size = int(np.prod(dims, dtype=np.int64))
    if default.size == 0 and size != 0:
        return None
    filled = np.broadcast_to(default.ravel(), (size,)) if default.size == 1 else default
    values = filled.astype(object) if dtype == "string" else np.ascontiguousarray(filled)
    return cell(values.reshape(dims), dtype).data.hex()


def _node_of(tensor: str) -> str:
    return tensor.lstrip("^").partition(":")[0]


def _data_inputs(node: Any) -> list[str]:
    return [item for item in node.input if not item.startswith("^")]


def _length(arg: Any, node: Any) -> int:
    """How many tensors one declared output of a node stands for."""
    if arg.number_attr:
        return int(node.attr[arg.number_attr].i)
    if arg.type_list_attr:
        return len(node.attr[arg.type_list_attr].list.type)
    return 1


def _attributes(node: Any) -> bytes:
    """Digest of what makes two nodes of one operation different; nothing of names and devices."""
    digest = hashlib.sha256()
    for name in sorted(node.attr):
        if not name.startswith("_") and name not in ("config", "config_proto", "executor_type"):
            data = node.attr[name].SerializeToString()
            digest.update(f"{name}:{len(data)}:".encode() + data)
    return digest.digest()


def _stateful(op: str) -> bool:
    """True for an operation that may answer differently each time, and for one not known."""
    definition = op_def_registry.get(op)
    return definition is None or (definition.is_stateful and op not in _HARMLESS)


def _functions_of(node: Any, library: Mapping[str, Any]) -> set[str]:
    """Functions that a node may call: its own operation and whatever its attributes name."""
    names = {node.op}
    for value in node.attr.values():
        names.add(value.func.name)
        names.update(item.name for item in value.list.func)
    return {name for name in names if name in library}
