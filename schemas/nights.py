"""What a night leaves behind: what was read, what was found, what was decided. No IO here.

A night is a day (UTC) of one model's traffic and what was concluded from it. Its *content* follows
from the day's log, its labels, the release that served it, the earlier nights and the
configuration, and from nothing else: running it again, later, or in another order gives the same.
"""

from __future__ import annotations

import datetime as dt
from dataclasses import field
from typing import Literal

from pydantic.dataclasses import dataclass

from tfx_encore.schemas.decisions import Decision, Outcome

NIGHT_FORMAT = 1

# Features that RequestLogExampleGen adds to the request's own; all of shape [1].
SCORE = "encore_score"  # float: the probability that was served
PATH = "encore_path"  # bytes: `hit`, `miss` or `unknown`
VERSION = "encore_version"  # int64: the version that answered, 0 if unknown
FINGERPRINT = "encore_fingerprint"  # bytes: its fingerprint, b"" if the log does not say
REQUEST_ID = "encore_request_id"  # bytes: the client's, else one made of file and position
ROW = "encore_row"  # int64: number of the row in its request
TIME_US = "encore_time_us"  # int64: when the request came, microseconds since 1970
SIGNATURE = "encore_signature"  # bytes
ROW_DIGEST = "encore_row_digest"  # bytes [16]: equal for rows with equal features
LABEL = "encore_label"  # float: 0 or 1; absent while nobody knows it
OURS = (
    SCORE, PATH, VERSION, FINGERPRINT, REQUEST_ID, ROW, TIME_US, SIGNATURE, ROW_DIGEST, LABEL,
)  # fmt: skip

HIT, MISS, UNKNOWN = "hit", "miss", "unknown"
PATHS = (HIT, MISS, UNKNOWN)
SPLIT = "night"

ActionKind = Literal["nothing", "rewarm", "retrain", "invalidate_slice", "roll_back"]


@dataclass(frozen=True)
class LogReport:
    """What the day's request log held.

    Attributes:
        files: files read.
        records: records in them, unreadable ones included.
        unreadable: records (or lost stretches of a file) that are no PredictionLog.
        unusable: reason -> records that were readable but not evaluated.
        set_aside: folder with the unreadable stretches, below the report's artifact; "" if there
            are none.
        requests: answered requests that were evaluated.
        rows: their rows.
        failed: code as text -> failed requests.
        rows_by_version: version as text -> rows it answered.
        fingerprints: version as text -> fingerprint, as far as the log says.
        rows_by_path: `hit`, `miss`, `unknown` -> rows.
        requests_by_cache: `hit`, `partial`, `miss`, `off` -> requests; empty for a plain TF
            Serving log.
        latency_us: the same keys -> sum of the requests' times, microseconds; empty if the log
            does not say.
        weighted_requests: requests the log stands for, each divided by its sampling rate.
        weighted_rows: rows likewise.
        weighted_hits: rows that came from the cache likewise.
        labelled: rows that have a label.
        labels_read: labels found for the day, used or not.
        labels_repeated: of them, those that a later one for the same row replaced.
        labels_unmatched: keys of labels that no row of the log has.
        labels_bad: lines of label files that hold no usable label.
        bad_labels: some of those, as `file:line: reason`.
        effective_rows: Kish's effective number of independent rows, (sum c)^2 / sum c^2 over the
            multiplicities c of equal rows: repeats are no independent evidence.
        first_us: time of the earliest request, microseconds since 1970; None without one.
        last_us: of the latest.
    """

    files: int = 0
    records: int = 0
    unreadable: int = 0
    unusable: dict[str, int] = field(default_factory=dict)
    set_aside: str = ""
    requests: int = 0
    rows: int = 0
    failed: dict[str, int] = field(default_factory=dict)
    rows_by_version: dict[str, int] = field(default_factory=dict)
    fingerprints: dict[str, str] = field(default_factory=dict)
    rows_by_path: dict[str, int] = field(default_factory=dict)
    requests_by_cache: dict[str, int] = field(default_factory=dict)
    latency_us: dict[str, float] = field(default_factory=dict)
    weighted_requests: float = 0.0
    weighted_rows: float = 0.0
    weighted_hits: float = 0.0
    labelled: int = 0
    labels_read: int = 0
    labels_repeated: int = 0
    labels_unmatched: int = 0
    labels_bad: int = 0
    bad_labels: tuple[str, ...] = ()
    effective_rows: float = 0.0
    first_us: int | None = None
    last_us: int | None = None

    @property
    def main_version(self) -> int | None:
        """The version that answered most rows; None if the log names none."""
        known = {int(v): n for v, n in self.rows_by_version.items() if int(v) > 0}
        return max(known, key=lambda version: (known[version], version)) if known else None

    @property
    def hit_rate(self) -> float | None:
        """Share of rows from the cache among those whose way is known; None if none is."""
        known = self.rows_by_path.get(HIT, 0) + self.rows_by_path.get(MISS, 0)
        return self.rows_by_path.get(HIT, 0) / known if known else None


@dataclass(frozen=True)
class NightAction:
    """What a night proposes, and what became of it.

    Attributes:
        kind: what.
        reason: one line for a person.
        features: the slice, for `invalidate_slice`.
        version: the version to go back to, for `roll_back`.
        state: `proposed`, `done` or `failed`.
        result: what came of it: id of the invalidation record, path of the snapshot, the error.
    """

    kind: ActionKind
    reason: str
    features: dict[str, str] = field(default_factory=dict)
    version: int | None = None
    state: Literal["proposed", "done", "failed"] = "proposed"
    result: str = ""


@dataclass(frozen=True)
class NightAlarm:
    """Something that a person should know, named so that it stays the same from night to night.

    Attributes:
        gate: which check raised it: `log`, `skew`, `drift`, `slices`, `cached_path`, `trend`,
            `estimate`.
        subject: as in `Evidence`.
        measure: as in `Evidence`.
        outcome: WARN or BLOCK.
        message: one line.
        since: the first night of this unbroken row of nights with the alarm.
        onset: the night from which the change is estimated to date (trend alarms), if known.
    """

    gate: str
    subject: str
    measure: str
    outcome: Outcome
    message: str
    since: str
    onset: str | None = None


@dataclass(frozen=True)
class SliceFinding:
    """A slice nobody configured, on which the model does badly.

    Attributes:
        features: feature -> value as text; numeric features as ranges, `[3.1, 5.2)`.
        rows: labelled rows of it.
        value: accuracy on it.
        rest: accuracy on all other rows.
        interval: 95% interval of `value - rest`.
        p_value: adjusted over everything that was tested, in [0, 1].
        nights: of the last nights, how many found it, this one included.
        promoted: it has recurred, and is watched from now on.
    """

    features: dict[str, str]
    rows: int
    value: float
    rest: float
    interval: tuple[float, float]
    p_value: float
    nights: int = 1
    promoted: bool = False


@dataclass(frozen=True)
class PerformanceEstimate:
    """A metric estimated without labels, beside the truth where it has come.

    Attributes:
        slice: as `overall` or `payment_type=Cash`.
        metric: which.
        estimated: in [0, 1].
        interval: its 95% interval.
        actual: the metric from labels; None while there are too few.
        actual_interval: its 95% interval.
        n: rows behind the estimate.
        labelled: rows behind the truth.
    """

    slice: str
    metric: str
    estimated: float
    interval: tuple[float, float]
    n: int
    actual: float | None = None
    actual_interval: tuple[float, float] | None = None
    labelled: int = 0


@dataclass(frozen=True)
class MetricPoint:
    """A metric of a slice in a night, from labels.

    Attributes:
        slice: as `overall` or `payment_type=Cash`.
        features: the slice as feature -> value.
        metric: which.
        value: in [0, 1].
        interval: its 95% interval, repeats allowed for.
        cases: its denominator.
        reference: what the release is held against; None if unknown.
        statistic: the trend statistic after this night; None if it is not followed.
        threshold: where it alarms.
        alarm: it does.
    """

    slice: str
    features: dict[str, str]
    metric: str
    value: float
    interval: tuple[float, float]
    cases: int
    reference: float | None = None
    statistic: float | None = None
    threshold: float | None = None
    alarm: bool = False


@dataclass(frozen=True)
class NightCoverage:
    """What the newest cache snapshot was worth for the day's rows.

    Attributes:
        covered: share of the day's rows whose key the snapshot holds, in [0, 1].
        expected: the same when the snapshot was made; None if unknown.
        entries: answers in the snapshot.
        snapshot: where it is.
    """

    covered: float
    expected: float | None
    entries: int
    snapshot: str


@dataclass(frozen=True)
class NightRecord:
    """The decision record of a night.

    Attributes:
        model: the model's name.
        date: the day (UTC) of the traffic, as `2016-01-12`.
        outcome: OK, WARN, BLOCK or INSUFFICIENT_DATA.
        reason: one line: what decided.
        version: the version that answered most rows; None if unknown.
        fingerprint: of that version, if known.
        decisions: of each gate, worst evidence first.
        actions: what is proposed, most urgent first; one of kind `nothing` if nothing is.
        alarms: what a person should know.
        log: what was read.
        metrics: metrics by slice, overall first.
        estimates: performance without labels.
        findings: slices that nobody configured.
        coverage: worth of the snapshot, if there is one.
        evaluation_digest: digest of what the day's own evaluation was made from.
        history_digest: digest of the earlier nights that were looked at.
        policy_digest: digest of the configuration and the code that judged them.
        revision: 1, 2, 3... how often the record has changed, e.g. because labels came.
        run_id: the run that wrote this revision.
        created_at: UTC, RFC 3339 with microseconds: when this revision was written.
    """

    model: str
    date: str
    outcome: Outcome
    reason: str
    version: int | None = None
    fingerprint: str | None = None
    decisions: tuple[Decision, ...] = ()
    actions: tuple[NightAction, ...] = ()
    alarms: tuple[NightAlarm, ...] = ()
    log: LogReport = field(default_factory=LogReport)
    metrics: tuple[MetricPoint, ...] = ()
    estimates: tuple[PerformanceEstimate, ...] = ()
    findings: tuple[SliceFinding, ...] = ()
    coverage: NightCoverage | None = None
    evaluation_digest: str = ""
    history_digest: str = ""
    policy_digest: str = ""
    revision: int = 1
    run_id: str = ""
    created_at: str = ""
    format: int = NIGHT_FORMAT


def day_before(date: str, days: int = 1) -> str:
    """The day `days` before `date`, as `2016-01-11`."""
    return (dt.date.fromisoformat(date) - dt.timedelta(days=days)).isoformat()


def days_between(first: str, last: str) -> tuple[str, ...]:
    """All days from `first` to `last`, both included; none if `last` is earlier."""
    start, end = dt.date.fromisoformat(first), dt.date.fromisoformat(last)
    return tuple((start + dt.timedelta(days=n)).isoformat() for n in range((end - start).days + 1))
