"""`encore kubeflow schedule`: one recurring run of a name, without overlap, catching up."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tfx_encore.kubeflow.schedule_plan import Existing, Schedule, Steps, steps_to

CRON = ["--cron", "0 3 * * *"]


@pytest.fixture
def schedule(server: Any, run_command: Any, files: Any) -> Any:
    """Runs `encore kubeflow schedule` on the nightly pipeline."""
    _, url = server

    def run(*arguments: str) -> Any:
        package = (
            () if any(a.startswith("--l") for a in arguments) else ("--package", files["nightly"])
        )
        return run_command("schedule", *package, "--host", url, *arguments)

    return run


def test_it_runs_one_at_a_time_and_makes_up_for_what_was_missed(server: Any, schedule: Any) -> None:
    content, _ = server
    done = schedule(*CRON, "--param", "date=yesterday", "--start", "2026-11-01")
    assert done.code == 0, done.err
    assert "taxi-nightly: created" in done.out
    (made,) = content.recurring.values()
    assert made["display_name"] == "taxi-nightly"
    assert made["trigger"] == {
        "cron_schedule": {"cron": "0 0 3 * * *", "start_time": "2026-11-01T00:00:00Z"}
    }
    assert made["max_concurrency"] == "1"
    assert made["no_catchup"] is False
    assert made["mode"] == "ENABLE"
    assert made["runtime_config"]["parameters"] == {"date": "yesterday"}


def test_called_again_it_changes_nothing(server: Any, schedule: Any) -> None:
    content, _ = server
    arguments = (*CRON, "--start", "2026-11-01", "--set", "nightly.season.weeks=3")
    assert "created" in schedule(*arguments).out
    before = dict(content.recurring)
    assert "unchanged" in schedule(*arguments).out
    assert content.recurring == before


def test_called_with_another_time_it_replaces_and_never_leaves_none(
    server: Any, schedule: Any
) -> None:
    content, _ = server
    schedule(*CRON)
    (old,) = content.recurring
    done = schedule("--cron", "30 4 * * *")
    assert "replaced" in done.out
    (made,) = content.recurring.values()
    assert made["trigger"]["cron_schedule"]["cron"] == "0 30 4 * * *"
    changes = [(r.method, r.path) for r in content.requests if "recurringruns" in r.path]
    created = changes.index(("POST", "/apis/v2beta1/recurringruns"), 2)
    assert changes.index(("DELETE", f"/apis/v2beta1/recurringruns/{old}")) > created


def test_of_two_that_a_dead_process_left_the_older_is_deleted(server: Any, schedule: Any) -> None:
    content, _ = server
    schedule(*CRON)
    (right,) = content.recurring
    stray = {**content.recurring[right], "recurring_run_id": "stray", "trigger": {}}
    content.recurring = {"stray": stray, right: content.recurring[right]}
    assert schedule(*CRON).code == 0
    assert set(content.recurring) == {right}


def test_recurring_runs_of_other_names_are_left_alone(server: Any, schedule: Any) -> None:
    content, _ = server
    schedule(*CRON, "--name", "morning")
    schedule("--cron", "0 15 * * *", "--name", "afternoon")
    assert {r["display_name"] for r in content.recurring.values()} == {"morning", "afternoon"}


def test_it_is_disabled_enabled_listed_and_deleted(server: Any, schedule: Any) -> None:
    content, _ = server
    schedule(*CRON)
    assert "disabled" in schedule("--disable").out
    (listed,) = json.loads(schedule("--list", "--json").out)
    assert (listed["name"], listed["enabled"], listed["cron"]) == (
        "taxi-nightly", False, "0 0 3 * * *",
    )  # fmt: skip
    assert "enabled" in schedule(*CRON).out, "asked for again, it goes on"
    schedule("--disable")
    assert "enabled" in schedule("--enable").out
    table = schedule("--list").out
    assert "taxi-nightly" in table
    assert "0 0 3 * * *" in table
    assert "deleted" in schedule("--delete").out
    assert content.recurring == {}
    assert "no recurring runs" in schedule("--list").out


def test_one_that_is_not_there_is_said_with_those_that_are(schedule: Any) -> None:
    schedule(*CRON)
    done = schedule("--delete", "--name", "nigthly")
    assert done.code == 1
    assert "no recurring run is called 'nigthly'; there are: taxi-nightly" in done.err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "say when"),
        (("--cron", "0 3 * *"), "has 4 fields"),
        ((*CRON, "--start", "soon"), "--start: 'soon' is no time"),
        ((*CRON, "--delete"), "do not go together"),
        ((*CRON, "--set", "nightly.season.weeks=100"), "nightly.season.weeks"),
    ],
)
def test_what_is_wrong_is_said_before_anything_is_sent(
    server: Any, schedule: Any, arguments: tuple[str, ...], message: str
) -> None:
    content, _ = server
    done = schedule(*arguments)
    assert done.code == 2
    assert message in done.err
    assert content.requests == []


def _existing(identity: str, **changes: Any) -> Existing:
    content: dict[str, Any] = {
        "id": identity, "name": "n", "cron": "c", "enabled": True, "max_concurrency": 1,
        "no_catchup": False, "version_id": "v", **changes,
    }  # fmt: skip
    return Existing(**content)


WANTED = Schedule("n", ("p", "v"), "c", {"span": 2})


@pytest.mark.parametrize(
    ("existing", "steps"),
    [
        ([], Steps(create=True)),
        ([_existing("1", name="m")], Steps(create=True)),
        ([_existing("1", values={"span": 2.0})], Steps(False, keep="1")),
        ([_existing("1", values={"span": 2}, enabled=False)], Steps(False, "1", keep="1")),
        ([_existing("1", values={"span": 3})], Steps(create=True, delete=("1",))),
        ([_existing("1", values={"span": 2}, max_concurrency=2)], Steps(True, delete=("1",))),
        ([_existing("1", values={"span": 2}, no_catchup=True)], Steps(True, delete=("1",))),
        ([_existing("1", values={"span": 2}, version_id="w")], Steps(True, delete=("1",))),
        (
            [_existing("1", values={"span": 2}), _existing("2", values={"span": 2})],
            Steps(False, None, ("1",), "2"),
        ),
    ],
)
def test_the_steps_lead_to_one_that_is_right(existing: list[Existing], steps: Steps) -> None:
    assert steps_to(WANTED, existing) == steps
