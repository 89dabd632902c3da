"""A workspace after ten weeks: an incident, a slow decay, two releases, missed nights."""

from __future__ import annotations

import dataclasses
import datetime as dt
import math
import random
import threading
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType

import pytest

from tfx_encore.metadata.journal_ledger import JournalLedger
from tfx_encore.metadata.night_store import RECORD, SKEW_CHARTS, NightStore
from tfx_encore.metadata.release_push import PushRequest
from tfx_encore.metadata.releases import ReleaseDirectory
from tfx_encore.pipeline.commands.options import open_project
from tfx_encore.pipeline.report.data import ReleaseReport
from tfx_encore.pipeline.ui.app import make_app
from tfx_encore.pipeline.ui.guard import Rules
from tfx_encore.pipeline.ui.reading import Reader
from tfx_encore.pipeline.ui.serving import listen, make_server
from tfx_encore.schemas.decisions import Decision, Evidence, Outcome, overall, worst_first
from tfx_encore.schemas.nights import (
    LogReport,
    MetricPoint,
    NightAction,
    NightAlarm,
    NightCoverage,
    NightRecord,
    PerformanceEstimate,
    SliceFinding,
)
from tfx_encore.schemas.records import Cause, RecordDraft, SelectAll, SelectSlice
from tfx_encore.schemas.release import Provenance, SpanDigest
from tfx_encore.schemas.serial import to_json

FIRST = dt.date(2016, 1, 1)
NIGHTS = 70
INCIDENT = "2016-01-12"
SWITCH = "2016-02-09"
DECAY_FROM = "2016-02-14"
ALARM = "2016-03-02"
MISSED = ("2016-01-20", "2016-02-03", "2016-02-04")
LAST = "2016-03-10"
TODAY = "2016-03-11T06:00:00.000000Z"
HOSTILE = '<script>window.injected = 1</script><img src=x onerror="window.injected=1">'
SLICES = (
    "overall",
    "payment_type=Cash",
    "payment_type=Credit Card",
    "payment_type=Mobile",
    "payment_type=No Charge",
    "company=Flash Cab",
    "company=Taxi Affiliation Services",
    "company=Blue Ribbon Taxi Association Inc.",
    f"company={HOSTILE}",
    "trip_start_hour=8",
    "trip_start_hour=17",
    "payment_type=Cash, trip_start_hour=8",
)
FEATURES = ("payment_type", "company", "fare", "trip_miles", "trip_seconds", "trip_start_hour",
            "pickup_latitude", "encore_score")  # fmt: skip
DECAYING = "payment_type=Mobile"


def day(number: int) -> str:
    return (FIRST + dt.timedelta(days=number)).isoformat()


def _features_of(name: str) -> dict[str, str]:
    if name == "overall":
        return {}
    return dict(part.split("=", 1) for part in name.split(", "))


def _metrics(number: int, date: str, rng: random.Random) -> tuple[MetricPoint, ...]:
    found = []
    for index, name in enumerate(SLICES):
        for metric, base in (("accuracy", 0.84), ("recall", 0.71)):
            cases = 5200 if name == "overall" else 180 + 130 * (index % 5)
            reference = base - 0.012 * (index % 4)
            decayed = name == DECAYING and metric == "recall" and date >= DECAY_FROM
            loss = 0.004 * (number - 44) if decayed else 0.0
            if name == "payment_type=Cash" and date == INCIDENT:
                loss = 0.19
            value = reference - loss + rng.gauss(0, 0.8 / math.sqrt(cases) * 0.45)
            half = 1.96 * math.sqrt(value * (1 - value) / cases)
            statistic = max(0.0, 1.1 * (number - 44) * 0.5) if decayed else abs(rng.gauss(0, 1.2))
            threshold = 8.9
            found.append(
                MetricPoint(
                    slice=name,
                    features=_features_of(name),
                    metric=metric,
                    value=value,
                    interval=(value - half, min(1.0, value + half)),
                    cases=cases,
                    reference=reference,
                    statistic=statistic,
                    threshold=threshold,
                    alarm=statistic > threshold,
                )
            )
    return tuple(found)


def _drift_decision(gate: str, date: str, rng: random.Random) -> Decision:
    evidence = []
    weekday = f"{dt.date.fromisoformat(date):%A}s of the last 4 weeks (4 nights)"
    last = "" if gate == "skew" else ", against the last 7 days (7 nights)"
    baseline = "" if gate == "skew" else f", against {weekday}; the last 7 days (7 nights): OK"
    for feature in FEATURES:
        floor = rng.uniform(0.004, 0.008)
        effect = abs(rng.gauss(0.003, 0.0012))
        outcome, message = Outcome.OK, f"within what chance gives{baseline}"
        if feature == "payment_type" and date == INCIDENT:
            effect, outcome = 0.31, Outcome.BLOCK
            message = f"Cash fell from 58.3% to 0.2%: large, and no chance{baseline}"
        if feature == "company" and date > SWITCH and rng.random() < 0.25:
            effect, outcome = 0.062, Outcome.WARN
            message = f"the distribution moved: the policy lets it warn{last}"
        evidence.append(
            Evidence(
                f"feature:{feature}",
                "jensen_shannon",
                outcome,
                message,
                effect=effect,
                threshold=0.05,
                null_floor=floor,
                p_value=0.0001 if outcome is not Outcome.OK else rng.uniform(0.2, 0.99),
                n=5100,
                n_baseline=36000,
            )
        )
    ordered = worst_first(evidence)
    verdict = overall(ordered)
    worst = ordered[0]
    reason = f"{worst.subject.removeprefix('feature:')}: {worst.message}."
    if verdict is Outcome.OK:
        reason = "No feature drifted."
    named = "release 1" if gate == "skew" else weekday
    return Decision(gate, verdict, reason, named, ordered)


def _slice_decision(metrics: tuple[MetricPoint, ...]) -> Decision:
    found = []
    for point in metrics:
        reference = point.reference or 0.0
        worse = point.interval[1] < reference - 0.05
        found.append(
            Evidence(
                f"slice:{point.slice}", point.metric, Outcome.BLOCK if worse else Outcome.OK,
                f"{point.value:.3f}, the release had {reference:.3f}: worse by more than 0.05"
                if worse else "no worse than the release",
                effect=point.value - reference, threshold=-0.05,
                interval=(point.interval[0] - reference, point.interval[1] - reference),
                value=point.value, baseline=reference, n=point.cases,
            )
        )  # fmt: skip
    verdict = overall(found)
    reason = "No slice is worse than the release."
    if verdict is Outcome.BLOCK:
        worst = worst_first(found)[0]
        reason = f"{worst.subject.removeprefix('slice:')} {worst.measure}: {worst.message}."
    return Decision("slices", verdict, reason, "release", worst_first(found))


def _trend_decision(metrics: tuple[MetricPoint, ...]) -> Decision:
    alarms = [point for point in metrics if point.alarm]
    evidence = tuple(
        Evidence(
            f"slice:{point.slice}", point.metric,
            Outcome.BLOCK if point.alarm else Outcome.OK,
            f"has fallen slowly, from {point.reference:.3f} to {point.value:.3f}"
            if point.alarm else "no trend",
            effect=point.statistic, threshold=point.threshold, n=point.cases,
        )
        for point in metrics
    )  # fmt: skip
    verdict = Outcome.BLOCK if alarms else Outcome.OK
    reason = (
        f"{alarms[0].slice} {alarms[0].metric} decays since {DECAY_FROM}."
        if alarms
        else "No slice decays."
    )
    return Decision("trend", verdict, reason, "release", worst_first(evidence))


def _alarms(date: str, decisions: list[Decision]) -> tuple[NightAlarm, ...]:
    found = []
    for decision in decisions:
        for item in decision.evidence:
            if item.outcome not in {Outcome.BLOCK, Outcome.WARN}:
                continue
            trend = decision.gate == "trend"
            found.append(
                NightAlarm(
                    decision.gate, item.subject, item.measure, item.outcome, item.message,
                    since=min(ALARM, date) if trend else date,
                    onset=DECAY_FROM if trend else None,
                )
            )  # fmt: skip
    return tuple(found)


def _actions(date: str, decisions: list[Decision]) -> tuple[NightAction, ...]:
    blocked = {decision.gate for decision in decisions if decision.outcome is Outcome.BLOCK}
    if date == INCIDENT:
        return (
            NightAction("invalidate_slice", "answers for Cash are wrong", {"payment_type": "Cash"},
                        state="done", result="taxi/000002"),
            NightAction("retrain", "payment_type was renamed"),
        )  # fmt: skip
    if "trend" in blocked:
        return (NightAction("retrain", f"{DECAYING} has decayed since {DECAY_FROM}."),)
    return (NightAction("nothing", "nothing asks for it"),)


def _log(date: str, rng: random.Random) -> LogReport:
    version = "1" if date < SWITCH else "2"
    rows = 9400 + rng.randrange(-900, 900)
    hits = int(rows * (0.58 + rng.gauss(0, 0.012) - (0.2 if date == SWITCH else 0)))
    requests = {"hit": int(hits * 0.8), "partial": int(hits * 0.1), "miss": rows - hits}
    return LogReport(
        files=4, records=rows + 12, unreadable=3 if date == INCIDENT else 0,
        unusable={"no score": 9}, requests=sum(requests.values()), rows=rows,
        failed={"3": 12}, rows_by_version={version: rows},
        fingerprints={version: f"sha256:{version * 64}"},
        rows_by_path={"hit": hits, "miss": rows - hits}, requests_by_cache=requests,
        latency_us={"hit": requests["hit"] * 310.0, "partial": requests["partial"] * 2900.0,
                    "miss": requests["miss"] * 4100.0},
        weighted_requests=float(sum(requests.values())), weighted_rows=float(rows),
        weighted_hits=float(hits), labelled=int(rows * 0.93), labels_read=int(rows * 0.95),
        effective_rows=rows * 0.54,
    )  # fmt: skip


def night_record(number: int) -> NightRecord:
    """The night `number` days after the first."""
    date, rng = day(number), random.Random(number)
    metrics = _metrics(number, date, rng)
    decisions = [
        _drift_decision("skew", date, rng),
        _drift_decision("drift", date, rng),
        _slice_decision(metrics),
        _trend_decision(metrics),
    ]
    outcome = max((d.outcome for d in decisions), key=["OK", "WARN", "BLOCK"].index)
    worst = next(d for d in decisions if d.outcome is outcome)
    version = 1 if date < SWITCH else 2
    return NightRecord(
        model="taxi", date=date, outcome=outcome, reason=worst.reason, version=version,
        fingerprint=f"sha256:{str(version) * 64}", decisions=tuple(decisions),
        actions=_actions(date, decisions), alarms=_alarms(date, decisions), log=_log(date, rng),
        metrics=metrics,
        estimates=tuple(
            PerformanceEstimate(
                p.slice, p.metric, p.value + 0.01, (p.value - 0.02, p.value + 0.04), p.cases,
                p.value, p.interval, p.cases,
            )
            for p in metrics if p.metric == "accuracy"
        ),
        findings=(
            SliceFinding({"trip_miles": "[12.4, 31)", "company": "Flash Cab"}, 212, 0.61, 0.84,
                         (-0.29, -0.17), 0.0004, nights=3, promoted=True),
        ) if date > "2016-03-05" else (),
        coverage=NightCoverage(0.61 - 0.002 * number, 0.62, 2000, "snapshots/1"),
        run_id=f"night-{date}", created_at=f"{day(number + 1)}T02:00:00.000000Z",
    )  # fmt: skip


def _borrowed() -> ModuleType:
    """The fixtures of the report: a release of the same model."""
    path = Path(__file__).parents[1] / "report" / "conftest.py"
    spec = spec_from_file_location("report_fixtures", path)
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def release_report() -> ReleaseReport:
    """The evidence of a release with drift, 25 slices and a snapshot."""
    fixtures = _borrowed()
    return ReleaseReport(
        model="taxi", decisions=(fixtures._drift(), fixtures._slices(Outcome.OK)),
        charts=fixtures._charts(), coverage=fixtures._coverage(),
        certificate=fixtures.CERTIFICATE,
    )  # fmt: skip


def _evidence(folder: Path, report: ReleaseReport) -> dict[str, Path]:
    drift, slices = report.decisions
    for name, file, value in (
        ("drift_report", "decision.json", drift),
        ("drift_report", "charts.json", report.charts),
        ("slice_report", "decision.json", slices),
        ("coverage", "coverage.json", report.coverage),
    ):
        path = folder / name / file
        path.parent.mkdir(parents=True, exist_ok=True)
        text = f"[{','.join(map(to_json, value))}]" if file == "charts.json" else to_json(value)
        path.write_text(text)
    return {name: folder / name for name in ("drift_report", "slice_report", "coverage")}


def _model(folder: Path, content: str) -> Path:
    (folder / "variables").mkdir(parents=True)
    (folder / "saved_model.pb").write_text(f"graph {content}")
    (folder / "variables" / "variables.index").write_text("index")
    (folder / "variables" / "variables.data-00000-of-00001").write_text(content)
    return folder


def _push(root: Path, folder: Path, number: int, report: ReleaseReport) -> None:
    clock = {1: "2015-12-30T10:00:00.000000Z", 2: f"{SWITCH}T00:10:00.000000Z"}[number]
    releases = ReleaseDirectory(root, "taxi", clock=lambda: clock)
    evidence = _evidence(folder / f"evidence-{number}", report) if number == 2 else {}
    span = SpanDigest(number, "sha256:" + "c0" * 32, "data/span-*/*.csv", {"train": 3674})
    releases.push(
        PushRequest(
            _model(folder / f"model-{number}", f"v{number}"),
            evidence=evidence,
            decisions=report.decisions if number == 2 else (),
            certificate=report.certificate,
            provenance=Provenance(run_id=f"run-{number}", spans=(span,)),
        )
    )


def make_project(folder: Path) -> Path:
    """An empty project; returns its file."""
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / "encore.yaml"
    file.write_text(
        "model: taxi\nworkspace: .encore\n"
        "data: {spans: 'data/span-{SPAN}/*.csv', schema: schema.pbtxt}\n"
        "training: {module: tfx_encore.pipeline.taxi.model}\n"
        "evaluation: {label_key: tips}\n"
    )
    return file


def commit(root: Path, record: NightRecord, charts: str | None = None) -> None:
    store = NightStore(root, "taxi")
    files = {RECORD: to_json(record).encode()}
    if charts:
        files[SKEW_CHARTS] = charts.encode()
    with store.writing():
        store.commit(record.date, files)


@dataclass(frozen=True)
class Place:
    """A project with things in it."""

    file: Path
    releases: Path

    def reader(self) -> Reader:
        return Reader(open_project(str(self.file)))


def fill(place: Place, report: ReleaseReport, folder: Path) -> None:
    """Two releases, ten weeks of nights, three records of which one consumer lacks the last."""
    _push(place.releases, folder, 1, report)
    _push(place.releases, folder, 2, report)
    ledger = JournalLedger(place.releases, clock=lambda: "2016-02-09T00:10:02.000000Z")
    drafts = [
        RecordDraft("taxi", Cause.DATA_DRIFT, SelectSlice({"payment_type": "Cash"}),
                    f"answers for Cash are wrong, night {INCIDENT}", "encore nightly"),
        RecordDraft("taxi", Cause.MANUAL, SelectAll(), HOSTILE, "ada@laptop"),
    ]  # fmt: skip
    for draft in drafts:
        ledger.append(draft)
    records = ledger.records("taxi")
    for record in records:
        ledger.acknowledge(record, "gateway@host-1")
    for record in records[:-1]:
        ledger.acknowledge(record, "gateway@host-2")
    charts = f"[{','.join(map(to_json, report.charts))}]"
    for number in range(NIGHTS):
        if day(number) not in MISSED:
            commit(place.releases, night_record(number), charts if number > 60 else None)


def make_place(folder: Path) -> Place:
    file = make_project(folder)
    return Place(file, file.parent / ".encore" / "releases")


@pytest.fixture(scope="session")
def place(tmp_path_factory: pytest.TempPathFactory, release_report: ReleaseReport) -> Place:
    """Ten weeks of a project's life; only to be read."""
    folder = tmp_path_factory.mktemp("ui")
    found = make_place(folder / "project")
    fill(found, release_report, folder)
    return found


@pytest.fixture
def empty_place(tmp_path: Path) -> Place:
    """A project in which nothing was done yet."""
    return make_place(tmp_path / "empty")


@dataclass(frozen=True)
class Answer:
    status: int
    headers: dict[str, str]
    text: str


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *_: object) -> None:
        return None


def fetch(address: str, method: str = "GET", **headers: str) -> Answer:
    """One request, redirects not followed."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    request = urllib.request.Request(address, method=method, headers=named)
    try:
        answer = urllib.request.build_opener(_NoRedirect).open(request, timeout=30)
    except urllib.error.HTTPError as error:
        answer = error
    with answer:
        found = {name.lower(): value for name, value in answer.headers.items()}
        return Answer(answer.status, found, answer.read().decode("utf-8", "replace"))


@contextmanager
def serving(reader: Reader, rules: Rules | None = None) -> Iterator[str]:
    """The address of a server that runs meanwhile, without a slash at its end."""
    app = make_app(reader, rules or Rules(), clock=lambda: TODAY)
    server = make_server(app)
    with listen("127.0.0.1", 0) as bound:
        thread = threading.Thread(target=server.run, kwargs={"sockets": [bound]}, daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{bound.getsockname()[1]}"
        finally:
            server.should_exit = True
            thread.join(10)


@pytest.fixture(scope="session")
def site(place: Place) -> Iterator[str]:
    """The pages over the full workspace."""
    with serving(place.reader()) as address:
        yield address


@pytest.fixture
def get() -> Callable[..., Answer]:
    """Asks for an address."""
    return fetch


@pytest.fixture
def serve() -> Callable[..., object]:
    """Serves a reader's pages meanwhile."""
    return serving


@pytest.fixture
def write_night() -> Callable[..., None]:
    """Commits a night."""
    return commit


@pytest.fixture
def make_night() -> Callable[..., NightRecord]:
    """The record of the night so many days after the first, changed as told."""

    def make(number: int, **changes: object) -> NightRecord:
        return dataclasses.replace(night_record(number), **changes)

    return make


@pytest.fixture
def hostile() -> str:
    """A name that tries to run a script."""
    return HOSTILE
