"""Digests of what goes into a release: an equal digest means that nothing new would come out."""

from __future__ import annotations

import hashlib
import importlib.util
import json
import pathlib

import tfx_encore
from tfx_encore.metadata.files import digest_of
from tfx_encore.pipeline.config import ProjectConfig
from tfx_encore.pipeline.spans import Span
from tfx_encore.schemas.errors import ConfigError
from tfx_encore.schemas.release import Provenance

# Sections of the configuration that decide what a release is, and whether it is let through.
_DECIDING = {"model", "data", "training", "drift", "evaluation", "warmup"}


def resolve_module(module: str, project: pathlib.Path) -> tuple[str, str, pathlib.Path]:
    """Finds the user's Transform and training code.

    Args:
        module: a path to a Python file relative to the project, or an importable module.
        project: the project's folder.

    Returns:
        the name to import it by, the folder to put on the import path ("" if none), its source.

    Raises:
        ConfigError: there is no such file or module.
    """
    if module.endswith(".py"):
        file = (project / module).resolve()
        if not file.is_file():
            raise ConfigError(f"no such file: {file}", key="training.module")
        return file.stem, str(file.parent), file
    try:
        spec = importlib.util.find_spec(module)
    except ModuleNotFoundError:
        spec = None
    if spec is None or spec.origin is None:
        raise ConfigError(
            f"no module {module!r} can be imported; name a .py file relative to the project, or a "
            "module that is installed",
            key="training.module",
        )
    return module, "", pathlib.Path(spec.origin)


def module_digest(source: pathlib.Path) -> str:
    """`sha256:` and the digest of the module's source file."""
    return digest_of(source)


def provenance(
    config: ProjectConfig, data: Span, schema: str, code: str, run_id: str
) -> Provenance:
    """What the manifest will say of a run, wherever the pipeline runs.

    Args:
        config: the project.
        data: the span that is released.
        schema: digest of the curated schema.
        code: digest of the user's module.
        run_id: unique name of the run.
    """
    return Provenance(
        run_id=run_id,
        inputs_digest=inputs_digest(config, data.digest, schema, code),
        spans=(data.describe(),),
        hyperparameters={
            "train_steps": str(config.training.train_steps),
            **{name: str(value) for name, value in config.training.hyperparameters.items()},
        },
    )


def inputs_digest(config: ProjectConfig, data: str, schema: str, code: str) -> str:
    """One digest over the data, the schema, the code, the configuration and our version."""
    sections = config.model_dump(mode="json", by_alias=True, include=_DECIDING)
    del sections["data"]["spans"]
    everything = {
        "data": data,
        "schema": schema,
        "code": code,
        "config": sections,
        "tfx_encore": tfx_encore.__version__,
    }
    text = json.dumps(everything, sort_keys=True)
    return f"sha256:{hashlib.sha256(text.encode()).hexdigest()}"
