"""The report in a real browser: it sorts, it filters, it fits, and it asks for nothing."""

import shutil
from pathlib import Path

import pytest
from fake_results import write_results

from geoenc.bench.report import write_report

NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome")


@pytest.fixture(scope="module")
def browser():
    sync = pytest.importorskip("playwright.sync_api", reason="needs playwright: pip install it")
    path = next(filter(None, map(shutil.which, NAMES)), None)
    if path is None:
        pytest.skip(f"expected a browser to open the report in, found none of {', '.join(NAMES)}")
    with sync.sync_playwright() as playwright:
        started = playwright.chromium.launch(
            executable_path=path, args=["--no-sandbox", "--disable-gpu"]
        )
        yield started
        started.close()


@pytest.fixture(scope="module")
def report(tmp_path_factory) -> Path:
    folder = write_results(tmp_path_factory.mktemp("bench"), samples=120)
    speed = folder / "speed"
    speed.mkdir()
    (speed / "encoder.md").write_text("| what | ns |\n| --- | ---: |\n| b | 900 |\n| a | 1,203 |\n")
    return write_report(folder, speed=speed)[-1]


@pytest.fixture
def page(browser, report):
    """The report; whatever goes wrong while it is open fails the test."""
    opened = browser.new_page(viewport={"width": 1300, "height": 900})
    opened.set_default_timeout(5000)
    wrong: list[str] = []
    opened.on("console", lambda message: wrong.append(message.text))
    opened.on("pageerror", lambda error: wrong.append(str(error)))
    opened.on(
        "request",
        lambda request: request.url.startswith("data:") or wrong.append(request.url),
    )
    opened.goto(report.as_uri())
    assert wrong.pop(0) == report.as_uri()  # the page itself, and nothing else
    yield opened
    opened.close()
    assert wrong == []


def column(table, index: int) -> list[str]:
    return [row.locator("td").nth(index).inner_text() for row in table.locator("tbody tr").all()]


def test_a_click_sorts_and_another_turns_the_order(page):
    table = page.locator("#task-classes table").first
    before = column(table, 1)
    heading = table.get_by_role("button", name="Score").first
    heading.click()
    shown = [float(text.split(" ")[0]) for text in column(table, 1)]
    assert shown == sorted(shown, reverse=True)
    assert column(table, 1) != before
    assert table.locator("th[aria-sort=descending]").count() == 1
    heading.click()
    turned = [float(text.split(" ")[0]) for text in column(table, 1)]
    assert turned == shown[::-1]
    names = table.get_by_role("button", name="Row")
    names.focus()
    page.keyboard.press("Enter")  # a keyboard is enough
    rows = [row.locator("th").inner_text().lower() for row in table.locator("tbody tr").all()]
    assert rows == sorted(rows)
    assert table.locator("th[aria-sort]").inner_text().startswith("Row")


def test_empty_cells_come_last_and_numbers_of_speed_are_numbers(page):
    table = page.locator("#task-classes table").first
    for _ in range(2):
        table.get_by_role("button", name="p", exact=True).first.click()
        found = column(table, 3)
        assert found[-3:] == ["", "", ""]
        assert "" not in found[:-3]
    speed = page.locator("#speed table")
    speed.get_by_role("button", name="ns").click()
    assert column(speed, 0) == ["1,203", "900"]


def test_filters_leave_what_was_chosen_and_the_floors(page):
    page.locator("#filters [name=task]").select_option("numbers")
    assert page.locator("section.task:visible").count() == 1
    page.locator("#filters [name=split]").select_option("blocked")
    table = page.locator("#task-numbers table").first
    groups = table.locator("thead th[scope=colgroup]:visible")
    assert groups.all_inner_texts() == ["blocked"]
    assert page.locator("#ranks figure:visible").count() == 2
    page.locator("#filters [name=protocol]").select_option("probe")
    kinds = table.locator("tbody tr:visible")
    assert kinds.count() == 3 + 4
    page.locator("#filters [name=row]").fill("herg")
    assert kinds.count() == 3 + 1
    assert page.locator("#task-numbers svg.chart > g:visible").count() == 3 + 1
    page.locator("#filters [name=row]").fill("")
    page.locator("#filters [name=task]").select_option("")
    assert page.locator("section.task:visible").count() == 4


@pytest.mark.parametrize("width", [390, 1300])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_fits_a_phone_and_follows_the_scheme(page, width, scheme):
    page.set_viewport_size({"width": width, "height": 800})
    page.emulate_media(color_scheme=scheme)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    colour = page.evaluate("getComputedStyle(document.body).backgroundColor")
    dark = sum(int(part) for part in colour[4:-1].split(",")) < 3 * 128
    assert dark == (scheme == "dark")


def test_it_is_readable_without_scripts(browser, report):
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(report.as_uri())
    assert page.locator("#task-classes table").first.locator("tbody tr:visible").count() == 11
    context.close()
