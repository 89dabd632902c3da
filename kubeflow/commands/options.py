"""What the subcommands of `encore kubeflow` share."""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Callable, Iterable
from typing import Any, TypeVar

import click

from tfx_encore.kubeflow.target import Amounts, SecretVariable, Volume
from tfx_encore.schemas.errors import ConfigError

F = TypeVar("F", bound=Callable[..., Any])

KINDS = ("release", "nightly")


def kind_argument(function: F) -> F:
    """Adds `[release|nightly]`; the function receives `kind`, None for both."""
    return click.argument("kind", type=click.Choice(KINDS), required=False)(function)


def set_option(function: F) -> F:
    """Adds `--set KEY=VALUE`; the function receives `settings`."""
    return click.option(
        "--set",
        "settings",
        multiple=True,
        metavar="KEY=VALUE",
        help="A key of encore.yaml with dots, as drift.thresholds.psi=0.3; repeat.",
    )(function)


def need_kfp() -> None:
    """Checks that Kubeflow's SDK is installed; TFX compiles with its messages too.

    Raises:
        ConfigError: it is not.
    """
    if importlib.util.find_spec("kfp") is None:
        raise ConfigError(
            "`encore kubeflow` needs the package kfp; install a pinned set (docs/install.md), or "
            "`pip install 'tfx[kfp]'`"
        )


def parse_volume(text: str) -> Volume:
    """Reads CLAIM:PATH.

    Raises:
        ConfigError: it is not.
    """
    claim, colon, path = text.partition(":")
    if not (claim and colon and path.startswith("/")):
        raise ConfigError(f"{text!r} is not CLAIM:PATH, as request-log:/logs", key="--volume")
    return Volume(claim, path)


def parse_secret(text: str) -> SecretVariable:
    """Reads VARIABLE=SECRET:KEY.

    Raises:
        ConfigError: it is not.
    """
    variable, _, place = text.partition("=")
    secret, _, key = place.partition(":")
    if not (_is_variable(variable) and secret and key):
        raise ConfigError(
            f"{text!r} is not VARIABLE=SECRET:KEY, as ENCORE_KEY=encore-keys:request-log",
            key="--secret-env",
        )
    return SecretVariable(secret, key, variable)


def parse_variable(text: str) -> tuple[str, str]:
    """Reads VARIABLE=VALUE.

    Raises:
        ConfigError: it is not.
    """
    variable, equals, value = text.partition("=")
    if not (_is_variable(variable) and equals):
        raise ConfigError(f"{text!r} is not VARIABLE=VALUE", key="--env")
    return variable, value


def parse_amounts(texts: Iterable[str], option: str, example: str, *, least: str) -> Amounts:
    """Reads [TASK=]QUANTITY, Kubernetes' quantities; of two for the same the last counts.

    Args:
        texts: what was given.
        option: its name, for errors.
        example: a quantity, for errors.
        least: the least that can be meant; what is below lacks its unit.

    Raises:
        ConfigError: it is not in that form, or too little.
    """
    from kubernetes.utils import parse_quantity

    each, of_task = None, {}
    for text in texts:
        task, equals, quantity = text.rpartition("=")
        try:
            amount = parse_quantity(quantity)
            fits = parse_quantity(least) <= amount < 2**60
        except (ValueError, ArithmeticError):
            amount = fits = None
        if amount is None or (equals and not task):
            raise ConfigError(
                f"{text!r} is not [TASK=]QUANTITY, as {example} or Trainer={example}", key=option
            )
        if not fits:
            raise ConfigError(f"{text!r}: give {least} or more, as {example}", key=option)
        if task:
            of_task[task] = float(amount)
        else:
            each = float(amount)
    return Amounts(each, of_task)


def _is_variable(name: str) -> bool:
    return re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", name) is not None
