"""A page opened from disk in the system's Chromium: sorted, searched, filtered, pointed at, light and dark."""

import shutil

import pytest

from efficientconv.report.page import as_page

pytest.importorskip("vl_convert")
sync_api = pytest.importorskip("playwright.sync_api")
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
pytestmark = [pytest.mark.browser, pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium here")]

ROWS = "#rows tbody tr"


@pytest.fixture(scope="module")
def browser():
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def opened(sweep, browser):
    """Open the sweep's page; anything that is logged or asked for over the network fails the test."""

    def open_page(**settings):
        file = sweep.root / "report.html"
        file.write_text(as_page(sweep.report(), ["sweep"], sweep.root).render(), encoding="utf-8")
        page = browser.new_page(**settings)
        page.on("console", lambda message: complaints.append(message.text) if ".html" in page.url else None)
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("request", lambda request: complaints.append(request.url) if request.url[:4] == "http" else None)
        page.goto(file.as_uri())
        page.wait_for_selector("body[data-ready]")
        return page

    complaints = []
    yield open_page
    assert complaints == []


def first_cells(page):
    return page.locator(f"{ROWS} td:nth-child(2)").all_inner_texts()


def points(page, chart=0):
    """Count the points of rows, which are larger than those of runs."""
    return page.locator(f"#chart-{chart} .layer_2_marks path").count()


def test_sort_search_and_filter(opened):
    page = opened()
    assert first_cells(page) == ["standard", "bsconv_u", "standard", "bsconv_u"]
    page.locator("#rows thead th", has_text="top-1").click()
    accuracies = page.locator(f"{ROWS} td:nth-child(3)")  # the table sorts itself a moment after the click
    sync_api.expect(accuracies).to_have_text(["89.00 ± 1.00", "91.00 ± 1.00", "94.00 ± 1.00", "95.33 ± 1.15"])
    page.locator("input[type=search]").first.fill("resnet32")
    page.wait_for_function(f"document.querySelectorAll('{ROWS}').length === 2")
    assert sorted(first_cells(page)) == ["bsconv_u", "standard"]


def test_what_is_filtered_out_of_the_table_leaves_the_charts(opened):
    page = opened()
    assert points(page) == 4
    page.locator("#rows thead th", has_text="conv").locator(".dtcc-button_dropdown").click()
    page.locator(".dtcc-list-buttons button", has_text="bsconv_u").click()
    page.wait_for_function(f"document.querySelectorAll('{ROWS}').length === 2")
    page.wait_for_function("document.querySelectorAll('#chart-0 .layer_2_marks path').length === 2")
    assert first_cells(page) == ["bsconv_u", "bsconv_u"]


def test_points_tell_what_they_are_and_lead_to_their_runs(opened, sweep):
    page = opened()
    page.locator("#chart-0 .layer_2_marks path").first.hover()
    told = page.locator("#vg-tooltip-element.visible").inner_text()
    assert "model=resnet20 conv=standard" in told
    assert "91.00 ± 1.00" in told
    assert "272,474" in told
    page.locator("#chart-0 .layer_2_marks path").first.click()
    page.wait_for_url(f"{page.url.partition('#')[0]}#row-0")
    page.locator(f"{ROWS} a").first.click()
    page.wait_for_url((sweep.root / "run01").as_uri() + "/")
    page.go_back()
    page.wait_for_selector("body[data-ready]")
    assert page.locator("#chart-0 .layer_1_marks path").count() == 12
    page.locator("#chart-0 .layer_1_marks path").first.click()  # seed 0, one point below the mean
    page.wait_for_url((sweep.root / "run01").as_uri() + "/")


def test_curves_have_a_line_and_a_band_for_each_row_and_a_slider(opened):
    page = opened()
    for kind in ("area", "line"):
        assert page.locator(f"#chart-3 .mark-{kind}.role-mark path").count() == 4
    epochs = "[...document.querySelectorAll('#chart-3 .role-axis')].map(axis => axis.textContent).join(' ')"
    assert "123epoch" in page.evaluate(epochs)
    page.locator("#chart-3 input[type=range]").fill("2")
    page.wait_for_function(f"{epochs}.includes('23epoch') && !{epochs}.includes('123epoch')")


@pytest.mark.parametrize(
    ("scheme", "width", "background"), [("light", 380, "rgb(255, 255, 255)"), ("dark", 1500, "rgb(22, 24, 27)")]
)
def test_dark_mode_and_narrow_screens(opened, scheme, width, background):
    page = opened(viewport={"width": width, "height": 800}, color_scheme=scheme)
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == background
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    ink = "getComputedStyle(document.querySelector('#chart-0 .role-axis-title text')).fill"
    assert page.evaluate(ink) != background
    assert page.evaluate("document.documentElement.classList.contains('dark')") == (scheme == "dark")
