"""The report of a run: its structure, its safety with hostile data, and that statuses come from run.json."""

from __future__ import annotations

import json
import re
import subprocess
import tomllib
from datetime import UTC, datetime
from pathlib import Path

import nbformat
import pandas as pd
import pytest
from bs4 import BeautifulSoup, Tag
from nbformat.v4 import new_markdown_cell, new_notebook

from journeykit import config, figures, present
from journeykit.errors import JourneyError
from journeykit.findings import Finding
from journeykit.report import advice, build, markup, model
from journeykit.report.build import _first
from journeykit.run import record
from journeykit.run.plan import plan
from tests.fake_run import TITLES, XSS, chapter, code, make_run, shown

POLICY = (
    "default-src 'none'; img-src data:; style-src 'unsafe-inline'; font-src data:; script-src 'nonce-{}'; "
    "base-uri 'none'; form-action 'none'"
)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = make_run(tmp_path_factory.mktemp("report") / "run")
    assert build(folder, nonce_seed=1) == folder / "index.html"
    return folder


@pytest.fixture(scope="module")
def pages(run: Path) -> dict[str, BeautifulSoup]:
    return {
        path.stem: BeautifulSoup(path.read_text(encoding="utf-8"), "html.parser") for path in sorted(run.glob("*.html"))
    }


# --- what is there -------------------------------------------------------------------------------------------------


def test_there_is_an_index_and_one_page_a_chapter(pages: dict[str, BeautifulSoup]) -> None:
    assert set(pages) == {"index", *TITLES}


def test_every_page_links_every_chapter_and_its_neighbours(pages: dict[str, BeautifulSoup]) -> None:
    for name, page in pages.items():
        links = {a["href"] for a in page.select("#nav a")}
        assert {f"{chapter}.html" for chapter in TITLES} | {"index.html"} <= links, name
        assert len(page.select("#nav a[aria-current=page]")) == 1, name
    assert pages["05_paths"].select_one("a[rel=prev]")["href"] == "04_funnel.html"
    assert pages["05_paths"].select_one("a[rel=next]")["href"] == "06_attribution.html"
    assert pages["09_summary"].select_one("a[rel=next]")["href"] == "index.html"


def test_links_inside_the_report_lead_somewhere(run: Path, pages: dict[str, BeautifulSoup]) -> None:
    for name, page in pages.items():
        for link in page.select("a[href]"):
            target, _, anchor = link["href"].partition("#")
            if target.startswith("http"):
                continue
            assert not target or (run / target).exists(), (name, link["href"])
            if anchor:
                assert pages[Path(target).stem if target else name].find(id=anchor), (name, link["href"])


def test_headings_are_once_and_in_order(pages: dict[str, BeautifulSoup]) -> None:
    for name, page in pages.items():
        assert len(page.find_all("h1")) == 1, name
        ids = [tag["id"] for tag in page.find_all(id=True)]
        assert len(ids) == len(set(ids)), name
    assert pages["04_funnel"].h1.get_text() == TITLES["04_funnel"]
    contents = [a.get_text() for a in pages["04_funnel"].select("#nav .contents a")]
    assert contents == [
        "Where do people leave?",
        "Does it change by day?",
        "A very wide table",
        "An interactive figure",
    ]
    assert {"hostile-output", "hostile-output-2"} <= {tag["id"] for tag in pages["05_paths"].find_all("h2")}


def test_every_picture_has_alt_text(pages: dict[str, BeautifulSoup]) -> None:
    for name, page in pages.items():
        for image in page.find_all("img"):
            assert image.get("alt", "").strip(), name
            assert "No description" not in image["alt"], name
    images = pages["04_funnel"].find_all("img")
    assert images[0]["alt"] == f"Bars of the share that continues, by step {XSS}"
    assert images[1]["alt"] == "Figure of the section “An interactive figure”"


def test_parameters_and_injected_cells_are_not_shown_and_code_is_folded(pages: dict[str, BeautifulSoup]) -> None:
    page = pages["04_funnel"]
    blocks = page.select("details.code")
    assert blocks
    assert not any(block.has_attr("open") for block in blocks)
    code_shown = " ".join(block.get_text() for block in blocks)
    assert "open_chapter" in code_shown
    assert 'study = "laptop_store"' not in code_shown
    assert 'study = "other"' not in code_shown


def test_stderr_is_collapsed_and_counted(pages: dict[str, BeautifulSoup]) -> None:
    block = pages["04_funnel"].select_one("details.stderr")
    assert not block.has_attr("open")
    assert block.summary.get_text() == "2 lines of warnings"
    assert "2 lines of warnings" in pages["04_funnel"].select_one(".eyebrow").get_text()


def test_an_interactive_figure_has_its_picture_beside_it_or_is_left_out(pages: dict[str, BeautifulSoup]) -> None:
    body = pages["04_funnel"].select_one(".body")
    assert len(body.find_all("figure")) == 2
    assert [figure.has_attr("data-interactive") for figure in body.find_all("figure")] == [False, True]
    assert body.find_all("figure")[1].img["src"].startswith("data:image/svg+xml")
    assert body.get_text().count("An interactive figure is left out here") == 1


def test_the_data_of_a_figure_is_inert(pages: dict[str, BeautifulSoup]) -> None:
    found = pages["04_funnel"].select("main script")
    assert [script["type"] for script in found] == ["application/json"]
    text = found[0].get_text()
    assert not set("<>&") & set(text)
    assert "href" not in text
    assert "example.org" not in text
    content = json.loads(text)
    assert set(content) == {"data", "layout"}
    assert content["data"][0]["node"]["label"][:2] == ["Cart </script><script>alert(1)</script>", "Order"]


def test_only_a_page_with_an_interactive_figure_has_what_draws_it(run: Path, pages: dict[str, BeautifulSoup]) -> None:
    assert (run / "assets" / "plotly.min.js").read_bytes() == figures.library().read_bytes()
    assert [path.name for path in (run / "assets").iterdir()] == ["plotly.min.js"]
    for name, page in pages.items():
        inside = page.style.get_text() + "".join(script.get_text() for script in page.select("body > script"))
        assert ("plotly" in inside, ".drawn" in inside) == ((True, True) if name == "04_funnel" else (False, False)), (
            name
        )


def test_a_run_without_interactive_figures_has_no_library(tmp_path: Path) -> None:
    picture = {"image/png": "iVBORw0KGgo=", figures.MIME: {"data": [{"type": "bar", "y": [1]}], "layout": {}}}
    drawn = {"image/svg+xml": "<svg/>", figures.MIME: {"data": [{"type": "scattermap"}], "layout": {}}}
    cells = [code("a", shown(picture)), code("b", shown(drawn)), code("c", shown({"image/svg+xml": "<svg/>"}))]
    cells[2].outputs[0].metadata = {"interactive": 0, "image/svg+xml": {"interactive": "0"}}
    (tmp_path / "notebooks").mkdir()
    nbformat.write(new_notebook(cells=cells), tmp_path / "notebooks" / "01_ingest.ipynb")
    (tmp_path / "run.json").write_text(json.dumps({"study": "s", "chapters": [chapter("01_ingest", "passed")]}))
    build(tmp_path)
    page = (tmp_path / "01_ingest.html").read_text(encoding="utf-8")
    assert page.count("<figure") == 3
    assert "application/json" not in page
    assert "plotly" not in page
    assert not (tmp_path / "assets").exists()


def test_labelled_notes_become_a_list(pages: dict[str, BeautifulSoup]) -> None:
    terms = [term.get_text() for term in pages["04_funnel"].select("dl.notes dt")]
    assert terms == ["Answers", "Needs", "Does not say", "How to read this", "What to do", "What would make it wrong"]
    assert len(pages["04_funnel"].select("dl.notes")) == 2
    texts = [text.get_text() for text in pages["04_funnel"].select("dl.notes dd")]
    assert texts[0].startswith("at which step")
    assert texts[0].endswith("each step takes.")
    assert pages["04_funnel"].select_one("dl.notes a")["href"] == "01_ingest.html"


def test_a_table_too_wide_for_paper_is_set_smaller_and_its_words_stay_whole() -> None:
    def made(html: str) -> Tag:
        soup = BeautifulSoup(html, "html.parser")
        markup.polish(soup, Path())
        return soup.table

    narrow = made(present.table(pd.DataFrame({"step": ["Cart"], "n": [12]})))
    assert not narrow.get("style")
    arms = made(present.table(pd.DataFrame({f"arm_{number}": ["treatment"] for number in range(12)})))
    assert "tight" in arms["class"]
    assert 5.5 < float(re.search(r"--fit:([\d.]+)pt", arms["style"])[1]) < 8.5
    names = made(
        present.table(pd.DataFrame({f"c{number}": ["a_name_of_thirty_letters_indeed"] for number in range(9)}))
    )
    assert len(names.select("td.long")) == 9
    assert "crowded" not in names["class"]
    most = made(present.table(pd.DataFrame({f"column_{number}": ["treatment"] for number in range(40)})))
    assert "crowded" in most["class"]


def test_a_figure_says_below_which_width_its_text_is_too_small(pages: dict[str, BeautifulSoup]) -> None:
    image = pages["04_funnel"].find("img")
    assert re.fullmatch(r"--least:\d{3}px", image["style"])
    assert not pages["05_paths"].select_one("main img").get("style"), "no size in points, no claim"


def test_numbers_are_right_aligned_and_carry_their_value(pages: dict[str, BeautifulSoup]) -> None:
    tables = pages["04_funnel"].select(".scroll > table")
    assert [th.get("class", [None])[0] for th in tables[0].select("thead th")] == [None, "num", "num", "num"]
    assert tables[0].select_one("tbody td.num")["data-sort"] == "4210"
    assert "num" not in (tables[1].select_one("td").get("class") or []), "a date is not a number"
    assert all("sortable" in table["class"] for table in tables[:3])


# --- status --------------------------------------------------------------------------------------------------------


def test_status_comes_from_run_json_and_is_said_in_words(pages: dict[str, BeautifulSoup]) -> None:
    rows = pages["index"].select("section[aria-labelledby=chapters] tbody tr")
    said = [row.select_one(".status").get_text(" ", strip=True) for row in rows]
    assert said == ["✓ passed", "✓ passed", "✓ passed", "○ not run", "– skipped", "✕ failed", "✓ passed"]
    assert "passed" in pages["09_summary"].select_one(".eyebrow").get_text(), "an error output does not make a failure"
    marks = [link.get_text(" ", strip=True) for link in pages["index"].select("#nav a")]
    assert marks[0].startswith("◆")
    assert marks[6].startswith("✕")
    assert marks[6].endswith("failed")


def test_a_failed_chapter_shows_error_traceback_and_what_came_before(pages: dict[str, BeautifulSoup]) -> None:
    page = pages["08_experiment"]
    assert XSS in page.select_one(".error-line").get_text()
    trace = page.select_one("pre.traceback").get_text()
    assert trace.startswith("Traceback\n")
    assert "\x1b" not in trace
    text = page.select_one("main").get_text()
    assert "computed before" in text
    assert "papermill banner" not in text
    assert "Not computed: “How large must a test be?”." in " ".join(text.split())
    assert "1 of 7 chapters failed" in pages["index"].select_one(".banner.bad").get_text()


def test_a_chapter_that_failed_without_an_error_output_stops_where_it_stopped(tmp_path: Path) -> None:
    folder = make_run(tmp_path / "run")
    run = json.loads((folder / "run.json").read_text())
    cells = [
        new_markdown_cell("## One"),
        code("a"),
        new_markdown_cell("## Two"),
        code("b", count=None),
        new_markdown_cell("## Three"),
    ]
    nbformat.write(new_notebook(cells=cells), folder / "notebooks" / "08_experiment.ipynb")
    run["chapters"] = [chapter("08_experiment", "failed", error="kernel died (out of memory?)")]
    (folder / "run.json").write_text(json.dumps(run))
    build(folder)
    page = BeautifulSoup((folder / "08_experiment.html").read_text(encoding="utf-8"), "html.parser")
    assert "kernel died" in page.select_one(".banner.bad").get_text()
    assert [tag.get_text() for tag in page.select(".body h2")] == ["One", "Two"]
    assert "Not computed: “Three”." in page.select_one(".stop").get_text()


def test_a_skipped_chapter_says_why_and_what_to_add(pages: dict[str, BeautifulSoup]) -> None:
    page = pages["07_churn"]
    assert "journey.toml has no [churn]" in page.select_one(".banner").get_text()
    assert page.select_one("pre.toml").get_text().startswith("[churn]")
    assert "--only 06_attribution" in pages["06_attribution"].main.get_text()


@pytest.mark.parametrize("name", sorted(advice.SNIPPETS))
def test_the_advice_is_a_valid_configuration(name: str) -> None:
    base = {
        "study": {"title": "t"},
        "sources": [{"name": "web", "path": "raw/*.csv", "time": {"column": "time"}, "event": "event"}],
        "identity": {"identifiers": ["customer"]},
    }
    config.parse(base | tomllib.loads(advice.SNIPPETS[name]))


# --- the index -----------------------------------------------------------------------------------------------------


def test_headline_cards_carry_value_interval_n_and_evidence(pages: dict[str, BeautifulSoup]) -> None:
    cards = [" ".join(card.get_text(" ", strip=True).split()) for card in pages["index"].select(".card")]
    assert len(cards) == 4
    assert cards[0] == ("Go on after the shipping cost 52.7 % 50.4–54.9 % 95 % interval, n = 1,904 observed")
    assert "× 1.84 1.41–2.40 95 % interval, n = 1,312 associated" in cards[1]


def test_actions_come_first_and_the_rest_unfolds(pages: dict[str, BeautifulSoup]) -> None:
    page = pages["index"]
    assert len(page.select(".finding")) == 12
    shown = [item.get_text() for item in page.select(".finding .statement") if not item.find_parent("details")]
    assert len(shown) == 8
    assert shown[1].startswith("A late delivery")
    assert [text[:8] for text in shown[3:5]] == ["Hostile ", "A number"], "one of each chapter after the headlines"
    assert page.select_one("details.more summary").get_text() == "4 more findings"
    folded = page.select("details.more .finding")
    assert folded[0].select_one(".statement").get_text().startswith("Half of the buyers"), "a headline without action"
    assert page.select_one("details.more ol")["start"] == "9"
    without = folded[1]
    assert not without.select_one(".figure")
    assert "None" not in without.get_text()


def test_which_findings_are_shown_at_once() -> None:
    def one(name: str, chapter: str, headline: bool = False, action: str = "Do it.") -> Finding:
        return Finding(id=name, chapter=chapter, statement=name, headline=headline, action=action)

    tests = [one(f"test {number}", "08_experiment") for number in range(9)]
    found = [*tests, one("map", "03_map"), one("plain", "02_stitch", True, ""), one("leak", "04_funnel", True)]
    names = [finding.id for finding in _first(found)]
    assert names == ["leak", "test 0", "map", "test 1", "test 2", "test 3", "test 4", "test 5"]
    assert [finding.id for finding in _first(found[-2:])] == ["leak", "plain"], "nothing short is folded"
    assert _first([]) == []


def test_row_accounting_balances_or_says_so(pages: dict[str, BeautifulSoup]) -> None:
    section = pages["index"].select_one("section[aria-labelledby=rows]")
    assert "1 of 3 files do not balance" in section.get_text()
    balances = [row.find_all("td")[6].get_text(" ", strip=True) for row in section.select("tbody tr")]
    assert balances == ["✓ yes", "✓ yes", "✕ no"]
    assert [cell.get_text(strip=True) for cell in section.select("tfoot td")][:3] == ["11,724", "11,573", "100"]


def test_how_to_repeat_the_run(pages: dict[str, BeautifulSoup]) -> None:
    command = pages["index"].select_one("pre.command").get_text()
    assert command == """python -m journeykit run …/laptop_store --from 04_funnel --set '04_funnel.note=it'"'"'s'"""
    assert "the path of the study’s folder for “…”" in pages["index"].get_text()
    facts = pages["04_funnel"].select_one(".facts").get_text(" ", strip=True)
    assert "Data until 1 Jan 2026, 00:00 UTC" in facts
    assert "04_funnel.note = it's, 04_funnel.within = 14d" in facts
    assert "Commit 0123456789 + changes" in facts


@pytest.mark.parametrize(
    ("only", "start", "flags"),
    [
        ((), "", []),
        ((), "01_ingest", []),
        ((), "funnel", ["--from", "04_funnel"]),
        (("funnel", "summary"), "", ["--only", "04_funnel", "--only", "09_summary"]),
        (("summary",), "", ["--only", "09_summary"]),
    ],
)
def test_a_run_notes_how_it_was_asked_for(only: tuple[str, ...], start: str, flags: list[str]) -> None:
    planned = plan(
        record.ROOT / "data" / "laptop_store", only=only, start=start, overrides={"funnel": {"within": "14d"}}
    )
    facts = record.facts(planned, "r", datetime.now(UTC), "")
    assert facts["asked"] == {"study": "laptop_store", "flags": [*flags, "--set", "04_funnel.within=14d"]}


def test_where_a_study_lies_is_not_noted(tmp_path: Path) -> None:
    assert record._given(tmp_path / "mystudy") == "…/mystudy"
    assert record._given(record.ROOT / "tests" / "studies" / "toy") == "./tests/studies/toy"


def test_a_changed_template_is_not_its_commit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def git(*arguments: str) -> None:
        names = ["-c", "user.name=n", "-c", "user.email=e@example.org", "-c", "commit.gpgsign=false"]
        subprocess.run(["git", "-C", str(tmp_path), *names, *arguments], check=True, capture_output=True)

    monkeypatch.setattr(record, "ROOT", tmp_path)
    assert record.commit() == ""
    (tmp_path / "a").write_text("1")
    git("init")
    git("add", "a")
    git("commit", "-m", "one")
    (tmp_path / "untracked").write_text("2")
    assert re.fullmatch(r"[0-9a-f]{7,}", record.commit())
    (tmp_path / "a").write_text("2")
    assert re.fullmatch(r"[0-9a-f]{7,} \+ changes", record.commit())


def test_a_study_without_events_has_no_last_day(tmp_path: Path) -> None:
    (tmp_path / "run.json").write_text(json.dumps({"study": "s", "as_of": "1970-01-01T00:00:00Z", "chapters": []}))
    page = build(tmp_path).read_text(encoding="utf-8")
    assert "Data until" not in page
    assert "1970" not in page


# --- safety --------------------------------------------------------------------------------------------------------


def test_nothing_is_fetched_from_anywhere(run: Path, pages: dict[str, BeautifulSoup]) -> None:
    for name, page in pages.items():
        for tag in page.find_all(True):
            for key in ("src", "srcset", "data", "poster", "background", "action", "formaction", "xlink:href"):
                value = tag.get(key, "")
                assert not value or value.startswith("data:image/"), (name, tag.name, key)
            if tag.name not in ("a",) and tag.get("href"):
                assert tag["href"].startswith(("data:image/", "#")), (name, tag.name)
        for style in [tag.get_text() for tag in page.find_all("style")] + [
            tag["style"] for tag in page.find_all(style=True)
        ]:
            assert not re.search(r"url\(|@import", style), name
        links = [link["href"] for link in page.find_all("a", href=True) if link["href"].startswith("http")]
        assert links == (["https://example.org/"] if name == "05_paths" else []), name


def test_a_policy_with_a_nonce_guards_each_page(run: Path, pages: dict[str, BeautifulSoup]) -> None:
    nonces = set()
    for name, page in pages.items():
        policy = page.find("meta", attrs={"http-equiv": "Content-Security-Policy"})
        nonce = re.search(r"nonce-([\w-]{20,})'", policy["content"])[1]
        nonces.add(nonce)
        assert policy["content"] == POLICY.format(nonce), name
        assert policy.find_previous("script") is None
        assert policy.find_previous("style") is None
        scripts = [script for script in page.find_all("script") if script.get("type") != "application/json"]
        assert {script.get("nonce") for script in scripts} == {nonce}, name
        assert len(scripts) == (3 if name == "04_funnel" else 2), name
        assert len(page.find_all("meta", attrs={"http-equiv": True})) == 1
    assert len(nonces) == len(pages)


def test_hostile_text_is_text(run: Path, pages: dict[str, BeautifulSoup]) -> None:
    for name, page in pages.items():
        for tag in page.find_all(True):
            assert not [key for key in tag.attrs if key.lower().startswith("on")], (name, tag.name)
            assert not re.match(r"\s*(javascript|vbscript|data:text)", tag.get("href", "") or "", re.IGNORECASE), name
        assert not page.find("img", src="x"), name
        assert not page.select("iframe, object, embed, form, input, base, main link, main meta"), name
        assert not page.select("main script:not([type='application/json'])"), name
    assert XSS in pages["05_paths"].h1.get_text()
    assert XSS in pages["07_churn"].select_one(".banner").get_text()
    assert XSS in pages["08_experiment"].select_one(".traceback").get_text()
    assert XSS in pages["04_funnel"].select("table")[2].get_text()
    for where in (".scope", "table.accounting", ".findings-list"):
        assert XSS in pages["index"].select_one(where).get_text()
    assert not pages["05_paths"].select("main style"), "a style that is not a Styler's own is dropped"


def test_a_chapter_cannot_write_or_read_outside_the_run_folder(tmp_path: Path) -> None:
    folder = make_run(tmp_path / "run")
    run = json.loads((folder / "run.json").read_text())
    nbformat.write(new_notebook(cells=[new_markdown_cell("outside")]), tmp_path / "secret.ipynb")
    run["chapters"] = [chapter("01_ingest", "passed", notebook="../secret.ipynb")]
    (folder / "run.json").write_text(json.dumps(run))
    build(folder)
    page = (folder / "01_ingest.html").read_text(encoding="utf-8")
    assert "outside" not in page
    assert "is not in the run folder" in page
    run["chapters"][0]["name"] = "../evil"
    (folder / "run.json").write_text(json.dumps(run))
    with pytest.raises(JourneyError, match="cannot name a page"):
        build(folder)


# --- the rest ------------------------------------------------------------------------------------------------------


def test_the_same_run_gives_the_same_bytes(run: Path, tmp_path: Path) -> None:
    again = make_run(tmp_path / "again")
    build(again, nonce_seed=1)
    for page in sorted(run.glob("*.html")):
        assert (again / page.name).read_bytes() == page.read_bytes(), page.name
    written = (again / "assets" / figures.LIBRARY).stat().st_mtime_ns
    build(again)
    first = (again / "index.html").read_text()
    build(again)
    assert first != (again / "index.html").read_text(), "the nonce is random by default"
    assert not list(again.rglob("*.part"))
    assert (again / "assets" / figures.LIBRARY).stat().st_mtime_ns == written, "the library is written once"


def test_styles_and_scripts_are_small(pages: dict[str, BeautifulSoup]) -> None:
    page = pages["index"]
    assert len(page.style.get_text().encode()) < 13_312
    assert sum(len(script.get_text().encode()) for script in page.find_all("script")) < 6_144
    page = pages["04_funnel"]
    assert len(page.style.get_text().encode()) < 14_336
    assert sum(len(script.get_text().encode()) for script in page.select("body > script, head > script")) < 9_216


def test_a_bare_run_still_gives_a_page(tmp_path: Path) -> None:
    (tmp_path / "run.json").write_text(json.dumps({"study": "s", "commit": None, "chapters": [{"name": "01_ingest"}]}))
    page = build(tmp_path).read_text(encoding="utf-8")
    assert "This run has no findings." in page
    assert "None" not in page
    assert "not run" in (tmp_path / "01_ingest.html").read_text(encoding="utf-8")


def test_what_is_wrong_with_a_run_folder_is_said(tmp_path: Path) -> None:
    with pytest.raises(JourneyError, match=r"no run\.json"):
        build(tmp_path)
    (tmp_path / "run.json").write_text("{")
    with pytest.raises(JourneyError, match=r"run\.json: not valid JSON"):
        build(tmp_path)
    (tmp_path / "run.json").write_text(json.dumps({"chapters": [{"name": "01_ingest", "seconds": "long"}]}))
    with pytest.raises(JourneyError, match=r"chapters\.0\.seconds"):
        build(tmp_path)


@pytest.mark.parametrize(
    ("text", "value"),
    [("1,234", "1234"), ("10.3 % (9.1–11.6 %)", "10.3"), ("−2.5", "-2.5"), ("EUR 1,235", "1235"), ("× 1.84", "1.84"),
     ("04_funnel", None), ("2025-01-01", None), ("three", None), ("12.2.1", None)],
)  # fmt: skip
def test_what_counts_as_a_number(text: str, value: str | None) -> None:
    assert markup._is_number(text) == (value is not None)
    if value is not None:
        assert markup.NUMBER.match(text)[1].replace(",", "").replace("−", "-") == value


def test_times_are_written_out() -> None:
    assert model.moment("2026-01-01T07:00:00+01:00") == "1 Jan 2026, 06:00 UTC"
