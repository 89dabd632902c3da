"""What kubectl builds, and that Kubernetes of several versions takes it, strictly."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest

ROOT = Path(__file__).parents[3]
PARTS = ("redis", "certificates", "tf-serving", "monitoring", "nightly")
SCALERS = ((), ("hpa",), ("keda",))
KUBERNETES = ("1.28", "1.31", "1.34", "1.37")
CUSTOM = {"cert-manager.io", "keda.sh", "monitoring.coreos.com"}

pytestmark = pytest.mark.service("npm")


def combinations() -> Iterator[tuple[str, ...]]:
    """Every set of components that may stand together."""
    for size in range(len(PARTS) + 1):
        for some, scaler in itertools.product(itertools.combinations(PARTS, size), SCALERS):
            yield (*some, *scaler) or ("base",)


ALONE = [names for names in combinations() if len(names) == 1]
ALL = [(*PARTS, *scaler) for scaler in SCALERS[1:]]


@pytest.mark.parametrize("folder", ["base", "overlays/local", "overlays/production"])
def test_old_and_new_kubectl_build_the_same_without_flags(
    kustomize: Callable[..., str], folder: str
) -> None:
    old, new = (kustomize(ROOT / "kubeflow" / folder, version) for version in ("1.28", "1.35"))
    assert old == new
    assert "kind: Deployment" in new


@pytest.mark.parametrize("names", [*ALONE, *ALL], ids="+".join)
def test_a_component_builds_with_the_base_alone(build: Any, names: tuple[str, ...]) -> None:
    assert is_whole(build(*names))


@pytest.mark.slow
def test_every_combination_of_components_builds(build: Any) -> None:
    made = {names: build(*names) for names in combinations()}
    assert len(made) == 2 ** len(PARTS) * len(SCALERS)
    assert [names for names, objects in made.items() if not is_whole(objects)] == []


def is_whole(objects: list[dict[str, Any]]) -> bool:
    """Whether each object is there once, and the gateway is among them."""
    names = [(each["kind"], each["metadata"]["name"]) for each in objects]
    return len(names) == len(set(names)) and ("Deployment", "encore-gateway") in names


def validate(each: dict[str, Any], version: str) -> None:
    """Checks an object of Kubernetes' own against the schema, unknown keys refused."""
    kubernetes_validate.validate(each, version, strict=True)


@pytest.mark.parametrize("version", KUBERNETES)
@pytest.mark.parametrize(
    "names", [("overlays/local",), ("overlays/production",), *ALL[1:]], ids="+".join
)
def test_kubernetes_takes_every_object_strictly(
    build: Any, names: tuple[str, ...], version: str
) -> None:
    own = [each for each in build(*names) if each["apiVersion"].split("/")[0] not in CUSTOM]
    for each in own:
        validate(each, version)
    assert len(own) > 10


@pytest.mark.parametrize("version", KUBERNETES)
def test_a_slip_in_a_manifest_is_noticed(production: Any, find: Any, version: str) -> None:
    """So that a validator that takes anything would be noticed."""
    deployment = find(production, "Deployment", "encore-gateway")
    spec = deployment["spec"]
    for wrong in ({"maxUnavailable": 0}, {"replicas": "two"}):
        with pytest.raises(kubernetes_validate.ValidationError):
            validate({**deployment, "spec": {**spec, **wrong}}, version)


def test_a_kubernetes_that_lacks_what_is_used_is_not_promised(production: Any, find: Any) -> None:
    """docs/kubernetes.md says 1.28; of the older ones these schemas refuse something."""
    budget = find(production, "PodDisruptionBudget", "encore-gateway")
    with pytest.raises(kubernetes_validate.ValidationError, match="unhealthyPodEvictionPolicy"):
        validate(budget, "1.25")
