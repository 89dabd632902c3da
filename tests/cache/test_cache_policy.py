"""Lifetimes, jitter and early refresh."""

from __future__ import annotations

import numpy as np
import pytest
from pydantic import ValidationError

from tfx_encore.cache.cache_policy import CachePolicy, LifetimeRule, small_memory


def test_the_most_particular_rule_wins():
    policy = CachePolicy(
        lifetime_seconds=1.0,
        lifetimes=(
            LifetimeRule(model="taxi", signature="predict", seconds=4.0),
            LifetimeRule(model="taxi", seconds=2.0),
            LifetimeRule(signature="predict", seconds=3.0),
        ),
    )
    assert policy.lifetime("taxi", "predict") == 4.0
    assert policy.lifetime("bank", "predict") == 3.0
    assert policy.lifetime("taxi", "classify") == 2.0
    assert policy.lifetime("bank", "classify") == 1.0


def test_jitter_only_shortens_a_lifetime():
    policy = CachePolicy(lifetime_seconds=100.0, lifetime_jitter=0.2)
    assert policy.expires_at("m", "s", 1000.0, 0.0) == 1100.0
    assert policy.expires_at("m", "s", 1000.0, 0.5) == 1090.0
    assert policy.expires_at("m", "s", 1000.0, 0.999) > 1080.0


def test_no_lifetime_is_no_expiry_and_is_never_due():
    policy = CachePolicy(lifetime_seconds=0.0)
    assert policy.expires_at("m", "s", 1000.0, 0.5) == 0.0
    assert not policy.is_due(0.0, 1e9, 1e12, 0.999)


def test_a_rejection_that_is_not_remembered_has_expired_already():
    assert CachePolicy(rejection_seconds=0.0).rejection_expires_at(1000.0, 0.5) == 1000.0
    assert CachePolicy(lifetime_jitter=0.0).rejection_expires_at(1000.0, 0.5) == 1030.0


@pytest.mark.parametrize("before", [0.1, 0.5, 1.0, 3.0])
def test_early_refresh_is_as_likely_as_xfetch_has_it(before):
    # P(due) = P(-cost * beta * ln(u) >= time left) = exp(-time left / (cost * beta))
    policy = CachePolicy(early_refresh=2.0, early_refresh_floor_seconds=0.0)
    chances = np.random.default_rng(7).random(20_000).tolist()
    due = np.mean([policy.is_due(1000.0, 0.5e6, 1000.0 - before, c) for c in chances])
    assert due == pytest.approx(np.exp(-before / (0.5 * 2.0)), abs=0.01)


def test_outside_the_window_nothing_is_ever_due():
    policy = CachePolicy(early_refresh=1.0, early_refresh_floor_seconds=0.1)
    window = policy.refresh_window(0.0)
    assert not policy.is_due(1000.0, 0.0, 1000.0 - window - 0.01, 1 - 2e-7)


def test_early_refresh_can_be_turned_off():
    assert not CachePolicy(early_refresh=0.0).is_due(1000.0, 1e6, 999.999, 0.999999)


def test_the_small_profile_is_small_and_can_be_changed():
    assert small_memory().memory_bytes < CachePolicy().memory_bytes / 10
    assert small_memory().memory_packed
    assert small_memory(memory_bytes=5).memory_bytes == 5


def test_a_misspelt_or_impossible_setting_is_refused():
    with pytest.raises(ValidationError):
        CachePolicy(lifetime=3)
    with pytest.raises(ValidationError):
        CachePolicy(lifetime_jitter=1.0)
