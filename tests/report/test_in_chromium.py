"""The page as a reader's browser shows it: phone and desk, light and dark, without network."""

import shutil
from dataclasses import dataclass, field

import pytest

from tfx_encore.pipeline.report import build

pytestmark = pytest.mark.service("chromium")

PHONE = {"width": 360, "height": 740}
DESK = {"width": 1280, "height": 900}
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
]
REPORTS = ("released", "refused", "first_release")

# Relative luminance and contrast as WCAG 2.2 defines them.
CONTRAST = """
() => {
  const rgb = (text) => text.match(/[\\d.]+/g).map(Number);
  const luminance = (c) => c.slice(0, 3).map((v) => v / 255)
    .map((v) => (v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4))
    .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
  const behind = (element) => {
    for (let at = element; at; at = at.parentElement) {
      const colour = rgb(getComputedStyle(at).backgroundColor);
      if (colour.length === 3 || colour[3] > 0) return colour;
    }
    return [255, 255, 255];
  };
  const shown = [...document.querySelectorAll("body *")].filter((e) =>
    [...e.childNodes].some((n) => n.nodeType === 3 && n.textContent.trim()));
  return shown.map((e) => {
    const style = getComputedStyle(e);
    const front = e instanceof SVGElement ? style.fill : style.color;
    const [a, b] = [luminance(rgb(front)), luminance(behind(e))];
    return [(Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05), e.textContent.trim().slice(0, 40)];
  });
}
"""


@dataclass
class Visit:
    page: object
    requests: list = field(default_factory=list)
    complaints: list = field(default_factory=list)


@pytest.fixture(scope="module")
def browser():
    from playwright.sync_api import sync_playwright

    with sync_playwright() as driver:
        opened = driver.chromium.launch(executable_path=shutil.which("chromium"), args=FLAGS)
        yield opened
        opened.close()


@pytest.fixture(scope="module")
def files(tmp_path_factory, released, refused, first_release):
    folder = tmp_path_factory.mktemp("reports")
    given = dict(zip(REPORTS, (released, refused, first_release), strict=True))
    return {name: build.write(report, folder / f"{name}.html") for name, report in given.items()}


@pytest.fixture
def visit(browser, files):
    opened = []

    def open_report(name, size=PHONE, scheme="light"):
        page = browser.new_page(viewport=size, color_scheme=scheme)
        opened.append(page)
        seen = Visit(page)
        address = files[name].as_uri()

        def judge(route):
            if route.request.url == address:
                route.continue_()
                return
            seen.requests.append(route.request.url)
            route.abort()

        page.route("**/*", judge)
        page.on("console", lambda message: seen.complaints.append(message.text))
        page.on("pageerror", lambda error: seen.complaints.append(str(error)))
        page.goto(address)
        return seen

    yield open_report
    for page in opened:
        page.close()


def _open_all(page):
    page.evaluate("document.querySelectorAll('details').forEach((d) => { d.open = true })")


@pytest.mark.parametrize("name", REPORTS)
def test_the_page_asks_for_nothing_and_complains_of_nothing(visit, name):
    seen = visit(name)
    _open_all(seen.page)
    seen.page.wait_for_load_state("networkidle")
    assert seen.requests == []
    assert seen.complaints == []


def test_the_policy_of_the_page_stops_what_a_name_might_smuggle_in(visit):
    seen = visit("released")
    seen.page.evaluate(
        "document.body.insertAdjacentHTML('beforeend', '<img src=\"https://example.com/x.png\">')"
    )
    seen.page.wait_for_timeout(200)
    assert seen.requests == []
    assert any("Content Security Policy" in text for text in seen.complaints)


@pytest.mark.parametrize("size", [PHONE, DESK], ids=["phone", "desk"])
@pytest.mark.parametrize("name", REPORTS)
def test_nothing_makes_the_page_scroll_sideways(visit, name, size):
    page = visit(name, size).page
    for unfold in (False, True):
        if unfold:
            _open_all(page)
        width = page.evaluate("document.documentElement.scrollWidth")
        assert width <= size["width"], f"{width} px wide, folds open: {unfold}"


def test_wide_tables_scroll_in_a_box_that_the_keyboard_reaches(visit):
    page = visit("refused").page
    box = page.locator(".scroll").first
    assert box.evaluate("e => e.scrollWidth > e.clientWidth")
    box.focus()
    page.keyboard.press("ArrowRight")
    page.wait_for_timeout(300)
    assert box.evaluate("e => e.scrollLeft") > 0
    assert page.evaluate("document.scrollingElement.scrollLeft") == 0


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("name", ["released", "refused"])
def test_all_text_has_the_contrast_of_wcag_aa(visit, name, scheme):
    page = visit(name, DESK, scheme).page
    _open_all(page)
    measured = page.evaluate(CONTRAST)
    assert len(measured) > 400
    assert [found for found in measured if found[0] < 4.5] == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_what_is_drawn_stands_out_from_the_paper_and_now_from_before(visit, scheme):
    page = visit("released", DESK, scheme).page
    page.evaluate(
        """() => { for (const [front, back] of
          [["now", "paper"], ["before", "paper"], ["block", "paper"], ["warn", "paper"]])
          document.body.insertAdjacentHTML("beforeend",
            `<p style="color:var(--${front});background:var(--${back})">probe</p>`) }"""
    )
    probes = [ratio for ratio, text in page.evaluate(CONTRAST) if text == "probe"]
    assert len(probes) == 4
    assert min(probes) >= 3.0


def test_dark_mode_changes_page_and_drawings_alike(visit):
    looks = """() => [document.body, document.querySelector(".plot text")].map((e) => {
      const s = getComputedStyle(e); return [s.backgroundColor, s.color, s.fill] }).concat(
      [...document.querySelectorAll("#features .plot path")].slice(0, 40).map((p) => {
        const s = getComputedStyle(p); return s.stroke + s.fill }))"""
    light = visit("released", DESK, "light").page.evaluate(looks)
    dark = visit("released", DESK, "dark").page.evaluate(looks)
    assert light[0] != dark[0]
    assert light[1] != dark[1]
    both = zip(light[2:], dark[2:], strict=True)
    painted = [(a, b) for a, b in both if not a.startswith("none")]
    assert painted
    assert all(a != b for a, b in painted)


def test_the_first_screen_of_a_phone_shows_model_version_verdict_and_reasons(visit):
    page = visit("refused").page
    first = page.evaluate(
        """() => [...document.querySelectorAll("h1, .verdict, .reasons > li")]
        .filter((e) => e.getBoundingClientRect().bottom <= innerHeight).map((e) => e.innerText)"""
    )
    assert first[0] == "taxi no new version"
    assert "Refused" in first[1]
    assert len(first) == 4
    assert any("payment_type=Mobile" in text for text in first)


def test_every_drifted_feature_has_an_open_drawing_and_the_others_are_folded(visit):
    page = visit("refused").page
    figures = page.locator("figure.feature")
    assert figures.count() == 12
    for figure in figures.all():
        drifted = figure.get_attribute("data-outcome") in {"WARN", "BLOCK"}
        assert figure.locator("svg.plot").is_visible() == drifted
        assert "Distribution of" in figure.locator("svg.plot").get_attribute("aria-label")


def test_a_fold_opens_and_closes_from_the_keyboard(visit):
    page = visit("released").page
    fold = page.locator("#features > details")
    fold.locator("> summary").focus()
    assert not fold.evaluate("d => d.open")
    page.keyboard.press("Enter")
    assert fold.evaluate("d => d.open")
    assert fold.locator("svg.plot").first.is_visible()
    page.keyboard.press("Space")
    assert not fold.evaluate("d => d.open")


def test_a_script_in_a_category_name_is_shown_and_never_run(visit, hostile):
    page = visit("released").page
    _open_all(page)
    assert page.evaluate("window.injected") is None
    assert page.evaluate("document.scripts.length") == 0
    assert page.evaluate("document.images.length") == 0
    assert page.get_by_text(hostile, exact=True).count() == 1


def test_row_names_stay_inside_their_drawings(visit):
    page = visit("released").page
    _open_all(page)
    outside = page.evaluate(
        """() => [...document.querySelectorAll(".plot text")].filter((t) => {
          const box = t.getBoundingClientRect(), plot = t.closest("svg").getBoundingClientRect();
          return box.left < plot.left - 1 || box.right > plot.right + 1;
        }).map((t) => t.textContent)"""
    )
    assert outside == []


def test_drawings_are_as_wide_as_the_phone_lets_them_and_text_stays_legible(visit):
    page = visit("released").page
    sizes = page.evaluate(
        """() => [...document.querySelectorAll(".plot")]
        .filter((p) => p.checkVisibility()).map((p) => [
          p.getBoundingClientRect().width,
          parseFloat(getComputedStyle(p.querySelector("text")).fontSize)
            * p.getBoundingClientRect().width / p.viewBox.baseVal.width])"""
    )
    assert sizes
    assert all(300 <= width <= 360 for width, _ in sizes)
    assert all(pixels >= 9.5 for _, pixels in sizes)


def test_the_parts_of_a_drawing_are_not_told_apart_by_colour_alone(visit):
    page = visit("released", DESK).page
    strokes = page.evaluate(
        """() => [...document.querySelectorAll("figure.feature .plot path")]
        .map((p) => getComputedStyle(p)).filter((s) => s.stroke !== "none")
        .map((s) => [s.stroke, s.strokeDasharray])"""
    )
    now = page.evaluate("getComputedStyle(document.querySelector('.key line[style*=now]')).stroke")
    before = page.evaluate(
        "getComputedStyle(document.querySelector('.key line[style*=before]')).stroke"
    )
    assert {dash for stroke, dash in strokes if stroke == now} == {"none"}
    assert any(dash != "none" for stroke, dash in strokes if stroke == before)
