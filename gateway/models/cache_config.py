"""What `--cache_config` says: how the answers of each model and signature are cached. No IO here.

    default:
      mode: auto
      policy: {lifetime_seconds: 3600}
    models:
      taxi:
        policy: {memory_bytes: 1073741824}
        signatures:
          serving_default: {mode: rows}
          explain: {mode: off}

What a signature does not say, its model says; what that does not, `default` says. A model's policy
is the default one with the keys changed that it names.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError
from pydantic_core import ErrorDetails

from tfx_encore.cache.breaker import BreakerPolicy
from tfx_encore.cache.cache_policy import CachePolicy, LifetimeRule
from tfx_encore.schemas.errors import ConfigError

WantedMode = Literal["auto", "rows", "requests", "off"]

_SHOWN = 60  # characters of a value that a message repeats
_EXPECTED = {
    "bool_type": "true or false",
    "float_type": "a number",
    "int_type": "a whole number",
    "int_from_float": "a whole number",
    "model_type": "a mapping",
    "dict_type": "a mapping",
    "string_type": "text",
    "tuple_type": "a list",
}


def _off(value: Any) -> Any:
    """YAML 1.1 reads `off` as false."""
    return "off" if value is False else value


Mode = Annotated[WantedMode, BeforeValidator(_off)]


class SignatureSetting(BaseModel):
    """What is said of one signature; None for what is not."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    mode: Mode | None = Field(
        default=None,
        description="`rows`, `requests` or `off`; `auto` trusts a certificate, or checks at load.",
    )
    exclude_features: tuple[str, ...] | None = Field(
        default=None,
        description="Features of a tf.Example that no answer is computed from, where the graph "
        "does not show what it parses; they are left out of the key.",
    )


class ModelSetting(SignatureSetting):
    """What is said of one model."""

    policy: CachePolicy = Field(
        default=CachePolicy(), description="What is kept and for how long, where not the default."
    )
    signatures: dict[str, SignatureSetting] = Field(
        default_factory=dict, description="By name of the signature."
    )


class DefaultSetting(BaseModel):
    """What holds where nothing else is said."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    mode: Mode = Field(default="auto", description="As of a signature.")
    exclude_features: tuple[str, ...] = Field(default=(), description="As of a signature.")
    policy: CachePolicy = Field(default=CachePolicy(), description="What is kept and for how long.")


@dataclass(frozen=True)
class Wanted:
    """What is wanted of one signature.

    Attributes:
        mode: see `SignatureSetting`.
        exclude_features: likewise.
    """

    mode: WantedMode = "auto"
    exclude_features: tuple[str, ...] = ()


@dataclass(frozen=True)
class CacheSetting:
    """What is wanted of one model.

    Attributes:
        default: of the signatures that are not named.
        signatures: of those that are.
        policy: what is kept and for how long.
    """

    default: Wanted = Wanted()
    signatures: Mapping[str, Wanted] = field(default_factory=dict)
    policy: CachePolicy = field(default_factory=CachePolicy)

    def wanted(self, signature: str) -> Wanted:
        """What is wanted of a signature."""
        return self.signatures.get(signature, self.default)


class CacheConfig(BaseModel):
    """The file that `--cache_config` names."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    default: DefaultSetting = Field(
        default=DefaultSetting(), description="What holds where nothing else is said."
    )
    models: dict[str, ModelSetting] = Field(
        default_factory=dict, description="By name of the model."
    )

    @classmethod
    def parse(cls, document: object, source: str) -> CacheConfig:
        """Checks a parsed YAML or JSON document; an empty one (None) means all defaults.

        Args:
            document: mappings, lists, text, numbers, truth values.
            source: the file, for messages.

        Raises:
            ConfigError: a key is unknown or a value is not allowed.
        """
        try:
            return cls.model_validate({} if document is None else document)
        except ValidationError as error:
            raise _config_error(error, source) from error

    def setting(self, model: str) -> CacheSetting:
        """Returns what is wanted of a model."""
        default = Wanted(self.default.mode, self.default.exclude_features)
        found = self.models.get(model)
        if found is None:
            return CacheSetting(default, {}, self.default.policy)
        own = _inherit(found, default)
        signatures = {name: _inherit(item, own) for name, item in found.signatures.items()}
        return CacheSetting(own, signatures, _overlay(self.default.policy, found.policy))


def _inherit(setting: SignatureSetting, parent: Wanted) -> Wanted:
    exclude = setting.exclude_features
    return Wanted(
        setting.mode or parent.mode, parent.exclude_features if exclude is None else exclude
    )


def _overlay(base: CachePolicy, changes: CachePolicy) -> CachePolicy:
    """Returns a policy with the keys changed that were given."""
    given: dict[str, Any] = {name: getattr(changes, name) for name in changes.model_fields_set}
    if "breaker" in given:
        breaker = changes.breaker
        own = {name: getattr(breaker, name) for name in breaker.model_fields_set}
        given["breaker"] = base.breaker.model_copy(update=own)
    return base.model_copy(update=given)


def _config_error(error: ValidationError, source: str) -> ConfigError:
    """The most telling error, as one line: a misspelt key before what it makes missing."""
    details = error.errors(include_url=False)
    unknown = [item for item in details if item["type"] == "extra_forbidden"]
    first = (unknown or details)[0]
    key = ".".join(str(part) for part in first["loc"]) or None
    return ConfigError(_message(first), file=source, key=key)


def _message(detail: ErrorDetails) -> str:
    kind, context = detail["type"], detail.get("ctx", {})
    if kind == "extra_forbidden":
        return f"unknown key{_suggestion(str(detail['loc'][-1]), _keys_at(detail['loc'][:-1]))}"
    found = _shown(detail["input"])
    if kind == "literal_error":
        valid = context["expected"].replace("'", "").replace(" or ", ", ").split(", ")
        return f"found {found}{_suggestion(str(detail['input']), valid)}"
    if kind in _EXPECTED:
        return f"expected {_EXPECTED[kind]}, found {found}"
    wanted = detail["msg"].removeprefix("Input should be ")
    return f"must be {wanted}, found {found}"


def _keys_at(place: tuple[int | str, ...]) -> list[str]:
    """Returns the keys that are known at a place of the document; none if they are free."""
    model: type[BaseModel] = CacheConfig
    parts = iter(map(str, place))
    for part in parts:
        if part.isdigit():
            continue  # the place in a list
        if part not in _SECTIONS:
            return []
        model = _SECTIONS[part]
        if part in ("models", "signatures"):
            next(parts, None)  # the name of one
    return list(model.model_fields)


_SECTIONS: dict[str, type[BaseModel]] = {
    "default": DefaultSetting,
    "models": ModelSetting,
    "signatures": SignatureSetting,
    "policy": CachePolicy,
    "breaker": BreakerPolicy,
    "lifetimes": LifetimeRule,
}


def _suggestion(name: str, valid: list[str]) -> str:
    if not valid:
        return "; remove it"
    near = difflib.get_close_matches(name, valid, n=1)
    return (f"; did you mean {near[0]!r}? Valid: " if near else "; valid: ") + ", ".join(valid)


def _shown(value: Any) -> str:
    text = "nothing" if value is None else repr(value)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."
