"""The book as a reader opens it: from disk, without a network, on a desk and on a phone."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from PIL import Image

pytestmark = pytest.mark.slow

pytest.importorskip("playwright", reason="needs the dev extra")

DESK, PHONE = {"width": 1280, "height": 900}, {"width": 390, "height": 844}

# Every text on the page with less contrast to what is behind it than WCAG 2.1 asks for (1.4.3)
FAINT = """() => {
  const canvas = document.createElement('canvas').getContext('2d', {willReadFrequently: true})
  const rgba = color => {
    canvas.clearRect(0, 0, 1, 1); canvas.fillStyle = color; canvas.fillRect(0, 0, 1, 1)
    return [...canvas.getImageData(0, 0, 1, 1).data]
  }
  const light = ([r, g, b]) => [r, g, b].map(v => v / 255)
    .map(v => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4)
    .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0)
  const behind = element => {
    for (let at = element; at; at = at.parentElement) {
      const color = rgba(getComputedStyle(at).backgroundColor)
      if (color[3] === 255) return color
    }
    return [255, 255, 255, 255]
  }
  const found = []
  const walk = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT)
  while (walk.nextNode()) {
    const text = walk.currentNode.textContent.trim(), element = walk.currentNode.parentElement
    if (!text || !element.checkVisibility() || ['SCRIPT', 'STYLE'].includes(element.tagName)) continue
    const style = getComputedStyle(element), ink = element instanceof SVGElement ? style.fill : style.color
    const [a, b] = [light(rgba(ink)), light(behind(element))]
    const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05)
    if (ratio < 4.5) found.push(`${ratio.toFixed(2)}: ${text.slice(0, 40)}`)
  }
  return found
}"""


@pytest.fixture(scope="module")
def site(book_site) -> Path:
    return book_site.index.parent


@pytest.fixture(scope="module")
def addresses(site) -> list[Path]:
    found = [path for path in sorted(site.rglob("*.html")) if "_static" not in path.parts]
    assert len(found) > 30
    return found


@pytest.fixture(scope="module")
def of_each_kind(site) -> list[Path]:
    chapters = (
        "01_noisy_dropout",
        "02_adaptive_noise",
        "06_live_lab",
        "solutions/01_noisy_dropout_solutions",
    )
    names = ["index", "claims", "results", "readings", "formats", "command-line", "search", "api/noise"]
    names += ["api/stats", "how-to/add-a-study", "results/adversarial_noise_layer/mnist"]
    return [site / f"{name}.html" for name in (*names, *(f"chapters/{name}" for name in chapters))]


def claims(site: Path) -> Path:
    return site / "claims.html"


SORTED = "table.sortable:has(th button) >> nth=0"  # a table of one row has nothing to sort


def column(page, number: int) -> list[str]:
    return page.locator(f"{SORTED} >> tbody tr td:nth-child({number})").all_inner_texts()


def test_no_figure_is_blank_nothing_comes_from_elsewhere_and_nothing_is_an_error(opened, addresses):
    drawn = 0
    for address in addresses:
        with opened(address, offline=True, viewport=DESK) as (page, errors):
            for image in page.locator("a.drawing img").all():
                image.scroll_into_view_if_needed()  # they are loaded when they come near
                image.evaluate("image => image.decode()")
                assert image.get_attribute("alt"), address
                seen = Image.open(io.BytesIO(image.screenshot())).convert("RGB")
                assert len(seen.getcolors(maxcolors=seen.width * seen.height)) > 10, address
                drawn += 1
            assert errors == [], address
    assert drawn >= 3


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_page_is_as_wide_as_a_phone_and_all_text_has_contrast(opened, of_each_kind, scheme):
    for address in of_each_kind:
        with opened(address, offline=True, viewport=PHONE, color_scheme=scheme) as (page, errors):
            page.evaluate("document.querySelectorAll('details').forEach(details => details.open = true)")
            assert page.evaluate("document.documentElement.scrollWidth") <= PHONE["width"], address
            assert page.evaluate(FAINT) == [], address
            assert errors == []


def test_markup_in_a_name_does_not_come_alive(opened, site):
    with opened(site / "results" / "adversarial_noise_layer" / "mnist.html", offline=True) as (page, errors):
        assert page.get_by_text("<img src=x onerror=alert(1)>").count() == 1
        assert page.locator("img[onerror]").count() == 0
        assert errors == []


def test_wide_table_scrolls_in_its_box_with_its_first_column_in_sight(opened, site):
    with opened(claims(site), offline=True, viewport=PHONE) as (page, _):
        box = page.locator(".scroll").first
        assert box.evaluate("box => box.scrollWidth > box.clientWidth")
        first = box.locator("tbody tr td").first
        before = first.bounding_box()["x"]
        box.focus()
        page.keyboard.press("ArrowRight")
        page.wait_for_function("document.querySelector('.scroll').scrollLeft > 0")
        assert first.bounding_box()["x"] == before


@pytest.mark.parametrize("name", ["index", "claims", "results"])
def test_at_a_desk_the_tables_of_what_was_found_show_every_column(opened, site, name):
    with opened(site / f"{name}.html", offline=True, viewport={"width": 1200, "height": 900}) as (page, _):
        page.evaluate("document.querySelectorAll('details').forEach(details => details.open = true)")
        cut = page.evaluate(
            "[...document.querySelectorAll('.scroll, .pst-scrollable-table-container')]"
            ".filter(box => box.scrollWidth > box.clientWidth).map(box => box.innerText.slice(0, 200))"
        )
        assert cut == []


def test_click_on_a_header_sorts_numbers_as_numbers(opened, site):
    with opened(claims(site), offline=True) as (page, errors):
        as_written = column(page, 3)
        head = page.locator(f"{SORTED} >> th:nth-child(3)")
        for order in ("ascending", "descending", "none"):
            head.get_by_role("button").click()
            assert head.get_attribute("aria-sort") == order
        assert column(page, 3) == as_written
        assert errors == []


def test_keyboard_sorts(opened, site):
    with opened(claims(site), offline=True) as (page, _):
        head = page.locator(f"{SORTED} >> th:nth-child(1)")
        button = head.get_by_role("button")
        button.focus()
        for key, order in (("Enter", "ascending"), ("Space", "descending")):
            page.keyboard.press(key)
            assert head.get_attribute("aria-sort") == order


def test_search_finds_a_name_of_the_api_without_a_network(opened, site):
    address = f"{(site / 'search.html').as_uri()}?q=noisy_dropout"
    with opened(address, offline=True) as (page, errors):
        page.locator('#search-results li a[href*="api/noise.html"]').first.wait_for()
        assert errors == []


def test_page_reads_without_scripts(opened, site):
    with opened(claims(site), offline=True, java_script_enabled=False) as (page, _):
        assert page.locator("th button").count() == 0
        assert page.locator(".verdict").first.is_visible()


def test_printed_page_is_dark_on_white_with_no_controls(opened, site):
    with opened(site / "index.html", offline=True, color_scheme="light") as (page, _):
        page.emulate_media(media="print")
        assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
        assert not page.locator(".bd-sidebar-primary").is_visible()
        shown = "getComputedStyle(document.querySelector('th button'), '::after').content"
        assert page.evaluate(shown) == "none"
