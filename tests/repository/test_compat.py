"""Only schemas/compat.py asks which release of TFX, of its parts or of Python is there."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from tfx_encore.schemas.compat import is_repeated, kubeflow_call, message_class

FOLDERS = [
    "schemas", "monitoring", "cache", "metadata", "gateway", "components", "pipeline", "kubeflow",
    "src", "tests", "benchmarks",
]  # fmt: skip
COMPAT = "schemas/compat.py"
# What differs between the supported releases, by the name of its top-level package.
LIBRARIES = {
    "tfx", "tfx_bsl", "tensorflow", "tensorflow_data_validation", "tensorflow_metadata",
    "tensorflow_model_analysis", "tensorflow_transform", "tensorflow_serving", "apache_beam",
    "ml_metadata", "google", "keras", "tf_keras", "kfp",
    "kfp_server_api", "numpy", "pandas", "pyarrow",
}  # fmt: skip
# The names of the interpreter that tell its version.
INTERPRETER = {
    "sys.version_info", "sys.version", "sys.hexversion", "platform.python_version_tuple",
}  # fmt: skip


def _imports(tree: ast.AST) -> dict[str, str]:
    """Local name -> what it stands for, for everything that comes from one of the libraries."""
    names = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for each in node.names:
                top = each.name.split(".")[0]
                if top in LIBRARIES:
                    names[each.asname or top] = each.name
        elif isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] in LIBRARIES:
            for each in node.names:
                names[each.asname or each.name] = f"{node.module}.{each.name}"
    return names


def _is_of(node: ast.AST, names: dict[str, str]) -> bool:
    """Whether an expression is a name, or an attribute of one, that a library gave."""
    return ast.unparse(node).split(".")[0] in names


def _guarded_imports(node: ast.Try) -> Iterator[str]:
    """The libraries whose absence, or the absence of a part, a `try` deals with."""
    caught = {name for handler in node.handlers if handler.type for name in ast.walk(handler.type)}
    names = {each.id for each in caught if isinstance(each, ast.Name)}
    if names & {"ImportError", "ModuleNotFoundError", "AttributeError"}:
        yield from set(_imports(ast.Module(body=node.body, type_ignores=[])).values())


def questions(source: str) -> list[str]:
    """The places of a file that ask for a version, as `line N: what`."""
    tree = ast.parse(source)
    names = _imports(tree)
    found = []
    for node in ast.walk(tree):
        text = ""
        if isinstance(node, ast.Attribute):
            asked = ast.unparse(node)
            is_version = node.attr in {"__version__", "VERSION"} and _is_of(node.value, names)
            text = asked if asked in INTERPRETER or is_version else ""
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.args:
            if node.func.id == "hasattr" and _is_of(node.args[0], names):
                text = ast.unparse(node)
        elif isinstance(node, ast.Try) and (guarded := sorted(_guarded_imports(node))):
            text = f"a try around {', '.join(guarded)}"
        if text:
            found.append(f"line {node.lineno}: {text}")
    return found


def test_no_other_file_asks_for_a_version(root: Path, repository_files: list[Path]) -> None:
    found = {}
    for file in repository_files:
        name = file.relative_to(root).as_posix()
        if file.suffix != ".py" or name.split("/")[0] not in FOLDERS or name == COMPAT:
            continue
        if asked := questions(file.read_text()):
            found[name] = asked
    assert found == {}


@pytest.mark.parametrize(
    "source",
    [
        "import sys\nif sys.version_info < (3, 11): x = 1",
        "import tensorflow as tf\nnew = tf.__version__ >= '2.17'",
        "from tfx import version\nprint(version.__version__)",
        "import tensorflow as tf\nold = tf.version.VERSION",
        "from google.protobuf import message_factory\nhasattr(message_factory, 'GetMessageClass')",
        "import numpy as np\nif hasattr(np, 'float_'): pass",
        "try:\n    from tensorflow_model_analysis import EvalConfig\nexcept ImportError:\n    pass",
        "try:\n    import kfp.v2\nexcept (ValueError, ModuleNotFoundError):\n    pass",
    ],
)
def test_a_planted_question_is_found(source: str) -> None:
    assert len(questions(source)) == 1


@pytest.mark.parametrize(
    "source",
    [
        "import tfx_encore\nprint(tfx_encore.__version__)",
        "try:\n    import yaml\nexcept ImportError:\n    pass",
        "import tensorflow as tf\ntry:\n    tf.io.f(x)\nexcept tf.errors.NotFoundError: pass",
        "from pathlib import Path\nhasattr(Path, 'walk')",
    ],
)
def test_other_code_is_let_through(source: str) -> None:
    assert questions(source) == []


def test_the_file_itself_asks_and_gives_each_its_reason(root: Path) -> None:
    text = (root / COMPAT).read_text()
    functions = [n for n in ast.walk(ast.parse(text)) if isinstance(n, ast.FunctionDef)]
    asked = questions(text)
    assert asked
    # One that asks nothing belongs elsewhere.
    for function in functions:
        source = ast.get_source_segment(text, function) or ""
        assert questions(source), function.name
        assert len((ast.get_docstring(function) or "").splitlines()) > 2, function.name


def test_a_message_class_of_a_pool_reads_and_writes() -> None:
    from google.protobuf import descriptor_pb2, descriptor_pool

    file = descriptor_pb2.FileDescriptorProto(name="a.proto", package="p", syntax="proto3")
    field = descriptor_pb2.FieldDescriptorProto
    described = file.message_type.add(name="M").field
    described.add(name="x", number=1, type=field.TYPE_INT64, label=field.LABEL_OPTIONAL)
    described.add(name="y", number=2, type=field.TYPE_INT64, label=field.LABEL_REPEATED)
    pool = descriptor_pool.DescriptorPool()
    pool.AddSerializedFile(file.SerializeToString())
    message = message_class(pool, "p.M")
    assert message.FromString(message(x=7).SerializeToString()).x == 7
    assert [is_repeated(field) for field in message.DESCRIPTOR.fields] == [False, True]
    with pytest.raises(KeyError):
        message_class(pool, "p.N")


def test_a_call_of_kubeflow_is_found_whatever_it_is_called() -> None:
    import kfp_server_api

    api = kfp_server_api.PipelineServiceApi
    assert kubeflow_call(api, "pipeline_service", "create_pipeline").__name__.endswith("e_pipeline")
    with pytest.raises(AttributeError, match="create_pipe"):
        kubeflow_call(api, "pipeline_service", "create_pipe")
