"""What holds of every pod, and of the objects around it: a table, and what it refers to."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[3]
GUIDE = ROOT / "docs/kubernetes.md"
EVERYTHING = ("redis", "certificates", "tf-serving", "monitoring", "nightly", "keda")
BUILDS = [("overlays/local",), ("overlays/production",), EVERYTHING]

pytestmark = [
    pytest.mark.service("npm"),
    pytest.mark.parametrize("names", BUILDS, ids=["local", "production", "everything"]),
]

Object = dict[str, Any]


@pytest.fixture
def objects(build: Any, names: tuple[str, ...]) -> list[Object]:
    found: list[Object] = build(*names)
    return found


def containers(spec: Object) -> Iterator[Object]:
    yield from [*spec.get("initContainers", ()), *spec["containers"]]


# What is asked of a pod, and of a container; by name, so that a failure says which.
OF_PODS: dict[str, Callable[[Object], bool]] = {
    "an account of its own": lambda s: s.get("serviceAccountName", "default") != "default",
    "no token": lambda s: s["automountServiceAccountToken"] is False,
    "no list of services in its environment": lambda s: s["enableServiceLinks"] is False,
    "not root": lambda s: s["securityContext"]["runAsNonRoot"] is True,
    "a numeric user": lambda s: s["securityContext"]["runAsUser"] > 0,
    "seccomp": lambda s: s["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"},
    "no host": lambda s: not any(s.get(f"host{name}") for name in ("Network", "PID", "IPC")),
    "an end in time": lambda s: 0 < s["terminationGracePeriodSeconds"] <= 120,
    "volumes that are bounded": lambda s: all(
        v["emptyDir"].get("sizeLimit") for v in s["volumes"] if "emptyDir" in v
    ),
    "no path of the node": lambda s: not any("hostPath" in v for v in s["volumes"]),
}
OF_CONTAINERS: dict[str, Callable[[Object], bool]] = {
    "a root that is read-only": lambda c: c["securityContext"]["readOnlyRootFilesystem"],
    "no more rights": lambda c: c["securityContext"]["allowPrivilegeEscalation"] is False,
    "no capability": lambda c: c["securityContext"]["capabilities"] == {"drop": ["ALL"]},
    "no other security": lambda c: len(c["securityContext"]) == 3,
    "a processor asked for": lambda c: bool(c["resources"]["requests"]["cpu"]),
    "memory asked for and bounded alike": lambda c: (
        c["resources"]["requests"]["memory"] == c["resources"]["limits"]["memory"]
    ),
    "its disk bounded": lambda c: bool(c["resources"]["limits"]["ephemeral-storage"]),
    "no secret in its environment": lambda c: (
        not any(
            re.search("(?i)password|secret|token", e["name"]) and "value" in e
            for e in c.get("env", ())
        )
    ),
}


def test_every_pod_and_container_keeps_the_rules(objects: list[Object], pod_specs: Any) -> None:
    broken = []
    for name, spec in pod_specs(objects):
        broken += [f"{name}: {what}" for what, holds in OF_PODS.items() if not holds(spec)]
        for each in containers(spec):
            broken += [
                f"{name}/{each['name']}: {what}"
                for what, holds in OF_CONTAINERS.items()
                if not holds(each)
            ]
    assert broken == []


def test_what_runs_for_long_is_probed(objects: list[Object], pod_specs: Any) -> None:
    probes = {"startupProbe", "readinessProbe", "livenessProbe"}
    lacking = [
        (name, each["name"])
        for name, spec in pod_specs(objects)
        if not name.startswith("CronJob")
        for each in spec["containers"]
        if not probes <= set(each)
    ]
    assert lacking == []


def test_every_image_of_an_overlay_has_a_tag_that_stays(
    objects: list[Object], names: tuple[str, ...], pod_specs: Any
) -> None:
    images = {each["image"] for _, spec in pod_specs(objects) for each in containers(spec)}
    tags = {image: image.rpartition("/")[2].partition(":")[2] for image in images}
    assert "latest" not in tags.values()
    if names[0].startswith("overlays/"):
        assert [image for image, tag in tags.items() if not tag] == []


def test_the_namespace_asks_for_restricted_pods(
    objects: list[Object], names: tuple[str, ...]
) -> None:
    if names == EVERYTHING:
        assert not any(each["kind"] == "Namespace" for each in objects)
        return
    (namespace,) = [each for each in objects if each["kind"] == "Namespace"]
    assert namespace["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] == "restricted"
    others = [each for each in objects if each["kind"] != "Namespace"]
    assert {each["metadata"]["namespace"] for each in others} == {namespace["metadata"]["name"]}


def test_no_secret_has_content_here_and_no_account_has_a_right(objects: list[Object]) -> None:
    kinds = {each["kind"] for each in objects}
    assert kinds & {"Secret", "Role", "RoleBinding", "ClusterRole", "ClusterRoleBinding"} == set()
    accounts = [each for each in objects if each["kind"] == "ServiceAccount"]
    assert all(each["automountServiceAccountToken"] is False for each in accounts)


# --- references ----------------------------------------------------------------------------------


def references(value: Any) -> Iterator[tuple[str, str]]:
    """Kind and name of what a pod spec refers to."""
    keys = {"configMap": "ConfigMap", "configMapKeyRef": "ConfigMap", "secretKeyRef": "Secret"}
    if isinstance(value, list):
        for each in value:
            yield from references(each)
    if not isinstance(value, dict):
        return
    for key, inner in value.items():
        if key in keys and "name" in inner:
            yield keys[key], inner["name"]
        elif key == "secret":
            yield "Secret", inner["secretName"]
        elif key == "persistentVolumeClaim":
            yield "PersistentVolumeClaim", inner["claimName"]
        elif key == "serviceAccountName":
            yield "ServiceAccount", inner
        else:
            yield from references(inner)


def required_secrets() -> dict[str, set[str]]:
    """Name -> keys, of the table in the guide."""
    rows = re.findall(r"^\| `(encore-[\w-]+)` \| ([^|]+) \|", GUIDE.read_text(), re.MULTILINE)
    return {name: set(re.findall(r"`([^`]+)`", keys)) for name, keys in rows}


def test_what_is_referred_to_is_there_or_in_the_guides_table(
    objects: list[Object], pod_specs: Any
) -> None:
    there = {(each["kind"], each["metadata"]["name"]) for each in objects}
    wanted = {found for _, spec in pod_specs(objects) for found in references(spec)}
    missing = wanted - there
    assert {kind for kind, _ in missing} <= {"Secret"}
    assert {name for _, name in missing} <= set(required_secrets())


def test_keys_of_secrets_are_those_that_are_made(
    objects: list[Object], names: tuple[str, ...], pod_specs: Any
) -> None:
    used: dict[str, set[str]] = {}
    for _, spec in pod_specs(objects):
        for each in containers(spec):
            for entry in each.get("env", ()):
                ref = entry.get("valueFrom", {}).get("secretKeyRef")
                if ref:
                    used.setdefault(ref["name"], set()).add(ref["key"])
        for volume in spec["volumes"]:
            for item in volume.get("secret", {}).get("items", ()):
                used.setdefault(volume["secret"]["secretName"], set()).add(item["key"])
    table = required_secrets()
    assert {name: keys - table[name] for name, keys in used.items()} == {
        name: set() for name in used
    }
    assert bool(used) == (names != ("overlays/local",))


def test_every_claim_is_mounted_where_the_same_thing_lies(
    objects: list[Object], pod_specs: Any
) -> None:
    """Paths are written into releases (models.config), so a claim has one place in all pods."""
    places: dict[str, set[str]] = {}
    for _, spec in pod_specs(objects):
        claims = {
            v["name"]: v["persistentVolumeClaim"]["claimName"]
            for v in spec["volumes"]
            if "persistentVolumeClaim" in v
        }
        for each in containers(spec):
            for mount in each["volumeMounts"]:
                if mount["name"] in claims and "subPathExpr" not in mount:
                    places.setdefault(claims[mount["name"]], set()).add(mount["mountPath"])
    assert places["encore-releases"] == {"/var/lib/encore/releases"}
    assert all(len(paths) == 1 for paths in places.values())


def test_only_jobs_write_releases(objects: list[Object], pod_specs: Any) -> None:
    writers = {
        (name, each["name"])
        for name, spec in pod_specs(objects)
        for each in containers(spec)
        for mount in each["volumeMounts"]
        if mount["mountPath"] == "/var/lib/encore/releases" and not mount.get("readOnly")
    }
    made = {
        ("Deployment/encore-gateway", "acknowledgements"),
        ("CronJob/encore-nightly", "nightly"),
    }
    assert writers == made


def test_the_gateways_one_writable_place_among_releases_is_its_models(
    objects: list[Object], find: Any
) -> None:
    model = find(objects, "ConfigMap", "encore-settings")["data"]["MODEL"]
    spec = find(objects, "Deployment", "encore-gateway")["spec"]["template"]["spec"]
    (mount,) = [m for m in spec["containers"][0]["volumeMounts"] if "subPathExpr" in m]
    path = f"{model}/journal/acknowledgements"
    assert mount["subPathExpr"].replace("$(MODEL)", model) == path
    assert mount["mountPath"] == f"/var/lib/encore/releases/{path}"


def test_selectors_match_pods_and_ports_are_named(objects: list[Object]) -> None:
    pods = [each["spec"]["template"] for each in objects if each["kind"] == "Deployment"]
    for each in objects:
        if each["kind"] == "Service":
            (pod,) = [p for p in pods if matches(each["spec"]["selector"], p)]
            named = {port["name"] for c in pod["spec"]["containers"] for port in c["ports"]}
            assert {port["targetPort"] for port in each["spec"]["ports"]} <= named
        if each["kind"] in {"Deployment", "PodDisruptionBudget"}:
            assert any(matches(each["spec"]["selector"]["matchLabels"], pod) for pod in pods)
        if each["kind"] == "ServiceMonitor":
            (service,) = [
                s
                for s in objects
                if s["kind"] == "Service" and matches(each["spec"]["selector"]["matchLabels"], s)
            ]
            named = {port["name"] for port in service["spec"]["ports"]}
            assert {end["port"] for end in each["spec"]["endpoints"]} <= named
            # The alerts and dashboards ask for jobs of these names.
            assert service["metadata"]["labels"][each["spec"]["jobLabel"]] in {
                *("encore-gateway", "encore-monitor")
            }
        if each["kind"] in {"HorizontalPodAutoscaler", "ScaledObject"}:
            assert find_target(objects, each["spec"]["scaleTargetRef"])


def find_target(objects: list[Object], target: Object) -> bool:
    """Whether what is scaled is there and leaves the number of its pods to whoever scales it."""
    (found,) = [
        each
        for each in objects
        if (each["kind"], each["metadata"]["name"]) == (target["kind"], target["name"])
    ]
    return "replicas" not in found["spec"]


def matches(selector: Object, each: Object) -> bool:
    labels = each["metadata"].get("labels", {})
    return bool(selector) and all(labels.get(key) == value for key, value in selector.items())


# --- the network ---------------------------------------------------------------------------------


def flows(objects: list[Object], direction: str) -> set[tuple[str, str, str]]:
    """(who, other side, port) of what is allowed: `*` for every pod here."""
    found = set()
    for each in objects:
        if each["kind"] != "NetworkPolicy":
            continue
        who = each["spec"]["podSelector"].get("matchLabels", {}).get("app.kubernetes.io/name", "*")
        side = "from" if direction == "ingress" else "to"
        for rule in each["spec"].get(direction, ()):
            assert rule[side], "an empty list is everybody"
            for peer in rule[side]:
                other = yaml.safe_dump(peer, default_flow_style=True).strip()
                label = peer.get("podSelector", {}).get("matchLabels", {})
                name = label.get("app.kubernetes.io/name") or label.get("k8s-app") or other
                found |= {(who, name, str(port["port"])) for port in rule["ports"]}
    return found


def test_only_the_flows_that_are_drawn_are_allowed(
    objects: list[Object], names: tuple[str, ...]
) -> None:
    (deny,) = [e for e in objects if e["metadata"]["name"] == "encore-default-deny"]
    assert deny["spec"] == {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}
    out = flows(objects, "egress")
    assert {("*", "kube-dns", "53")} <= out
    parts = {"overlays/local": set(), "overlays/production": {"redis", "monitoring"}}
    parts = parts.get(names[0], {"redis", "monitoring", "tf-serving"})
    expected = {
        "redis": {("encore-gateway", "encore-redis", "redis")},
        "tf-serving": {("encore-gateway", "encore-tf-serving", "grpc")},
    }
    wanted = set().union(*(expected.get(part, set()) for part in parts))
    assert out - {("*", "kube-dns", "53")} == wanted
    into = {(other, who, port) for who, other, port in flows(objects, "ingress")}
    assert wanted <= into
    scraped = {
        ("prometheus", "encore-gateway", "rest"),
        ("prometheus", "encore-monitor", "metrics"),
    }
    clients = {flow for flow in into - wanted if "tfx-encore/client" in flow[0]}
    assert into - wanted - clients == (scraped if "monitoring" in parts else set())
    assert {(who, port) for _, who, port in clients} == {
        ("encore-gateway", "rest"),
        ("encore-gateway", "grpc"),
    }
