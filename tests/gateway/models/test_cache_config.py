"""The file that --cache_config names: what inherits from what, and what is said of mistakes."""

from __future__ import annotations

import pytest

from tfx_encore.cache.cache_policy import CachePolicy
from tfx_encore.gateway.models.cache_config import CacheConfig, CacheSetting, Wanted
from tfx_encore.schemas.errors import ConfigError


def parse(document):
    return CacheConfig.parse(document, "cache.yaml")


def test_an_empty_file_means_auto_for_everything():
    for document in (None, {}, {"models": {}}):
        setting = parse(document).setting("taxi")
        assert setting == CacheSetting(Wanted("auto"), {}, CachePolicy())
        assert setting.wanted("serving_default").mode == "auto"


def test_a_signature_inherits_from_its_model_and_the_model_from_the_default():
    config = parse(
        {
            "default": {"mode": "requests", "exclude_features": ["id"]},
            "models": {
                "taxi": {"mode": "rows", "signatures": {"explain": {"mode": "off"}}},
                "bank": {"signatures": {"s": {"exclude_features": []}}},
            },
        }
    )
    taxi, bank, other = (config.setting(name) for name in ("taxi", "bank", "other"))
    assert taxi.wanted("serving_default") == Wanted("rows", ("id",))
    assert taxi.wanted("explain") == Wanted("off", ("id",))
    assert bank.wanted("s") == Wanted("requests", ())
    assert other.wanted("s") == Wanted("requests", ("id",))


def test_a_models_policy_changes_only_the_keys_that_it_names():
    config = parse(
        {
            "default": {"policy": {"lifetime_seconds": 60, "breaker": {"failures": 3}}},
            "models": {
                "taxi": {"policy": {"memory_bytes": 1024, "breaker": {"open_seconds": 2}}},
                "bank": {"policy": {"lifetime_seconds": 86400.0}},
            },
        }
    )
    taxi = config.setting("taxi").policy
    assert (taxi.lifetime_seconds, taxi.memory_bytes) == (60, 1024)
    assert (taxi.breaker.failures, taxi.breaker.open_seconds) == (3, 2)
    assert config.setting("other").policy.breaker.failures == 3
    # The value that is also the built-in default is said on purpose.
    assert config.setting("bank").policy.lifetime_seconds == 86_400


def test_off_that_a_yaml_reader_took_for_false_is_off():
    assert parse({"default": {"mode": False}}).setting("taxi").default.mode == "off"


@pytest.mark.parametrize(
    ("document", "message"),
    [
        (
            {"models": {"taxi": {"mod": "rows"}}},
            "cache.yaml: models.taxi.mod: unknown key; did you mean 'mode'? Valid: mode, "
            "exclude_features, policy, signatures",
        ),
        (
            {"models": {"taxi": {"signatures": {"s": {"polcy": {}}}}}},
            "cache.yaml: models.taxi.signatures.s.polcy: unknown key; valid: mode, "
            "exclude_features",
        ),
        (
            {"default": {"mode": "row"}},
            "cache.yaml: default.mode: found 'row'; did you mean 'rows'? Valid: auto, rows, "
            "requests, off",
        ),
        (
            {"default": {"policy": {"lifetime_seconds": -1}}},
            "cache.yaml: default.policy.lifetime_seconds: must be greater than or equal to 0, "
            "found -1",
        ),
        (
            {"default": {"policy": {"breaker": {"failure": 1}}}},
            "cache.yaml: default.policy.breaker.failure: unknown key; did you mean 'failures'? "
            "Valid: failures, open_seconds, max_open_seconds",
        ),
        (
            {"default": {"policy": {"lifetimes": [{"secs": 1}]}}},
            "cache.yaml: default.policy.lifetimes.0.secs: unknown key; did you mean 'seconds'? "
            "Valid: model, signature, seconds",
        ),
        (
            {"models": {"taxi": {"exclude_features": "id"}}},
            "cache.yaml: models.taxi.exclude_features: expected a list, found 'id'",
        ),
        ({"models": ["taxi"]}, "cache.yaml: models: expected a mapping, found ['taxi']"),
        ([1], "cache.yaml: expected a mapping, found [1]"),
        ({"tiers": 1}, "cache.yaml: tiers: unknown key; valid: default, models"),
        (
            {"models": {"taxi": {"mode": None}}, "default": {"mode": None}},
            "cache.yaml: default.mode: found nothing; valid: auto, rows, requests, off",
        ),
    ],
)
def test_a_mistake_is_named_with_file_key_value_and_way_out(document, message):
    with pytest.raises(ConfigError) as caught:
        parse(document)
    assert str(caught.value) == message
