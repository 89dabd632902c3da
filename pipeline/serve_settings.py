"""From the flags of `encore serve` to `GatewaySettings`, everything checked that can be.

Nothing here loads TensorFlow: what is wrong is said within a second.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple, Optional

import yaml
from pydantic import ValidationError

from tfx_encore.cache.crypto import EncryptionPolicy, load_key_ring
from tfx_encore.cache.redis_config import RedisConfig, parse_redis_config
from tfx_encore.gateway.batching_parameters_file import read_batching_parameters
from tfx_encore.gateway.models.cache_config import CacheConfig
from tfx_encore.gateway.monitoring_config import metrics_path
from tfx_encore.gateway.ports import check_port, check_socket_path
from tfx_encore.gateway.settings import GatewaySettings, Opener
from tfx_encore.metadata.journal_ledger import JournalLedger
from tfx_encore.metadata.releases import list_models
from tfx_encore.pipeline.commands.options import open_project
from tfx_encore.pipeline.config import FILE_NAME
from tfx_encore.pipeline.run import Project
from tfx_encore.pipeline.serve_flags import PORTS, field_values, notes_on_tf_flags
from tfx_encore.schemas.errors import ConfigError

REST_PORT = 8501
SOURCES = ("releases", "model_base_path", "model_config_file")
_PATHS = (
    *SOURCES,
    *("grpc_socket_path", "ssl_config_file", "monitoring_config_file", "batching_parameters_file"),
    *("cache_config", "cache_dir", "request_log_dir"),
)


class Wanted(NamedTuple):
    """What a command line asks for.

    Attributes:
        settings: of the gateway.
        project: whose releases are served; None if it is no project's.
        notes: what is to be said of flags, a line each.
    """

    settings: GatewaySettings
    project: Optional[Project]
    notes: tuple[str, ...]


def settings_of(given: Mapping[str, Any], environ: Mapping[str, str] = os.environ) -> Wanted:
    """Makes the settings.

    Args:
        given: flag -> value; None for a flag that was not given.
        environ: for ENCORE_CONFIG.

    Raises:
        ConfigError: a flag, or what it names, cannot be used.
    """
    notes = notes_on_tf_flags(dict(given))
    project = _project(given, environ)
    values = field_values(dict(given))
    for name in _PATHS:
        if values.get(name) and not _is_remote(values[name]):
            values[name] = str(Path(values[name]).absolute())
    if project is not None:
        values = {**_project_values(project), **values}
    notes += _ignore_single_model(values)
    values |= {"redis": _redis(given), "encryption": _encryption(given)}
    values["ledger"] = _ledger(given.get("ledger"), project)
    values = {name: value for name, value in values.items() if value is not None or name in PORTS}
    if given.get("quiet"):
        values["log_level"] = "warning"
    settings = _validated(values)
    if given.get("consumer") is None:
        settings = settings.model_copy(update={"consumer": _consumer(settings)})
    return Wanted(settings, project, tuple(notes))


def check(settings: GatewaySettings) -> list[str]:
    """Checks what the settings name: files, folders, keys, ports.

    Returns:
        What is to be said before the start, a line each.

    Raises:
        ConfigError: something of it cannot be used.
    """
    notes = _check_sources(settings)
    for name in ("model_config_file", "ssl_config_file"):
        _check_file(f"--{name}", getattr(settings, name))
    if settings.batching_parameters_file:
        read_batching_parameters(settings.batching_parameters_file)
    if settings.monitoring_config_file:
        metrics_path(settings.monitoring_config_file)
    if settings.cache_config:
        CacheConfig.parse(
            _read_yaml("--cache_config", settings.cache_config), settings.cache_config
        )
    if settings.encryption:
        load_key_ring(settings.encryption)
    for name in ("cache_dir", "request_log_dir"):
        _check_folder(f"--{name}", getattr(settings, name))
    for name in PORTS:
        if getattr(settings, name):
            check_port(settings.host, getattr(settings, name), f"--{name}")
    if settings.grpc_socket_path:
        check_socket_path(settings.grpc_socket_path, "--grpc_socket_path")
    return notes


def project_ledger(config_file: str) -> Any:
    """Opens the ledger of a project; each gateway process does it for itself."""
    from tfx_encore.metadata.mlmd_ledger import MlmdLedger
    from tfx_encore.pipeline.mlmd import connection

    project = open_project(config_file)
    return MlmdLedger(connection(project.config, project.workspace))


def _project(given: Mapping[str, Any], environ: Mapping[str, str]) -> Optional[Project]:
    named = given.get("config")
    source = next((name for name in SOURCES if given.get(name)), None)
    if named and source:
        raise ConfigError(f"--config and --{source} both say what to serve; give one of them")
    if source:
        return None
    file = named or environ.get("ENCORE_CONFIG") or FILE_NAME
    if not named and not environ.get("ENCORE_CONFIG") and not Path(file).is_file():
        return None
    return open_project(file)


def _project_values(project: Project) -> dict[str, Any]:
    return {
        "releases": str(project.workspace.releases),
        "model_name": project.config.model,
        "rest_api_port": REST_PORT,
        "cache_dir": str(project.workspace.root / "gateway"),
    }


def _ignore_single_model(values: dict[str, Any]) -> list[str]:
    """TensorFlow Serving's images name a single model always (main.cc: it is then ignored)."""
    if not values.get("model_config_file"):
        return []
    ignored = [name for name in ("model_name", "model_base_path") if values.pop(name, None)]
    return [f"--{name} has no effect: --model_config_file is given" for name in ignored]


def _ledger(wanted: Optional[str], project: Optional[Project]) -> Any:
    if wanted in ("journal", "none"):
        return wanted
    if project is not None and project.config.metadata.journal:
        if wanted == "mlmd":
            raise ConfigError(
                "this project's ledger is the release journal (`metadata.journal`); name a store "
                "in `metadata`, or give --ledger journal",
                key="--ledger",
            )
        return "journal"
    if project is None:
        if wanted == "mlmd":
            raise ConfigError(
                "the ML Metadata of which project? Name it by --config", key="--ledger"
            )
        return "journal"
    return Opener(
        function=f"{__name__}:{project_ledger.__name__}", argument=str(project.file.resolve())
    )


def _redis(given: Mapping[str, Any]) -> Optional[RedisConfig]:
    url, file = given.get("redis"), given.get("redis_config")
    if url and file:
        raise ConfigError("--redis and --redis_config both say where Redis is; give one of them")
    if file:
        document = _read_yaml("--redis_config", file)
        if not isinstance(document, dict):
            raise ConfigError("expected a mapping with the key `url` or `sentinel`", file=file)
        return parse_redis_config(document.get("redis", document), source=str(file))
    return parse_redis_config({"url": url}, source="--redis") if url else None


def _encryption(given: Mapping[str, Any]) -> Optional[EncryptionPolicy]:
    file, variable = given.get("cache_key_file"), given.get("cache_key_env")
    if file and variable:
        raise ConfigError(
            "--cache_key_file and --cache_key_env both say where the keys are; give one of them"
        )
    if not file and not variable:
        return None
    return EncryptionPolicy(key_file=file and str(Path(file).absolute()), key_env=variable)


def _validated(values: dict[str, Any]) -> GatewaySettings:
    try:
        return GatewaySettings(**values)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        if not first["loc"]:
            raise ConfigError(first["msg"].removeprefix("Value error, ")) from None
        flag = f"--{first['loc'][0]}"
        raise ConfigError(f"{first['msg']}, found {first['input']!r}", key=flag) from None


def _consumer(settings: GatewaySettings) -> str:
    port = settings.rest_api_port or settings.port
    return f"gateway@{socket.gethostname()}" + (f":{port}" if port else "")


# --- what the settings name ----------------------------------------------------------------------


def _check_sources(settings: GatewaySettings) -> list[str]:
    if settings.releases:
        return _check_releases(settings)
    path = settings.model_base_path
    if not path or _is_remote(path):
        return []
    folder = Path(path)
    if not folder.is_dir():
        raise ConfigError(
            f"{path} is no directory; its subdirectories are to be the versions",
            key="--model_base_path",
        )
    if not any(child.name.isdigit() for child in folder.iterdir()):
        return [f"no version in {path} yet; serving begins when one comes"]
    return []


def _check_releases(settings: GatewaySettings) -> list[str]:
    releases, name = str(settings.releases), settings.model_name
    if not Path(releases).is_dir():
        raise ConfigError(
            f"{releases} is no directory; `encore run` pushes a release", key="--releases"
        )
    models = list_models(releases)
    if name and name not in models:
        known = f"there are {', '.join(models)}" if models else "`encore run` pushes one"
        raise ConfigError(f"no release of {name} in {releases}; {known}", key="--releases")
    if not models:
        raise ConfigError(f"no releases in {releases}; `encore run` pushes one", key="--releases")
    for model in [name] if name else models:
        JournalLedger(releases).records(model, limit=1)
    return []


def _check_file(flag: str, path: Optional[str]) -> None:
    if path is None:
        return
    try:
        text = Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"cannot be read: {error}", file=path, key=flag) from None
    if not text.strip():
        raise ConfigError("the file is empty", file=path, key=flag)


def _check_folder(flag: str, path: Optional[str]) -> None:
    if path is None:
        return
    try:
        Path(path).mkdir(parents=True, exist_ok=True, mode=0o700)
    except OSError as error:
        raise ConfigError(f"{path} cannot be made: {error.strerror}", key=flag) from None
    if not os.access(path, os.W_OK | os.X_OK):
        raise ConfigError(f"{path} cannot be written by this user", key=flag)


def _read_yaml(flag: str, path: str) -> Any:
    try:
        return yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"cannot be read: {error}", file=path, key=flag) from None
    except yaml.YAMLError as error:
        raise ConfigError(f"neither YAML nor JSON: {error}", file=path, key=flag) from None


def _is_remote(path: str) -> bool:
    """True for what TensorFlow's file systems read, as gs://bucket/model."""
    return "://" in path
