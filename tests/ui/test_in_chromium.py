"""The pages in a reader's browser: opened, clicked, by keyboard, on a phone, in the dark."""

import shutil
from dataclasses import dataclass, field
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest

pytestmark = [pytest.mark.service("chromium"), pytest.mark.timeout(300)]

PHONE = {"width": 360, "height": 740}
DESK = {"width": 1280, "height": 900}
MOBILE = "/slices?slice=payment_type%3DMobile&metric=recall"
VIEWS = {
    "overview": "/",
    "releases": "/releases",
    "release": "/releases/2",
    "nights": "/nights",
    "night": "/nights/2016-01-12",
    "slices": MOBILE,
    "drift": "/drift?feature=payment_type&night=2016-03-10",
    "cache": "/cache",
    "records": "/records",
    "daily": "/daily/2016-03-10",
}
NAMING = ("release", "night", "slices", "drift", "records")  # they show a hostile name
DRAWN = ("release", "night", "slices", "drift", "cache")


def _report_tests():
    """The browser's flags and the measure of contrast, as for the static report."""
    path = Path(__file__).parents[1] / "report" / "test_in_chromium.py"
    spec = spec_from_file_location("report_in_chromium", path)
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


REPORT = _report_tests()


@dataclass
class Visit:
    page: object
    elsewhere: list = field(default_factory=list)
    answered: list = field(default_factory=list)
    complaints: list = field(default_factory=list)

    def drawn(self):
        """Unfolds everything and waits until all is drawn.

        By selectors: the policy of the pages forbids what `wait_for_function` does.
        """
        self.page.evaluate("document.querySelectorAll('details').forEach((d) => { d.open = true })")
        self.page.evaluate(
            """async () => { for (const chart of document.querySelectorAll(".chart")) {
            chart.scrollIntoView(); await new Promise((done) => setTimeout(done, 30)) } }"""
        )
        self.page.wait_for_selector(".chart:not([data-drawn])", state="detached")
        return self


@pytest.fixture(scope="module")
def browser():
    from playwright.sync_api import sync_playwright

    with sync_playwright() as driver:
        opened = driver.chromium.launch(executable_path=shutil.which("chromium"), args=REPORT.FLAGS)
        yield opened
        opened.close()


@pytest.fixture(scope="module")
def context(browser):
    """One reader, whose browser keeps the drawing library between pages."""
    opened = browser.new_context()
    yield opened
    opened.close()


@pytest.fixture
def visit(context, site):
    opened = []

    def go(path, size=DESK, scheme="light"):
        page = context.new_page()
        opened.append(page)
        page.set_viewport_size(size)
        page.emulate_media(color_scheme=scheme)
        seen = Visit(page)

        def note(request):
            if not request.url.startswith((f"{site}/", "data:,")):
                seen.elsewhere.append(request.url)

        page.on("request", note)
        page.on("response", lambda answer: seen.answered.append(answer.url))
        page.on("console", lambda message: seen.complaints.append(message.text))
        page.on("pageerror", lambda error: seen.complaints.append(str(error)))
        page.goto(site + path)
        return seen

    yield go
    for page in opened:
        # Chromium was once seen never to answer when a page was closed that was still loading.
        page.wait_for_load_state()
        page.close()


def _path(page):
    parts = urlsplit(page.url)
    return parts.path, {name: values[0] for name, values in parse_qs(parts.query).items()}


@pytest.mark.parametrize(
    ("size", "scheme"), [(DESK, "light"), (PHONE, "dark")], ids=["desk-light", "phone-dark"]
)
@pytest.mark.parametrize("name", VIEWS)
def test_each_view_is_drawn_fits_is_legible_and_harmless(
    visit, tmp_path, hostile, name, size, scheme
):
    seen = visit(VIEWS[name], size, scheme)
    assert seen.page.evaluate(WIDTH) <= size["width"]
    seen.drawn()
    assert seen.page.evaluate(WIDTH) <= size["width"]
    picture = tmp_path / f"{name}-{size['width']}-{scheme}.png"
    seen.page.screenshot(path=str(picture), full_page=True)
    assert picture.stat().st_size > 10_000
    found = _drawings(seen.page)
    assert bool(found) == (name in DRAWN)
    assert all(shapes > 0 and label > 20 and rows > 1 for shapes, label, rows in found)
    assert seen.page.evaluate("[window.injected, document.images.length]") == [None, 0]
    assert (seen.page.get_by_text(hostile[:20]).count() > 0) == (name in NAMING)
    assert _illegible(seen.page) == []
    assert seen.complaints == []
    assert seen.elsewhere == []


WIDTH = "document.documentElement.scrollWidth"


def _illegible(page):
    """Texts with less contrast than WCAG AA asks for.

    Not those that only a screen reader has, and not the signs in the cells of the matrix, behind
    which the measure does not see the cell.
    """
    page.evaluate("document.querySelectorAll('.unseen, .heatmap-label').forEach((e) => e.remove())")
    measured = page.evaluate(REPORT.CONTRAST)
    assert len(measured) > 15
    return [found for found in measured if found[0] < 4.5]


def _drawings(page):
    """(shapes, length of the name, rows of the table) of each drawing."""
    return page.evaluate(
        """() => [...document.querySelectorAll(".drawing")].map((d) => [
        d.querySelectorAll(".chart .overplot :is(path, image)").length,
        d.querySelector(".chart").getAttribute("aria-label").length,
        (d.querySelector("table") || d.parentElement.querySelector("table")).rows.length])"""
    )


def test_drawings_follow_when_the_system_turns_dark(visit):
    page = visit(MOBILE).drawn().page
    colours = """() => [".scatterlayer path.js-line", ".xtick text", ".main-svg"].map((s) => {
      const style = getComputedStyle(document.querySelector(".chart " + s));
      return style.stroke + style.fill + style.backgroundColor; })"""
    light = page.evaluate(colours)
    page.emulate_media(color_scheme="dark")
    page.wait_for_selector(".chart[data-drawn=dark]")
    dark = page.evaluate(colours)
    assert all(a != b for a, b in zip(light, dark, strict=True))
    page.emulate_media(color_scheme="light")
    page.wait_for_selector(".chart[data-drawn=light]")
    assert page.evaluate(colours) == light


def test_the_bar_on_top_leads_to_every_section_and_says_where_one_is(visit):
    page = visit("/").page
    for name, heading in (
        ("Releases", "Releases"), ("Nights", "Nights"), ("Slices", "Slices over nights"),
        ("Drift", "Drift over nights"), ("Cache", "Cache"), ("Records", "Invalidation records"),
        ("Overview", "Version 2 is live under stable"),
    ):  # fmt: skip
        page.get_by_role("navigation", name="Pages").get_by_role("link", name=name).click()
        assert page.locator("h1").inner_text() == heading
        assert page.locator("nav [aria-current=page]").inner_text() == name


def test_a_blocked_day_of_the_calendar_opens_its_night(visit):
    page = visit("/nights").page
    page.locator('[data-day="2016-01-12"]').click()
    assert _path(page)[0] == "/nights/2016-01-12"
    assert "Blocked" in page.locator(".verdict").inner_text()
    page.get_by_role("link", name="payment_type", exact=True).first.click()
    assert _path(page) == ("/drift", {"feature": "payment_type", "night": "2016-01-12"})


def test_the_calendar_is_one_stop_for_tab_and_arrows_move_by_day_and_week(visit):
    page = visit("/nights").page
    days = page.locator("[data-calendar] a[data-day]")
    assert days.evaluate_all("all => all.filter((a) => a.tabIndex === 0).length") == 1
    page.locator('[data-day="2016-03-10"]').focus()

    def press(key):
        page.keyboard.press(key)
        return page.evaluate("document.activeElement.dataset.day")

    assert press("ArrowLeft") == "2016-03-09"
    assert press("ArrowUp") == "2016-03-02"
    assert press("ArrowDown") == "2016-03-09"
    assert press("Home") == "2016-01-01"
    assert press("ArrowLeft") == "2016-01-01"
    assert press("End") == "2016-03-10"
    page.locator('[data-day="2016-01-19"]').focus()
    assert press("ArrowRight") == "2016-01-21"  # the night between was missed
    page.keyboard.press("Enter")
    page.wait_for_url("**/nights/2016-01-21")


def test_without_a_mouse_one_gets_from_the_top_to_the_content(visit):
    page = visit("/").page
    page.keyboard.press("Tab")
    skip = page.locator(":focus")
    assert skip.inner_text() == "To the content"
    assert skip.bounding_box()["x"] >= 0
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.id") == "main"
    page.keyboard.press("Tab")
    assert page.evaluate("document.querySelector('main').contains(document.activeElement)")


def test_a_choice_takes_effect_at_once_and_stands_in_the_address(visit):
    page = visit("/slices").page
    page.locator("select[name=metric]").select_option("recall")
    page.wait_for_url("**/slices?*metric=recall*")
    page.locator("select[name=slice]").select_option("payment_type=Mobile")
    page.wait_for_url("**/slices?*Mobile*")
    _, query = _path(page)
    assert (query["slice"], query["metric"]) == ("payment_type=Mobile", "recall")
    assert page.locator("h2").first.inner_text() == "Recall of payment_type=Mobile"


def test_a_shared_link_shows_the_same_to_another_reader(visit):
    first = visit(MOBILE).page
    first.locator("input[name=from]").fill("2016-02-20")
    first.get_by_role("button", name="Show").click()
    first.wait_for_url("**from=2016-02-20**")
    address = urlsplit(first.url)
    second = visit(f"{address.path}?{address.query}").page
    assert second.locator("main").inner_text() == first.locator("main").inner_text()
    assert "2016-02-19" not in second.locator(".drawing table").inner_text()


def test_a_point_of_a_drawing_leads_to_its_night(visit):
    page = visit(f"{MOBILE}&from=2016-03-01&to=2016-03-10").drawn().page
    page.wait_for_timeout(200)
    box = page.locator(".chart .subplot.xy .scatterlayer .trace .point").last.bounding_box()
    page.mouse.move(box["x"] + box["width"] / 2 - 3, box["y"] + box["height"] / 2)
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    page.wait_for_selector(".chart .hoverlayer .hovertext, .chart .hoverlayer .legend")
    page.mouse.click(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    page.wait_for_url("**/nights/2016-03-10")


def test_on_a_phone_nights_are_a_list_that_shows_each_of_them(visit):
    page = visit("/nights", PHONE).page
    assert not page.locator("[data-calendar]").is_visible()
    assert page.locator(".night-list > li:visible").count() == 70
    page.locator(".night-list a").first.click()
    assert _path(page)[0] == "/nights/2016-03-10"


def test_on_a_desk_the_list_names_only_what_is_notable(visit):
    page = visit("/nights").page
    shown = page.locator(".night-list > li:visible").count()
    assert 0 < shown < 35


def test_pages_can_be_read_without_a_script(browser, site):
    page = browser.new_page(java_script_enabled=False)
    page.goto(site + MOBILE)
    page.locator(".drawing summary").click()
    rows = page.locator(".drawing tbody tr:visible")
    assert rows.count() == 67
    assert "alarm" in rows.first.inner_text()
    page.locator("select[name=metric]").select_option("accuracy")
    page.get_by_role("button", name="Show").click()
    assert _path(page)[1]["metric"] == "accuracy"
    page.context.close()


def test_the_policy_stops_a_script_that_got_into_the_page(visit):
    seen = visit("/records")
    seen.page.evaluate(
        """() => { const s = document.createElement("script");
        s.textContent = "window.injected = 1"; document.body.append(s);
        document.body.insertAdjacentHTML("beforeend", '<img src="https://example.com/x.png">') }"""
    )
    seen.page.wait_for_timeout(200)
    assert seen.page.evaluate("window.injected") is None
    assert [url for url in seen.answered if "example.com" in url] == []
    assert len([text for text in seen.complaints if "Content Security Policy" in text]) == 2


def test_a_drawing_that_comes_later_moves_nothing(visit):
    page = visit(MOBILE).page
    before = page.locator("#h-all").bounding_box()["y"]
    page.wait_for_selector(".chart[data-drawn]")
    assert page.locator("#h-all").bounding_box()["y"] == pytest.approx(before, abs=2)
