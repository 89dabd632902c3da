"""Decides how the answers of each signature may be cached, when a version is loaded.

What the configuration says goes first, then the release's certificate, then a check of our own: the
graph must hold nothing that may differ between two runs, and rows that are computed again, and in
other company, must give the same answers (docs/adr/0003-what-row-independent-means.md). Nothing of
this fails a load: what cannot be shown is not cached.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from tfx_encore.cache.row_spec import SignatureSpec
from tfx_encore.cache.saved_model_graph import GraphReading, load_meta_graph, read_signature
from tfx_encore.gateway.errors import ServingError
from tfx_encore.gateway.model_port import LoadedModel
from tfx_encore.gateway.models.cache_config import CacheSetting, Wanted
from tfx_encore.gateway.models.row_check import Checked, check_requests, check_rows
from tfx_encore.gateway.models.sample_rows import batch_problem, spec_of
from tfx_encore.gateway.models.warmup import calls_of, read_records, warmup_file
from tfx_encore.gateway.models.words import words_of
from tfx_encore.gateway.servable import CacheMode, Plan
from tfx_encore.gateway.signature import Signature, Tensors
from tfx_encore.schemas.release import Certificate

log = logging.getLogger("tfx_encore.gateway")

_MAX_RECORDS = 256  # of the warm-up file, to find rows of every signature


class _Known(NamedTuple):
    """What is known of a version before anything is computed.

    Attributes:
        meta: its MetaGraphDef; None if it cannot be read here.
        problem: why not.
        words: texts that the graph knows.
        requests: signature -> requests of the warm-up file.
    """

    meta: Any
    problem: str
    words: tuple[bytes, ...]
    requests: Mapping[str, Sequence[Tensors]]


async def plans(
    model: LoadedModel, path: str, certificate: Certificate | None, wanted: CacheSetting
) -> dict[str, Plan]:
    """Says how the answers of each signature are cached, and why.

    Args:
        model: the version, able to run.
        path: of its SavedModel; if it cannot be read, `auto` means `off`.
        certificate: what its release says of one signature, if anything.
        wanted: what the configuration says.

    Returns:
        A plan for each signature; never raises for what the model does.
    """
    known = await asyncio.to_thread(_look, model, path)
    found = {}
    for name, signature in model.signatures.items():
        of_signature = certificate if certificate and certificate.signature == name else None
        try:
            plan = await _plan(model, signature, known, of_signature, wanted.wanted(name))
        except Exception as error:
            log.debug("cache check failed", exc_info=True)
            plan = Plan("off", reason=f"the check failed: {_line(error)}")
        log.debug(
            "cache plan model=%s version=%d signature=%s mode=%s reason=%r",
            *(model.name, model.version, name, plan.mode, plan.reason),
        )
        found[name] = plan
    return found


async def _plan(
    model: LoadedModel,
    signature: Signature,
    known: _Known,
    certificate: Certificate | None,
    wanted: Wanted,
) -> Plan:
    if wanted.mode == "off":
        return Plan("off", reason="off by configuration")
    reading, problem = await asyncio.to_thread(_read, signature, known, wanted)
    if wanted.mode != "auto":
        return _as_configured(model, signature, reading, wanted.mode)
    if reading is None:
        return Plan("off", reason=f"{problem}; set a mode in the cache configuration")
    if reading.stateful_ops:
        return Plan("off", reason=f"operations that may differ each time: {_list(reading)}")
    if certificate is not None and not certificate.deterministic:
        return Plan("off", reason=f"certificate: {certificate.message}")
    return await _by_evidence(model, signature, known, certificate, reading.spec)


async def _by_evidence(
    model: LoadedModel,
    signature: Signature,
    known: _Known,
    certificate: Certificate | None,
    spec: SignatureSpec,
) -> Plan:
    """What the certificate or our own check shows of a signature without stateful operations."""
    no_rows = batch_problem(signature)
    if not no_rows and certificate is not None:
        if certificate.cacheable_rows:
            return Plan("rows", spec, f"certified: {certificate.message}")
        no_rows = f"certificate: {certificate.message}"
    requests = known.requests.get(signature.name, ())
    if not no_rows:
        checked = await check_rows(model, signature, spec, requests, known.words)
        if checked.mode != "requests":
            return _plan_of(checked, spec)
        no_rows = checked.reason
    # What was computed for the rows does not stand for whole requests of any shape.
    whole = await check_requests(model, signature, requests, known.words)
    if whole.mode == "off":
        return _plan_of(whole, None)
    return Plan("requests", reason=no_rows)


def _as_configured(
    model: LoadedModel, signature: Signature, reading: GraphReading | None, mode: str
) -> Plan:
    """What the configuration says, as far as it can be done."""
    place = (model.name, model.version, signature.name)
    if reading is not None and reading.stateful_ops:
        log.warning(
            "cached by configuration although answers may differ each time "
            "model=%s version=%d signature=%s operations=%s",
            *(*place, _list(reading)),
        )
    if mode == "requests":
        return Plan("requests", reason="requests by configuration")
    problem = batch_problem(signature)
    if problem:
        log.warning(
            "cached by requests although the configuration says rows "
            "model=%s version=%d signature=%s reason=%r",
            *(*place, problem),
        )
        return Plan("requests", reason=f"rows by configuration, but {problem}")
    spec = reading.spec if reading is not None else spec_of(signature)
    return Plan("rows", spec, "rows by configuration")


def _plan_of(checked: Checked, spec: SignatureSpec | None) -> Plan:
    mode: CacheMode = checked.mode
    return Plan(mode, spec if mode == "rows" else None, checked.reason)


def _look(model: LoadedModel, path: str) -> _Known:
    """Reads what lies at the path."""
    requests = _warm_requests(model, path)
    try:
        meta = load_meta_graph(path)
        return _Known(meta, "", words_of(meta, path), requests)
    except Exception as error:  # noqa: BLE001 - whatever it is, it must not fail the load
        return _Known(None, f"the graph cannot be read: {_line(error)}", (), requests)


def _warm_requests(model: LoadedModel, path: str) -> dict[str, list[Tensors]]:
    found: dict[str, list[Tensors]] = {}
    try:
        file = warmup_file(path)
        records = read_records(file, _MAX_RECORDS) if file.is_file() else []
        for record in records:
            for call in calls_of(record, model.signatures):
                found.setdefault(call.signature, []).append(call.inputs)
    except (ServingError, OSError) as error:
        log.debug("warm-up file not used for the cache check: %s", error)
    return found


def _read(signature: Signature, known: _Known, wanted: Wanted) -> tuple[GraphReading | None, str]:
    """Returns what the graph says of a signature, or why it does not say."""
    if known.meta is None:
        return None, known.problem
    exclude = wanted.exclude_features
    try:
        reading = read_signature(known.meta, signature.name, exclude=exclude)
    except Exception as error:  # noqa: BLE001 - likewise
        return None, f"the graph cannot be followed: {_line(error)}"
    ignored = set(exclude) if reading.spec.form != "opaque" else set()
    if ignored & {feature.name for feature in reading.spec.key_features}:
        log.warning(
            "features stay in the key, as the graph reads them signature=%s features=%s",
            *(signature.name, sorted(ignored)),
        )
    return reading, ""


def _list(reading: GraphReading) -> str:
    return ", ".join(reading.stateful_ops)


def _line(error: BaseException) -> str:
    text = " ".join(str(error).split())
    return text[:300] or type(error).__name__
