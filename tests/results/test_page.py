"""The report in a real browser, without a network: it sorts, filters, copies, and asks for nothing."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from results.figures import RankedRow, Tile
from results.report import title_of, write_report
from results.report_parts import sheet_of
from results.store import find_runs
from tests.results.cases import write_scored_run

pytestmark = pytest.mark.slow
BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
MINUTES = 5 * 60_000
"""Milliseconds that a busy machine may take; nothing is timed."""


def a_sheet() -> Any:
    tile = Tile("cam1/0001/0001.jpg", 1, "visible", np.zeros((16, 8, 3), np.uint8))
    found = (Tile("a.jpg", 2, "visible", tile.pixels, True), Tile("b.jpg", 2, "visible", tile.pixels, False))
    return sheet_of([RankedRow(tile, found, "dmic: AP 50.0 %", "dmic")], "One query.")


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """Open a report of three methods; at the end, nothing may have been asked for or complained of."""
    api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    if BROWSER is None:
        pytest.skip("no Chromium: install the package chromium")
    folder = tmp_path_factory.mktemp("page")
    for method, shift in (("adca", -1.0), ("dmic", 0.5), ('p"gm, <b>_1', 0.0)):
        write_scored_run(folder / "runs", method, shift=shift)
    found = find_runs([folder / "runs"])
    write_report(found, folder / "r.html", sheets={title_of(found.runs[0]): a_sheet()})
    asked, said = [], []
    with api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=BROWSER, args=["--no-sandbox", "--disable-gpu"], timeout=MINUTES
        )
        opened = browser.new_page()
        opened.set_default_timeout(MINUTES)
        opened.on("request", lambda request: asked.append(request.url))
        opened.on("console", lambda message: said.append(message.text))
        opened.on("pageerror", lambda error: said.append(str(error)))
        opened.goto((folder / "r.html").as_uri())
        yield opened
        browser.close()
    assert [url for url in asked if not url.startswith("data:")] == [(folder / "r.html").as_uri()]
    assert said == []


def lines(page: Any, column: int = 0) -> list[str]:
    """Return the shown cells of a column of the first setting."""
    rows = page.locator("table.main tbody").first.locator("tr[data-method]:visible")
    return [str(rows.nth(i).locator("th, td").nth(column).inner_text()) for i in range(rows.count())]


def copied(page: Any) -> str:
    return str(page.locator("#said[data-copied]").get_attribute("data-copied"))


def test_headings_sort_by_mouse_and_by_keyboard(page: Any) -> None:
    head = page.locator("table.main th", has_text="mAP").first
    column = (
        page.locator("table.main thead tr").nth(1).locator("th").all_inner_texts().index(head.inner_text())
    )
    head.get_by_role("button").click()
    values = [float(text.split()[0]) for text in lines(page, column)]
    assert values == sorted(values, reverse=True)
    assert head.get_attribute("aria-sort") == "descending"
    head.get_by_role("button").focus()
    page.keyboard.press("Enter")
    assert [float(text.split()[0]) for text in lines(page, column)] == values[::-1]
    page.locator("table.main th", has_text="method").get_by_role("button").click()
    assert lines(page) == sorted(lines(page), reverse=True)


def test_lines_are_filtered_and_methods_hidden_everywhere(page: Any) -> None:
    assert len(lines(page)) == 3
    page.get_by_label("Filter").fill("thermal-to-visible dmic")
    assert page.locator("#said").inner_text() == "1 of 6 lines shown"
    page.get_by_label("Filter").fill("")
    page.get_by_label("dmic", exact=True).uncheck()
    assert len(lines(page)) == 2
    assert page.locator("figure.ranked:visible").count() == 0
    page.get_by_label("dmic", exact=True).check()
    assert page.locator("figure.ranked:visible").count() == 1


def test_a_line_and_the_table_are_copied_as_csv_and_latex(page: Any) -> None:
    page.get_by_label("Filter").fill("<b>_1")
    copy = page.get_by_role("button", name="Copy the line of").first
    copy.click()
    assert copied(page).startswith('"p""gm, <b>_1",')
    page.get_by_label("Copy as").select_option("latex")
    copy.click()
    assert copied(page).startswith(r"p\char34{}gm, \textless{}b\textgreater{}\_1 & ")
    assert copied(page).endswith(r" \\")
    page.get_by_role("button", name="Copy table").click()
    table = copied(page)
    assert table.count("\\multicolumn") == 2
    assert table.startswith(r"\begin{tabular}{l")
    page.get_by_label("Filter").fill("")
    page.get_by_label("Copy as").select_option("csv")
    page.get_by_role("button", name="Copy table").click()
    rows = copied(page).splitlines()
    assert len(rows) == 7
    assert rows[0].startswith("setting,method,")
    assert rows[1].startswith('"regdb, visible-to-thermal",')


@pytest.mark.parametrize(("width", "shown"), [(375, "narrow"), (1600, "wide")])
@pytest.mark.parametrize("theme", ["light", "dark"])
def test_it_fits_and_can_be_read_at_every_width_and_theme(
    page: Any, width: int, shown: str, theme: str
) -> None:
    page.set_viewport_size({"width": width, "height": 800})
    page.emulate_media(color_scheme=theme)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    other = {"narrow": "wide", "wide": "narrow"}[shown]
    assert page.locator(f".{shown} svg:visible").count() >= 4
    assert page.locator(f".{other} svg:visible").count() == 0
    small = page.evaluate(
        "[...document.querySelectorAll('figure svg')].filter(s => s.clientWidth)"
        ".map(s => s.clientWidth / s.viewBox.baseVal.width)"
    )
    assert min(small) >= 1.3  # letters of 6 points are 8 pixels high
    contrasts = page.evaluate(CONTRASTS)
    assert min(contrasts) >= 4.5
    page.emulate_media(media="print")
    assert page.locator(".tools:visible").count() == 0
    assert page.locator(".wide svg:visible").count() >= 4
    page.emulate_media(media="screen")


CONTRASTS = """
(() => {
  const light = (css) => {
    const [r, g, b] = css.match(/[\\d.]+/g).map(Number).map((c) => c / 255)
      .map((c) => (c <= 0.03928 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4));
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const ground = (one) => {
    for (; one; one = one.parentElement) {
      const colour = getComputedStyle(one).backgroundColor;
      if (!/, 0\\)$/.test(colour)) return colour;
    }
    return "rgb(255, 255, 255)";
  };
  return [...document.querySelectorAll("p, li, td, th, a, code, h1, h2, label, button, b, caption, summary")]
    .filter((one) => one.innerText && one.offsetParent)
    .map((one) => [light(getComputedStyle(one).color), light(ground(one))])
    .map(([a, b]) => (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05));
})()
"""


def test_what_a_picture_shows_is_said(page: Any) -> None:
    for svg in page.locator("figure svg").all():
        assert svg.get_attribute("role") == "img"
        assert len(str(svg.get_attribute("aria-label"))) > 20
    alts = [str(image.get_attribute("alt")) for image in page.locator("img").all()]
    assert alts == [
        "query, camera 1, visible, cam1/0001/0001.jpg",
        "rank 1, right: camera 2, visible, a.jpg",
        "rank 2, wrong: camera 2, visible, b.jpg",
    ]
    assert page.locator("html").get_attribute("lang") == "en"
    assert (
        page.evaluate("new Set([...document.querySelectorAll('[id]')].map(e => e.id)).size")
        == page.locator("[id]").count()
    )


def test_the_policy_allows_our_style_and_script_alone(page: Any) -> None:
    policy = page.locator("meta[http-equiv]").get_attribute("content")
    assert policy.startswith("default-src 'none'; img-src data:; script-src 'sha256-")
    assert "unsafe" not in policy
    assert page.locator(".tools").is_visible()  # by the script
    assert (
        page.locator(".skip").evaluate("one => getComputedStyle(one).position") == "absolute"
    )  # by the style
