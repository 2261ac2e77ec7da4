"""The report in Chromium: every page at three widths in both themes, and what a reader can do with it.

The report tested is the run folder in JOURNEYKIT_REPORT, else the latest report of the bundled study, else one made
by hand. Without Chromium the tests are skipped; JOURNEYKIT_REQUIRE_BROWSER=1 makes that a failure. Interaction and
hostile data are always tested on the report made by hand, which has every kind of page.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from journeykit.report import build
from tests.fake_run import make_run

ROOT = Path(__file__).resolve().parent.parent
CHROMIUM = os.environ.get("JOURNEYKIT_CHROMIUM", "/usr/bin/chromium")
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-dev-shm-usage",
]
WIDTHS = {"desktop": 1280, "tablet": 768, "phone": 400}
THEMES = ("light", "dark")

# What a page must show; runs in the page.
INSPECT = """() => {
  const root = document.documentElement, out = [];
  for (const image of document.images) {
    if (!(image.alt || "").trim()) out.push("image without alt text");
    if (!image.complete || !image.naturalWidth) out.push("image not drawn: " + image.alt);
  }
  if (root.scrollWidth > innerWidth) {
    const wide = [...document.querySelectorAll("main *, header *")].find(
      e => e.getBoundingClientRect().right > innerWidth + 1 && !e.closest(".scroll, figure, pre, .facts"));
    out.push(`wider than the window: ${root.scrollWidth} > ${innerWidth}, ${wide?.outerHTML.slice(0, 160)}`);
  }
  if (document.querySelectorAll("h1").length !== 1) out.push("not one h1");
  const rgb = c => (c.match(/[\\d.]+/g) || []).map(Number);
  const light = ([r, g, b]) => { const f = v => (v /= 255) <= .04045 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4;
    return .2126 * f(r) + .7152 * f(g) + .0722 * f(b); };
  const ground = e => {
    for (; e; e = e.parentElement) {
      const c = rgb(getComputedStyle(e).backgroundColor);
      if (c.length && (c[3] ?? 1) === 1) return c;
    }
    return [255, 255, 255];
  };
  for (const e of document.querySelectorAll("main *, header *, #nav *")) {
    const own = [...e.childNodes].some(n => n.nodeType === 3 && n.data.trim());
    if (!own || !e.checkVisibility({ checkOpacity: true, checkVisibilityCSS: true })) continue;
    const style = getComputedStyle(e), a = light(rgb(style.color)), b = light(ground(e));
    const ratio = (Math.max(a, b) + .05) / (Math.min(a, b) + .05), large = parseFloat(style.fontSize) >= 24;
    if (ratio < (large ? 3 : 4.5)) out.push(`contrast ${ratio.toFixed(2)}: ${e.outerHTML.slice(0, 120)}`);
  }
  return [...new Set(out)];
}"""


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    missing = ""
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        missing = "playwright is not installed"
    if not missing and not (shutil.which(CHROMIUM) or Path(CHROMIUM).exists()):
        missing = f"no Chromium at {CHROMIUM}; install it or set JOURNEYKIT_CHROMIUM"
    if missing:
        if os.environ.get("JOURNEYKIT_REQUIRE_BROWSER") == "1":
            pytest.fail(missing)
        pytest.skip(missing)
    with sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield opened
        opened.close()


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run made by hand, with its report."""
    return build(make_run(tmp_path_factory.mktemp("browser") / "run"), nonce_seed=1).parent


@pytest.fixture(scope="module")
def folder(made: Path) -> Path:
    """The run folder under test."""
    named = os.environ.get("JOURNEYKIT_REPORT")
    if named:
        return Path(named).resolve()
    latest = ROOT / "reports" / "laptop_store" / "latest"
    return latest.resolve() if (latest / "run.json").exists() else made


class Watched:
    """A page whose requests, messages, errors and dialogs are noted."""

    def __init__(self, browser: Any, **options: Any) -> None:
        self.context = browser.new_context(**options)
        self.page = self.context.new_page()
        self.noted: list[str] = []
        self.page.on("request", self._request)
        self.page.on(
            "console", lambda message: self._note("console", message.text, message.type in ("error", "warning"))
        )
        self.page.on("pageerror", lambda error: self._note("error", str(error)))
        self.page.on("dialog", self._dialog)

    def _note(self, kind: str, text: str, bad: bool = True) -> None:
        if bad:
            self.noted.append(f"{kind}: {text}")

    def _request(self, request: Any) -> None:
        self._note("request", request.url, not request.url.startswith(("file:", "data:")))

    def _dialog(self, dialog: Any) -> None:
        self._note("dialog", dialog.message)
        dialog.dismiss()

    def open(self, path: Path) -> Any:
        self.page.goto(path.as_uri())
        return self.page

    def __enter__(self) -> Watched:
        return self

    def __exit__(self, *_: object) -> None:
        self.context.close()


# --- every page ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("theme", THEMES)
@pytest.mark.parametrize("width", WIDTHS.values(), ids=WIDTHS.keys())
def test_every_page_is_sound(browser: Any, folder: Path, width: int, theme: str) -> None:
    check(browser, folder, width, theme)


@pytest.mark.parametrize("width", [1280, 400])
def test_hostile_data_stays_data(browser: Any, made: Path, width: int) -> None:
    check(browser, made, width, "light")


def check(browser: Any, folder: Path, width: int, theme: str) -> None:
    """Nothing leaves the page, nothing fails in it, nothing is cut or unreadable, and no alert fired."""
    problems = []
    with Watched(browser, viewport={"width": width, "height": 900}, color_scheme=theme) as watched:
        for path in sorted(folder.glob("*.html")):
            page = watched.open(path)
            page.wait_for_load_state("load")
            draw(page)
            problems += [f"{path.name}: {problem}" for problem in page.evaluate(INSPECT)]
            problems += [f"{path.name}: {note}" for note in watched.noted]
            watched.noted.clear()
    assert not problems, "\n".join(problems)


def draw(page: Any) -> None:
    """Come near each interactive figure, so that it is drawn."""
    for figure in page.locator("figure[data-interactive]").all():
        figure.scroll_into_view_if_needed()
        figure.locator(".chart svg.main-svg").first.wait_for(state="attached", timeout=60_000)


def test_a_policy_stops_what_the_cleaning_might_miss(browser: Any, made: Path) -> None:
    """Defence in depth: the same page with live payloads put back runs none of them."""
    text = (made / "index.html").read_text(encoding="utf-8")
    payload = "<img src=x onerror=alert(1)><script>alert(2)</script><img src='https://example.org/x.png'><main"
    page = made / "tampered.htm"
    page.write_text(text.replace("<main", payload, 1), encoding="utf-8")
    with Watched(browser) as watched:
        watched.open(page).wait_for_timeout(200)
        assert not [note for note in watched.noted if note.startswith("dialog")]
        assert any("Content Security Policy" in note for note in watched.noted)
    page.unlink()


# --- what a reader can do ------------------------------------------------------------------------------------------


def test_the_theme_follows_the_system_and_the_choice_is_kept(browser: Any, made: Path) -> None:
    def dark(page: Any) -> bool:
        return bool(page.evaluate("getComputedStyle(document.body).backgroundColor.match(/\\d+/g).every(v => v < 90)"))

    with Watched(browser, color_scheme="dark") as watched:
        assert dark(watched.open(made / "index.html"))
    with Watched(browser, color_scheme="light") as watched:
        page = watched.open(made / "index.html")
        assert not dark(page)
        button = page.get_by_role("button", name="Switch to the dark theme")
        button.focus()
        page.keyboard.press("Enter")
        assert dark(page)
        page.reload()
        assert dark(page)
        assert dark(watched.open(made / "04_funnel.html")), "the choice holds on the other pages"
        page.get_by_role("button", name="Switch to the light theme").click()
        assert not dark(page)
        assert page.evaluate("localStorage.length") == 0, "what the system says needs no note"
        assert not watched.noted


def test_a_table_sorts_by_click_and_by_keyboard(browser: Any, made: Path) -> None:
    with Watched(browser) as watched:
        page = watched.open(made / "04_funnel.html")
        table = page.locator("table.sortable").first
        head = table.locator("thead th").nth(1)

        def column(number: int) -> list[str]:
            return [row.strip() for row in table.locator(f"tbody td:nth-child({number})").all_inner_texts()]

        as_it_was = column(2)
        head.get_by_role("button").click()
        assert head.get_attribute("aria-sort") == "ascending"
        assert column(2) == ["846", "1,003", "1,904", "2,318", "4,210"]
        page.keyboard.press("Enter")
        assert head.get_attribute("aria-sort") == "descending"
        assert column(2)[0] == "4,210"
        page.keyboard.press("Enter")
        assert head.get_attribute("aria-sort") is None
        assert column(2) == as_it_was
        other = table.locator("thead th").nth(2).get_by_role("button")
        other.click()
        assert column(3)[0].startswith("52.7 %")
        assert column(3)[-1] == "–", "a missing value is last"
        other.click()
        assert column(3)[0].startswith("84.4 %")
        assert column(3)[-1] == "–", "a missing value is last either way"
        table.locator("thead th").first.get_by_role("button").click()
        assert column(1) == ["Cart", "Checkout", "Order", "Product page", "Shipping cost"]
        assert table.locator("th[aria-sort]").count() == 1


def test_a_long_table_unfolds(browser: Any, made: Path) -> None:
    with Watched(browser) as watched:
        page = watched.open(made / "04_funnel.html")
        rows = page.locator(".scroll").nth(1).locator("tbody tr")
        assert [row.is_visible() for row in rows.all()].count(True) == 12
        page.get_by_role("button", name="Show all 30 rows").click()
        assert [row.is_visible() for row in rows.all()].count(True) == 30
        page.get_by_role("button", name="Show the first 12 rows").click()
        assert [row.is_visible() for row in rows.all()].count(True) == 12


def test_code_is_hidden_until_asked_for(browser: Any, made: Path) -> None:
    with Watched(browser) as watched:
        page = watched.open(made / "04_funnel.html")
        block = page.locator("details.code pre").first
        assert not block.is_visible()
        page.get_by_role("button", name="Show code").click()
        assert block.is_visible()
        page.get_by_role("button", name="Hide code").click()
        assert not block.is_visible()


def test_on_a_phone_the_chapters_fold_away(browser: Any, made: Path) -> None:
    with Watched(browser, viewport={"width": 400, "height": 800}) as watched:
        page = watched.open(made / "04_funnel.html")
        link = page.get_by_role("navigation", name="Chapters").get_by_role("link", name="Who cancels")
        menu = page.get_by_role("button", name="Chapters")
        assert page.locator("#nav").is_hidden()
        menu.click()
        assert link.is_visible()
        page.keyboard.press("Escape")
        assert page.locator("#nav").is_hidden()
        menu.click()
        link.click()
        page.wait_for_url("**/07_churn.html")
        wide = watched.open(made / "04_funnel.html").locator(".scroll").nth(2)
        assert wide.get_attribute("tabindex") == "0", "a table that scrolls can be reached by keyboard"
        assert wide.evaluate("e => e.scrollWidth > e.clientWidth")


def test_the_skip_link_comes_first(browser: Any, made: Path) -> None:
    with Watched(browser) as watched:
        page = watched.open(made / "04_funnel.html")
        page.keyboard.press("Tab")
        assert page.evaluate("document.activeElement.textContent") == "Skip to the content"
        page.keyboard.press("Enter")
        assert page.evaluate("document.activeElement.id") == "main"


def test_on_paper_there_is_no_navigation_and_nothing_is_folded(browser: Any, made: Path) -> None:
    with Watched(browser, color_scheme="dark") as watched:
        page = watched.open(made / "04_funnel.html")
        page.emulate_media(media="print")
        page.evaluate("dispatchEvent(new Event('beforeprint'))")
        assert page.locator("#nav").is_hidden()
        assert page.locator("nav.turn").is_hidden()
        assert page.get_by_role("button", name="Show all 30 rows").count() == 0
        assert page.locator(".scroll").nth(1).locator("tbody tr").last.is_visible()
        assert page.locator("figure img").first.evaluate("e => getComputedStyle(e).filter") == "none"
        assert page.evaluate("getComputedStyle(document.body).color") == "rgb(31, 41, 51)", "dark ink on white paper"
        page = watched.open(made / "index.html")
        page.evaluate("dispatchEvent(new Event('beforeprint'))")
        assert page.locator("details:not([open])").count() == 0
        page.evaluate("dispatchEvent(new Event('afterprint'))")
        assert page.locator("details[open]").count() == 0
        page.set_viewport_size({"width": 640, "height": 900})  # A4 between its margins
        page.emulate_media(media="print")
        for path in sorted(made.glob("*.html")):
            watched.open(path)
            assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), f"{path.name} is cut on paper"


def test_a_long_table_has_its_headings_on_every_sheet(browser: Any, made: Path) -> None:
    with Watched(browser) as watched:
        page = watched.open(made / "04_funnel.html")
        page.emulate_media(media="print")
        style = "e => [getComputedStyle(e).display, getComputedStyle(e).breakInside]"
        heads = page.locator(".scroll > table > thead")
        assert [heads.nth(number).evaluate(style) for number in range(heads.count())] == [
            ["table-header-group", "avoid"]
        ] * heads.count()
        # Chromium leaves out a button's text in the repeated heading.
        assert page.locator("thead button").first.evaluate("e => getComputedStyle(e).display") == "contents"


def test_a_figure_fits_a_phone_or_says_that_it_goes_on(browser: Any, made: Path) -> None:
    with Watched(browser, viewport={"width": 400, "height": 800}) as watched:
        page = watched.open(made / "04_funnel.html")
        figure = page.locator("figure").first
        assert figure.evaluate("e => e.scrollWidth <= e.clientWidth")
        figure.locator("img").evaluate("e => e.style.setProperty('--least', '600px')")
        page.set_viewport_size({"width": 401, "height": 800})
        page.locator("figure.beyond").first.wait_for()
        assert "Swipe" in figure.evaluate("e => getComputedStyle(e, '::after').content")


def test_no_box_cuts_a_table_off_below(browser: Any, made: Path) -> None:
    with Watched(browser, viewport={"width": 1280, "height": 400}) as watched:
        page = watched.open(made / "04_funnel.html")
        page.get_by_role("button", name="Show all 30 rows").click()
        cut = page.locator(".scroll").evaluate_all("all => all.filter(e => e.scrollHeight > e.clientHeight + 1).length")
        assert cut == 0


def test_without_javascript_everything_can_be_read(browser: Any, made: Path) -> None:
    with Watched(browser, java_script_enabled=False, viewport={"width": 400, "height": 800}) as watched:
        page = watched.open(made / "04_funnel.html")
        assert page.get_by_role("heading", level=1).inner_text() == "Where do buyers drop out?"
        assert page.locator("#nav").is_visible()
        assert page.locator(".scroll").nth(1).locator("tbody tr").last.is_visible()
        assert page.locator("details.code summary").first.is_visible(), "code can be unfolded one by one"
        assert page.get_by_role("button").count() == 0, "no button that does nothing"
        assert not watched.noted


# --- interactive figures -------------------------------------------------------------------------------------------


def test_an_interactive_figure_is_drawn_without_a_request(browser: Any, made: Path) -> None:
    with Watched(browser, viewport={"width": 1280, "height": 900}) as watched:
        asked: list[str] = []
        watched.page.on("request", lambda request: asked.append(request.url))
        page = watched.open(made / "04_funnel.html")
        figure = page.locator("figure[data-interactive]")
        assert figure.locator("img").is_visible() or figure.locator(".chart").is_visible(), "there is always a picture"
        draw(page)
        page.locator("figure.drawn").wait_for()
        assert figure.locator(".sankey-node").count() == 3
        assert figure.locator(".sankey-link").count() == 2
        assert figure.locator("img").is_hidden()
        chart = figure.locator(".chart")
        assert chart.get_attribute("aria-label") == figure.locator("img").get_attribute("alt")
        assert sorted({Path(url).name for url in asked if not url.startswith("data:")}) == [
            "04_funnel.html",
            "plotly.min.js",
        ]
        assert not watched.noted
        # The payloads are there as text, and only so.
        assert figure.locator("a[*|href], image, script:not([type='application/json'])").count() == 0
        assert "<script>alert(1)</script>" in figure.locator(".chart").inner_text() + "".join(
            figure.locator(".chart svg").all_text_contents()
        )


def test_an_interactive_figure_tells_its_numbers_by_mouse_and_by_keyboard(browser: Any, made: Path) -> None:
    with Watched(browser, viewport={"width": 1280, "height": 900}) as watched:
        page = watched.open(made / "04_funnel.html")
        draw(page)
        told = page.locator(".told")
        hint = told.inner_text()
        assert "arrow keys" in hint
        page.locator(".chart").focus()
        said = []
        for _ in range(5):
            page.keyboard.press("ArrowRight")
            page.locator(".hoverlayer .hovertext").first.wait_for(state="attached")
            said.append(told.inner_text())
        assert len(set(said)) == 5, "two links and three nodes"
        assert hint not in said
        page.keyboard.press("ArrowLeft")
        assert told.inner_text() == said[3]
        page.keyboard.press("Escape")
        page.locator(".hoverlayer .hovertext").first.wait_for(state="detached")
        box = page.locator(".sankey-node rect").first.bounding_box()
        page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
        page.locator(".hoverlayer .hovertext").first.wait_for(state="attached")
        assert not watched.noted


def test_on_paper_and_without_scripts_the_drawing_stays(browser: Any, made: Path) -> None:
    with Watched(browser, viewport={"width": 1280, "height": 900}) as watched:
        page = watched.open(made / "04_funnel.html")
        draw(page)
        page.emulate_media(media="print")
        assert page.locator("figure.drawn img").is_visible()
        assert page.locator(".chart").is_hidden()
        assert page.locator(".told").is_hidden()
    with Watched(browser, java_script_enabled=False) as watched:
        page = watched.open(made / "04_funnel.html")
        assert page.locator("figure[data-interactive] img").is_visible()
        assert page.locator(".chart").count() == 0


def test_a_page_that_is_sent_on_alone_shows_the_drawing(browser: Any, made: Path, tmp_path: Path) -> None:
    shutil.copy(made / "04_funnel.html", tmp_path)
    with Watched(browser, viewport={"width": 1280, "height": 900}) as watched:
        page = watched.open(tmp_path / "04_funnel.html")
        with page.expect_event("requestfailed"):
            page.locator("figure[data-interactive]").scroll_into_view_if_needed()
        assert page.locator("figure[data-interactive] img").is_visible()
        assert page.locator("figure.drawn").count() == 0
        assert not [note for note in watched.noted if note.startswith(("error", "dialog", "request"))]


def test_an_interactive_figure_follows_width_and_theme(browser: Any, made: Path) -> None:
    with Watched(browser, viewport={"width": 1280, "height": 900}, color_scheme="dark") as watched:
        page = watched.open(made / "04_funnel.html")
        draw(page)
        chart, figure = page.locator(".chart"), page.locator("figure[data-interactive]")
        assert "invert" in chart.evaluate("e => getComputedStyle(e).filter")
        page.get_by_role("button", name="Switch to the light theme").click()
        assert chart.evaluate("e => getComputedStyle(e).filter") == "none"
        wide = chart.locator("svg.main-svg").first.evaluate("e => e.clientWidth")
        page.set_viewport_size({"width": 1050, "height": 900})
        page.wait_for_function(
            "wide => document.querySelector('.chart svg.main-svg').clientWidth < wide", arg=wide, timeout=20_000
        )
        page.set_viewport_size({"width": 400, "height": 800})
        page.locator("figure[data-interactive].beyond").wait_for()
        assert chart.evaluate("e => e.clientWidth") == 720, "its text stays legible: it scrolls in its own box"
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
        assert figure.get_attribute("tabindex") == "0"
