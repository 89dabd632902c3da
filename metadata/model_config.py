"""TF Serving's `model_config_list` as text, written without TensorFlow. No IO here.

The format is the text form of `tensorflow.serving.ModelServerConfig`.
"""

from __future__ import annotations

from tfx_encore.metadata.release_state import ReleaseState


def model_config_list(model: str, base_path: str, state: ReleaseState) -> str:
    """Returns the configuration that makes TF Serving serve a state.

    Args:
        model: the name in requests.
        base_path: absolute path of the directory that holds the versions.
        state: what is live. With no label there is nothing to serve, and the list is empty.
    """
    if not state.labels:
        return "model_config_list {\n}\n"
    versions = "".join(f"        versions: {version}\n" for version in state.served())
    labels = "".join(
        f"    version_labels {{\n      key: {quoted(label)}\n      value: {version}\n    }}\n"
        for label, version in sorted(state.labels.items())
    )
    return (
        "model_config_list {\n"
        "  config {\n"
        f"    name: {quoted(model)}\n"
        f"    base_path: {quoted(base_path)}\n"
        '    model_platform: "tensorflow"\n'
        "    model_version_policy {\n"
        "      specific {\n"
        f"{versions}"
        "      }\n"
        "    }\n"
        f"{labels}"
        "  }\n"
        "}\n"
    )


def quoted(text: str) -> str:
    r"""Quotes a string for a text proto: printable ASCII as it is, other bytes as `\ooo`."""
    return '"' + "".join(_escaped(byte) for byte in text.encode()) + '"'


def _escaped(byte: int) -> str:
    if chr(byte) in '"\\':
        return f"\\{chr(byte)}"
    return chr(byte) if 0x20 <= byte < 0x7F else f"\\{byte:03o}"
