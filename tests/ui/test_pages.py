"""The pages over HTTP: each view, its JSON, its empty state, and what is not there."""

import json
import re
import shutil
from html.parser import HTMLParser

import pytest

from tfx_encore.metadata.night_store import NightStore
from tfx_encore.pipeline.commands.options import open_project
from tfx_encore.pipeline.ui.reading import Reader

VIEWS = {
    "/": "/api/overview.json",
    "/releases": "/api/releases.json",
    "/releases/2": "/api/releases/2.json",
    "/nights": "/api/nights.json",
    "/nights/2016-01-12": "/api/nights/2016-01-12.json",
    "/slices": "/api/slices.json",
    "/drift": "/api/drift.json",
    "/cache": "/api/cache.json",
    "/records": "/api/records.json",
    "/daily/2016-01-12": "/api/daily/2016-01-12.json",
}


class Links(HTMLParser):
    def __init__(self):
        super().__init__()
        self.found = []

    def handle_starttag(self, tag, attributes):
        self.found += [value for name, value in attributes if name in {"href", "src", "action"}]


def _links(text):
    parser = Links()
    parser.feed(text)
    return parser.found


@pytest.mark.parametrize("path", VIEWS)
def test_each_page_is_html_and_leads_only_to_addresses_that_answer(site, get, path):
    answer = get(site + path)
    assert answer.status == 200
    assert answer.headers["content-type"].startswith("text/html")
    own = {at for at in _links(answer.text) if at.startswith("/")}
    assert set(_links(answer.text)) - own <= {"data:,", *_anchors(answer.text)}
    assert "/static/ui.css" in {at.partition("?")[0] for at in own}
    some = sorted(own)[:: max(1, len(own) // 12)]
    # A night that was missed has a date and no page: it may only be named, never linked.
    assert {at: get(site + at).status for at in some} == dict.fromkeys(some, 200)


def _anchors(text):
    return {f"#{name}" for name in re.findall(r' id="([^"]+)"', text)}


@pytest.mark.parametrize(("path", "api"), VIEWS.items())
def test_each_page_gives_the_same_as_json(site, get, path, api):
    answer = get(site + api)
    assert answer.status == 200
    assert answer.headers["content-type"] == "application/json"
    assert isinstance(json.loads(answer.text), dict)
    assert f'href="{api}"' in get(site + path).text


def test_the_json_of_a_page_takes_the_same_choices(site, get):
    query = "?slice=payment_type%3DMobile&metric=recall&from=2016-02-01&to=2016-03-10"
    view = json.loads(get(f"{site}/api/slices.json{query}").text)
    assert (view["slice"], view["metric"]) == ("payment_type=Mobile", "recall")
    assert view["range"] == {"first": "2016-02-01", "last": "2016-03-10"}
    assert f"/api/slices.json{query.replace('&', '&amp;')}" in get(f"{site}/slices{query}").text


def test_the_first_page_says_what_is_live_what_is_missing_and_who_is_late(site, get):
    text = get(f"{site}/").text
    assert "Version 2" in text
    assert "3 nights are missing" in text
    assert "gateway@host-2 is 1 record behind" in text
    assert "payment_type=Mobile" in text


def test_a_page_can_be_read_before_its_script_has_run(site, get):
    text = get(f"{site}/slices?slice=payment_type%3DMobile&metric=recall").text
    table = text[text.index("<details>") :]
    assert "2016-03-10" in table
    assert table.count("alarm") >= 9


@pytest.mark.parametrize("path", [path for path in VIEWS if path.count("/") == 1])
def test_an_empty_workspace_says_what_to_run(empty_place, serve, get, path):
    with serve(empty_place.reader()) as address:
        answer = get(address + path)
        assert answer.status == 200
        assert re.search(r'<code class="command">encore \w+', answer.text)
        assert get(address + VIEWS[path]).status == 200


@pytest.mark.parametrize(
    ("path", "status", "named"),
    [
        ("/nights/2016-01-20", 404, "encore nightly --date 2016-01-20"),
        ("/nights/yesterday", 404, "write it as 2016-01-12"),
        ("/nights?from=yesterday", 400, "from=yesterday"),
        ("/daily/2016-01-20", 404, "/nights/2016-03-10"),
        ("/releases/9", 404, "/releases/2"),
        ("/releases/two", 404, "/releases/1"),
        ("/releases/%D9%A2", 404, "/releases/1"),
        ("/releases/1/report", 404, "encore report 1"),
        ("/slices?slice=nobody", 404, "payment_type%3DCash"),
        ("/slices?metric=nothing", 404, "metric=recall"),
        ("/drift?feature=nobody", 404, "feature=payment_type"),
        ("/nope", 404, "/cache"),
        ("/static/../app.py", 404, "Overview"),
        ("/static/%2e%2e%2fapp.py", 404, "Overview"),
        ("/nights/..%2f..%2fetc%2fpasswd", 404, "Overview"),
    ],
)
def test_what_is_not_there_is_answered_with_what_is(site, get, path, status, named):
    answer = get(site + path)
    assert answer.status == status
    assert named in answer.text


def test_what_is_not_there_is_json_for_scripts(site, get):
    answer = get(f"{site}/api/releases/9.json")
    assert answer.status == 404
    assert json.loads(answer.text)["exists"] == ["/releases/2", "/releases/1"]
    assert "/api/nights.json" in json.loads(get(f"{site}/api/nope.json").text)["exists"]


def test_names_from_data_are_shown_and_never_interpreted(site, get, hostile):
    for path in ("/slices", "/records", "/nights/2016-01-12", "/releases/2"):
        text = get(site + path).text
        assert hostile not in text
        assert "<img" not in text
        assert "&lt;script&gt;" in text


def test_a_hostile_address_is_shown_and_never_interpreted(site, get, hostile):
    from urllib.parse import quote

    for path in ("/slices?slice=", "/drift?feature=", "/nights?from=", "/nights/", "/releases/"):
        answer = get(site + path + quote(hostile, safe=""))
        assert answer.status in {400, 404}
        assert "<img" not in answer.text
        assert "<script>window" not in answer.text


@pytest.fixture
def damaged(place, tmp_path):
    """The workspace with a night, a manifest and a coverage report that were cut."""
    copy = tmp_path / "project"
    shutil.copytree(place.file.parent, copy)
    home = copy / ".encore/releases/taxi"
    store = NightStore(copy / ".encore/releases", "taxi")
    targets = (
        store.path("2016-03-09", "night.json"),
        store.path("2016-03-10", "skew_charts.json"),
        home / "1.evidence/manifest.json",
        home / "2.evidence/coverage/coverage.json",
    )
    for path in targets:
        path.chmod(0o600)
        path.write_bytes(path.read_bytes()[:60])
    return Reader(open_project(str(copy / "encore.yaml")))


def test_damage_is_shown_as_such_on_every_page_and_breaks_none(damaged, serve, get):
    with serve(damaged) as address:
        for path in [*VIEWS, "/releases/1", "/nights/2016-03-09", "/daily/2016-03-09"]:
            assert get(address + path).status == 200, path
        assert "This night cannot be read" in get(f"{address}/nights/2016-03-09").text
        assert "This release cannot be read" in get(f"{address}/releases/1").text
        first = get(f"{address}/").text
        assert "The night 2016-03-09 cannot be read" in first
        assert "Version 1 is damaged" in first
        view = json.loads(get(f"{address}/api/nights/2016-03-09.json").text)
        assert view["date"] == "2016-03-09"


def test_a_release_directory_without_labels_is_reported_not_a_crash(place, tmp_path, serve, get):
    copy = tmp_path / "project"
    shutil.copytree(place.file.parent, copy)
    (copy / ".encore/releases/taxi/labels.json").write_text("{")
    with serve(Reader(open_project(str(copy / "encore.yaml")))) as address:
        for path in VIEWS:
            if path != "/releases/2":
                assert get(address + path).status == 200, path
        assert "The releases cannot be read" in get(f"{address}/").text


def test_the_static_report_is_linked_once_it_is_there(place, tmp_path, serve, get):
    copy = tmp_path / "project"
    shutil.copytree(place.file.parent, copy)
    reports = copy / ".encore/reports"
    reports.mkdir()
    (reports / "taxi-2.html").write_text("<!doctype html><title>the report</title>")
    with serve(Reader(open_project(str(copy / "encore.yaml")))) as address:
        assert 'href="/releases/2/report"' in get(f"{address}/releases/2").text
        assert "the report" in get(f"{address}/releases/2/report").text


def test_the_drawing_library_is_served_from_its_package_and_kept_for_a_year(site, get):
    text = get(f"{site}/slices").text
    address = re.search(r'src="(/static/plotly[^"]+)"', text)[1]
    answer = get(site + address)
    assert answer.status == 200
    assert answer.headers["cache-control"] == "public, max-age=31536000, immutable"
    assert answer.headers["content-type"].startswith("text/javascript")
    assert len(answer.text) > 1_000_000
    assert "plotly" not in get(f"{site}/records").text
