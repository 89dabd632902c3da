"""The flags of `encore serve`: TensorFlow Serving's own beside ours, in its spelling.

A flag is a field of `GatewaySettings`, one of TensorFlow Serving's that does nothing here
(`tf_flags`), or one of the few below from which a field is made. Values come as `--flag=value` or
`--flag value`; a truth value as `--flag`, `--flag=true`, `--flag=false`. Hyphens are taken for
underscores.
"""

from __future__ import annotations

import types
from typing import Any, Literal, NamedTuple, Optional, Union, get_args, get_origin

import click
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from tfx_encore.gateway.settings import NOT_FLAGS, GatewaySettings
from tfx_encore.gateway.tf_flags import TF_FLAGS
from tfx_encore.schemas.errors import ConfigError

PORTS = ("port", "rest_api_port")
_KINDS: dict[str, click.ParamType[Any]] = {
    "bool": click.BOOL,
    "int": click.INT,
    "float": click.FLOAT,
    "text": click.STRING,
}

_MODELS, _CACHE, _PROCESSES = "What is served", "The cache", "Processes"

# The first field of each subject; the others follow it in the settings.
_SUBJECTS = {
    "releases": _MODELS,
    "host": "REST and gRPC",
    "enable_batching": "How models compute",
    "cache_config": _CACHE,
    "request_log_dir": "Request log",
    "workers": _PROCESSES,
}


class OurFlag(NamedTuple):
    """A flag from which a field of another name is made, or that only the command uses."""

    kind: click.ParamType[Any]
    subject: str
    text: str


OURS = {
    "config": OurFlag(
        click.STRING,
        _MODELS,
        "Project file whose releases are served. Default: encore.yaml here, if nothing else says "
        "what to serve.",
    ),
    "redis": OurFlag(
        click.STRING, _CACHE, "redis://HOST:PORT/DB, rediss://... or unix:///PATH: a shared tier."
    ),
    "redis_config": OurFlag(
        click.STRING, _CACHE, "YAML or JSON file of a RedisConfig: TLS, ACL, Sentinel, cluster."
    ),
    "cache_key_file": OurFlag(
        click.STRING, _CACHE, "File of keys that seal what LMDB and Redis keep."
    ),
    "cache_key_env": OurFlag(click.STRING, _CACHE, "Environment variable that holds such keys."),
    "ledger": OurFlag(
        click.Choice(["journal", "mlmd", "none"]),
        _CACHE,
        "Where invalidation records are followed: the release directory's journal; the project's "
        "ML Metadata (the default in a project); nowhere.",
    ),
    "quiet": OurFlag(click.BOOL, _PROCESSES, "Say nothing but warnings and errors."),
    "version": OurFlag(click.BOOL, _PROCESSES, "Show versions and end."),
}


class ServeCommand(click.Command):
    """A command whose truth values and hyphens are read as TensorFlow Serving's are."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """As click does, after hyphens and truth values were written out."""
        truths = {str(o.name) for o in self.params if isinstance(o.type, click.types.BoolParamType)}
        return super().parse_args(ctx, [_normalised(each, truths) for each in args])

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Our flags by subject; those without effect in one line."""
        subjects = _subjects()
        sections: dict[str, list[tuple[str, str]]] = {name: [] for name in _SUBJECTS.values()}
        for option in self.get_params(ctx):
            record = option.get_help_record(ctx)
            if record is not None and option.name in {*subjects, "help"}:
                subject = subjects.get(str(option.name), _PROCESSES)
                sections[subject].append(record)
        for title, records in sections.items():
            with formatter.section(title):
                formatter.write_dl(records)
        with formatter.section("Flags of TensorFlow Serving that are taken without effect"):
            formatter.write_text(", ".join(f"--{f.name}" for f in TF_FLAGS if not f.refused))
        with formatter.section("Flags of TensorFlow Serving that are refused"):
            formatter.write_text(", ".join(f"--{f.name}" for f in TF_FLAGS if f.refused))


def options() -> list[click.Parameter]:
    """Every option; one that was not given is None."""
    return [
        *(_option(name, flag.kind, flag.text) for name, flag in OURS.items()),
        *(
            _option(name, _type_of(name, field), _help(field))
            for name, field in GatewaySettings.model_fields.items()
            if name not in NOT_FLAGS
        ),
        *(_option(flag.name, _KINDS[flag.kind], flag.reason) for flag in TF_FLAGS),
    ]


def field_values(given: dict[str, Any]) -> dict[str, Any]:
    """Of what was given, the fields of `GatewaySettings`.

    Raises:
        ConfigError: a port is no number.
    """
    fields = GatewaySettings.model_fields.keys() - NOT_FLAGS
    values = {name: given[name] for name in fields if given.get(name) is not None}
    for name in PORTS:
        if name in values:
            values[name] = _port(name, values[name])
    return values


def notes_on_tf_flags(given: dict[str, Any]) -> list[str]:
    """What to say about flags that do nothing here.

    Raises:
        ConfigError: one that is refused was given.
    """
    notes = []
    for flag in TF_FLAGS:
        value = given.get(flag.name)
        if value is None or value == flag.default:
            continue
        if flag.refused:
            raise ConfigError(f"not supported: {flag.reason}", key=f"--{flag.name}")
        notes.append(f"--{flag.name} has no effect: {flag.reason}")
    return notes


def _normalised(argument: str, truths: set[str]) -> str:
    if not argument.startswith("--") or argument == "--":
        return argument
    name, equals, value = argument[2:].partition("=")
    name = name.replace("-", "_")
    if name in truths and not equals:
        return f"--{name}=true"
    return f"--{name}{equals}{value}"


def _option(name: str, kind: click.ParamType[Any], text: str) -> click.Option:
    metavar = {click.BOOL: "", click.STRING: "TEXT"}.get(kind)
    return click.Option([f"--{name}"], type=kind, default=None, help=text, metavar=metavar)


def _type_of(name: str, field: FieldInfo) -> click.ParamType[Any]:
    if name in PORTS:
        return click.STRING
    annotation = field.annotation
    if get_origin(annotation) in (Union, types.UnionType):
        annotation = next(each for each in get_args(annotation) if each is not type(None))
    if get_origin(annotation) is Literal:
        return click.Choice(get_args(annotation))
    kinds: dict[Any, click.ParamType[Any]] = {bool: click.BOOL, int: click.INT, float: click.FLOAT}
    return kinds.get(annotation, click.STRING)


def _help(field: FieldInfo) -> str:
    text = str(field.description)
    default = field.default
    if default in (None, "", False, PydanticUndefined) or "[" in text:
        return text
    return f"{text} [{'true' if default is True else default}]"


def _port(name: str, text: str) -> Optional[int]:
    """TensorFlow Serving turns a listener off by port 0."""
    if text == "auto":
        return 0
    if not text.isascii() or not text.isdigit() or int(text) > 65_535:
        raise ConfigError(
            f"{text!r} is no port; give 1 to 65535, 0 for none, or auto for any that is free",
            key=f"--{name}",
        )
    return int(text) or None


def _subjects() -> dict[str, str]:
    """Flag -> the subject under which it is listed."""
    found = {name: flag.subject for name, flag in OURS.items()}
    subject = _MODELS
    for name in GatewaySettings.model_fields:
        subject = _SUBJECTS.get(name, subject)
        found.setdefault(name, subject)
    return found
