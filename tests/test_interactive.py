"""Interactive figures: stored the same everywhere, inert in pages, searched for identifiers; and journey strips."""

from __future__ import annotations

import json
import math
import re
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import nbformat
import numpy as np
import pandas as pd
import plotly.graph_objects as go
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from matplotlib.colors import to_rgb
from nbformat.v4 import new_markdown_cell, new_notebook

from journeykit import chapter as chapter_module
from journeykit import figures, flows, leaks, search
from journeykit import strips as journey_strips
from journeykit.errors import JourneyError
from journeykit.plots import flow_layout, sankey, strips, theme
from journeykit.report import build
from tests.conftest import make_log
from tests.fake_run import XSS, chapter, code, shown
from tests.test_leaks import MAIL, make_study

# --- as data -------------------------------------------------------------------------------------------------------


def test_a_figure_is_stored_as_plain_rounded_lists_without_template_and_ids() -> None:
    trace = go.Scatter(x=np.array([1.0, 2.0 / 3, np.nan]), y=pd.Series([1, 2, 3]), uid="made-up", name="a")
    figure = go.Figure(trace, {"width": 700, "title": {"text": "t"}}).update_layout(template="plotly_dark")
    content = figures.bundle(figure)
    assert content["data"] == [{"type": "scatter", "name": "a", "x": [1.0, 0.666667, None], "y": [1, 2, 3]}]
    assert content["layout"] == {"title": {"text": "t"}, "meta": {"width": 700}}
    assert "template" in figure.to_plotly_json()["layout"], "the figure itself is as it was"


def test_packed_arrays_times_and_grids_are_unpacked() -> None:
    days = pd.to_datetime(["2025-01-01", "2025-01-02"])
    content = figures.bundle(go.Figure(go.Heatmap(x=days, z=np.array([[0.1, 0.2], [0.3, 1e-12]], dtype="float32"))))
    assert content["data"][0]["z"] == [[0.1, 0.2], [0.3, 1e-12]]
    assert [str(day)[:10] for day in content["data"][0]["x"]] == ["2025-01-01", "2025-01-02"]
    json.dumps(content, allow_nan=False)


def test_what_is_stored_is_what_a_notebook_gives_back() -> None:
    """nbval compares it deeply, and sanitises nothing."""
    table = flow_table()
    stored = [json.dumps(figures.bundle(sankey.interactive(table)), sort_keys=True) for _ in range(2)]
    assert stored[0] == stored[1]
    assert json.loads(stored[0]) == figures.bundle(sankey.interactive(table))
    numbers = [float(text) for text in re.findall(r"-?\d+\.\d+(?:e-?\d+)?", stored[0])]
    assert numbers
    assert all(number == float(f"{number:.6g}") for number in numbers), "what machines differ in is not stored"
    assert "uid" not in stored[0]


HOSTILE = st.text(alphabet=st.sampled_from(list("<>/a &;hrefscipt='\"\\\n\u2028é👍=:")), max_size=60)


@settings(max_examples=300, deadline=None)
@given(HOSTILE)
@example("<<a>a href='https://example.org'>x</a>")
@example("</a\n><A\thref=x")
def test_nothing_of_a_figure_is_markup_or_a_link(text: str) -> None:
    kept = figures.inert({"data": [{"type": "bar", "text": [text], "name": {"deep": text}}]})
    assert kept is not None
    assert not re.search(r"</?a[\s>/]", kept["data"][0]["text"][0], re.IGNORECASE)
    written = figures.embedded(kept)
    assert not set("<>&") & set(written)
    assert json.loads(written) == kept
    if "<" not in text:
        assert kept["data"][0]["text"] == [text], "data is kept as it is"


@pytest.mark.parametrize(
    "content",
    [None, [], {}, {"data": []}, {"data": {}}, {"data": [1]}, {"data": [{}], "layout": []}, "x",
     {"data": [{"type": "scattermap"}]}, {"data": [{"type": "bar"}, {"type": "choropleth"}]}],
)  # fmt: skip
def test_what_is_no_figure_or_loads_something_is_not_drawn(content: Any) -> None:
    assert figures.inert(content) is None


def test_a_figure_keeps_no_pictures_settings_or_frames() -> None:
    given = {"data": [{"y": [math.nan, 1]}], "layout": {"images": [{"source": "https://x"}], "height": 3}, "config": {}}
    assert figures.inert(given) == {"data": [{"y": [None, 1]}], "layout": {"height": 3}}


# --- in a notebook -------------------------------------------------------------------------------------------------


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> list[tuple[dict[str, Any], dict[str, Any]]]:
    found: list[tuple[dict[str, Any], dict[str, Any]]] = []
    monkeypatch.setattr(
        chapter_module, "display", lambda data, metadata=None, raw=False: found.append((data, metadata or {}))
    )
    return found


def open_chapter(folder: Path) -> Any:
    config = SimpleNamespace(study=SimpleNamespace(currency="EUR"), privacy=SimpleNamespace(minimum_cell=1))
    return chapter_module.Chapter("05_paths", SimpleNamespace(config=config), folder)  # type: ignore[arg-type]


def test_show_emits_one_display_with_both_figures(tmp_path: Path, told: list[Any]) -> None:
    opened, table = open_chapter(tmp_path), flow_table()
    opened.show(table, "flow", sankey.static, "Flow.", interactive=sankey.interactive)
    data, metadata = told[0]
    assert set(data) == {figures.MIME, "image/svg+xml", "text/plain"}
    assert metadata == {"image/svg+xml": {"alt": "Flow."}}
    assert data["image/svg+xml"] == theme.svg(sankey.static(table))
    assert data[figures.MIME] == figures.bundle(sankey.interactive(table))
    assert set(told[1][0]) == {"text/html", "text/plain"}, "the table follows"
    assert (tmp_path / "tables" / "05_paths__flow.csv").exists()
    opened.show(table, "flow", sankey.static)
    assert figures.MIME not in told[2][0]


def test_an_interactive_figure_without_a_drawing_is_refused(tmp_path: Path, told: list[Any]) -> None:
    with pytest.raises(JourneyError, match="without plot"):
        open_chapter(tmp_path).show(flow_table(), "flow", interactive=sankey.interactive)
    assert not told


def test_a_table_without_enough_data_shows_its_reason_and_no_figure(tmp_path: Path, told: list[Any]) -> None:
    empty = flows.flow(make_log("u1: a b"), on="event", within="session", min_n=5)
    open_chapter(tmp_path).show(empty, "flow", sankey.static, interactive=sankey.interactive)
    assert [set(data) for data, _ in told] == [{"text/html", "text/plain"}]
    assert "not enough data" in told[0][0]["text/plain"].lower()


# --- in the search for identifiers ---------------------------------------------------------------------------------


@pytest.mark.parametrize("where", ["label", "hover"])
def test_an_identifier_within_a_figure_is_found_in_notebook_and_page(tmp_path: Path, where: str) -> None:
    opened, folder = make_study(tmp_path / "study"), tmp_path / "run"
    texts = {"label": ["x"], "hover": ["x"]} | {where: [f"<b>{MAIL}</b><br>3 people"]}
    trace = {"type": "bar", "y": [1], "text": texts["label"], "customdata": texts["hover"]}
    content = figures.bundle({"data": [trace], "layout": {}})
    cells = [new_markdown_cell("# Who?"), code("x", shown({figures.MIME: content, "image/svg+xml": "<svg/>"}))]
    (folder / "notebooks").mkdir(parents=True)
    nbformat.write(new_notebook(cells=cells), folder / "notebooks" / "01_ingest.ipynb")
    (folder / "run.json").write_text(json.dumps({"study": "s", "chapters": [chapter("01_ingest", "passed")]}))
    build(folder)
    found = leaks.scan(opened, folder)
    assert {(leak.file, leak.identifier) for leak in found} == {
        ("01_ingest.html", "email"),
        ("notebooks/01_ingest.ipynb", "email"),
    }


def test_the_library_is_none_of_the_files_that_are_searched_and_a_changed_one_is(tmp_path: Path) -> None:
    content = figures.library().read_bytes()
    (tmp_path / "assets").mkdir()
    target = tmp_path / "assets" / figures.LIBRARY
    target.write_bytes(content)
    assert list(search.files_of(tmp_path)) == []
    target.write_bytes(content[:-2] + b"x\n")
    assert list(search.files_of(tmp_path)) == [target]
    target.write_bytes(content)
    target = target.rename(target.with_name("other.js"))
    assert list(search.files_of(tmp_path)) == [target]


def test_the_library_is_under_a_free_licence() -> None:
    assert b"Licensed under the MIT license" in figures.library().read_bytes()[:400]


# --- the flow ------------------------------------------------------------------------------------------------------

LINKS = [
    (1, "Ad", "Browse", 60), (1, "Search", "Browse", 20), (1, "Search", "(ended)", 10), (1, "(other)", "(other)", 10),
    (2, "Browse", "Cart", 50), (2, "Browse", "(ended)", 30), (2, "(ended)", "(ended)", 10), (2, "(other)", "Cart", 8),
    (2, "(few)", "(few)", 2),
]  # fmt: skip


def flow_table(links: Any = LINKS, **attrs: Any) -> pd.DataFrame:
    table = pd.DataFrame(links, columns=["position", "source", "target", "n"])
    people = table["n"].where(table["source"] != "(few)") * 0.9
    units_n = int(table.loc[table["position"] == table["position"].min(), "n"].sum())
    table = table.assign(people_n=people, share=table["n"] / units_n)
    table.attrs = {"units_n": units_n, "within": "journey", "anchor": "", **attrs}
    return table


def test_every_column_holds_all_units_and_heights_are_in_proportion() -> None:
    flow = flow_layout.place(flow_table())
    for position in (1, 2, 3):
        assert sum(node.n for node in flow.nodes.values() if node.position == position) == 100
    for node in flow.nodes.values():
        assert node.height >= flow.per_n * node.n - 1e-9
        assert node.share == node.n / 100
    assert flow.nodes[2, "Browse"].height == pytest.approx(8 * flow.nodes[1, "(other)"].height)
    assert flow.nodes[3, "(ended)"].label == ["(ended)", "40 %"], "who has ended stays in all later columns"
    assert flow.nodes[2, "(other)"].n == 10, "links of few people are with the summed-up rest"
    assert (2, "(few)") not in flow.nodes


def test_the_remainder_is_grey_and_at_the_foot() -> None:
    flow = flow_layout.place(flow_table())
    for position in (1, 2, 3):
        column = sorted((n for n in flow.nodes.values() if n.position == position), key=lambda node: node.y)
        ranks = [["(other)", "(not begun)", "(ended)"].index(n.value) + 1 if n.value[0] == "(" else 0 for n in column]
        assert ranks == sorted(ranks)
    for node in flow.nodes.values():
        red, green, blue = to_rgb(node.colour)
        is_grey = max(red, green, blue) - min(red, green, blue) < 0.08
        assert is_grey == (node.value[0] == "("), node.value


def test_bands_fill_their_nodes_without_overlap() -> None:
    flow = flow_layout.place(flow_table())
    for side, end in (("leaves", "start"), ("enters", "end")):
        spans: dict[Any, list[tuple[float, float]]] = {}
        for link in flow.links:
            top = getattr(link, side)
            spans.setdefault(getattr(link, end), []).append((top, top + flow.per_n * link.n))
        for key, found in spans.items():
            node, found = flow.nodes[key], sorted(found)
            assert found[0][0] == pytest.approx(node.y)
            assert found[-1][1] <= node.y + node.height + 1e-9
            assert all(a[1] == pytest.approx(b[0]) for a, b in pairwise(found))


def boxes(flow: flow_layout.Flow) -> dict[int, list[tuple[float, float]]]:
    """Where the names stand, by column: from above to below."""
    found: dict[int, list[tuple[float, float]]] = {}
    for node in flow.nodes.values():
        half = flow_layout.LINE * len(node.label) / 2
        found.setdefault(node.position, []).append((node.middle - half, node.middle + half))
    return found


NAME = st.text(st.sampled_from("ab WMi/_-."), min_size=1, max_size=60).map(str.strip).filter(bool)


@settings(max_examples=25, deadline=None)
@given(st.lists(st.tuples(NAME, NAME, st.integers(1, 500)), min_size=1, max_size=14), st.integers(2, 5))
def test_names_are_whole_and_never_over_each_other(links: list[Any], steps: int) -> None:
    rows = {(p, source, target): n for p in range(1, steps) for source, target, n in links}
    flow = flow_layout.place(flow_table([(*key, n) for key, n in rows.items()]))
    for column in boxes(flow).values():
        column.sort()
        assert all(above[1] <= below[0] + 1e-9 for above, below in pairwise(column))
        assert column[0][0] >= -1e-9
        assert column[-1][1] <= flow.height + 1e-9
    room = sorted(flow.columns.values())[1] - flow_layout.NODE - flow_layout.BESIDE
    for (_, value), node in flow.nodes.items():
        assert re.sub(r"\s", "", "".join(node.label[:-1])) == re.sub(r"\s", "", value), "nothing of a name is cut off"
        assert all(flow_layout.width_of(line) <= room for line in node.label)


def test_the_drawing_has_all_names_and_shares_inside() -> None:
    ax = sankey.static(flow_table())
    svg = theme.svg(ax)
    texts = re.findall(r"<!-- (.*?) -->", svg)
    assert {"Ad", "Search", "Browse", "Cart", "(other)", "(ended)", "60 %", "40 %", "Step 1", "Step 3"} <= set(texts)
    assert "Shares of all 100 journeys; the remainder is grey." in texts
    ax.figure.draw_without_rendering()  # type: ignore[union-attr]
    width, height = ax.figure.get_size_inches()  # type: ignore[union-attr]
    for text in ax.texts:
        box = text.get_window_extent().transformed(ax.figure.dpi_scale_trans.inverted())  # type: ignore[union-attr]
        assert box.x0 >= -0.03, text.get_text()
        assert box.y0 >= -0.03, text.get_text()
        assert box.x1 <= width + 0.03, text.get_text()
        assert box.y1 <= height + 0.03, text.get_text()
    assert len(svg) < 60_000


def test_the_order_of_rows_changes_nothing() -> None:
    table = flow_table()
    shuffled = table.sample(frac=1, random_state=3)
    shuffled.attrs = table.attrs
    assert theme.svg(sankey.static(shuffled)) == theme.svg(sankey.static(table))
    assert figures.bundle(sankey.interactive(shuffled)) == figures.bundle(sankey.interactive(table))


def test_the_interactive_flow_is_the_twin_of_the_drawing() -> None:
    flow, content = flow_layout.place(flow_table()), figures.bundle(sankey.interactive(flow_table()))
    trace, layout = content["data"][0], content["layout"]
    nodes = list(flow.nodes.values())
    assert trace["node"]["label"] == [node.value for node in nodes]
    assert trace["node"]["color"] == [node.colour for node in nodes]
    drawn = {
        (trace["node"]["label"][s], trace["node"]["label"][t], n)
        for s, t, n in zip(trace["link"]["source"], trace["link"]["target"], trace["link"]["value"], strict=True)
    }
    assert drawn == {(link.start[1], link.end[1], link.n) for link in flow.links}
    ys = [y * flow.height for y in trace["node"]["y"]]
    assert ys == pytest.approx([node.middle for node in nodes], abs=1e-4)
    names = [note["text"] for note in layout["annotations"]]
    assert "<b>Browse</b><br>80 %" in names
    assert "Shares of all 100 journeys; the remainder is grey." in names
    # plotly takes the scale at which the fullest column fits with this gap between its nodes: it is the drawing's.
    columns = [[node for node in nodes if node.position == position] for position in flow.columns]
    scales = [
        (flow.height - trace["node"]["pad"] / 96 * (len(column) - 1)) / sum(node.height for node in column)
        for column in columns
    ]
    assert min(scales) == pytest.approx(1, rel=1e-4)


def test_pointing_at_a_part_tells_counts_shares_and_people() -> None:
    link = figures.bundle(sankey.interactive(flow_table()))["data"][0]["link"]
    told = {text.split("</b>")[0].removeprefix("<b>"): text for text in link["customdata"]}
    assert told["Browse → Cart"].split("<br>")[1:] == [
        "62 % of those at Browse",
        "50 journeys, 50 % of all (45 people)",
    ]
    few = [text for text in link["customdata"] if text.startswith("<b>(other) → (other)")]
    assert [text.split("<br>")[2] for text in few] == [
        "10 journeys, 10 % of all (9 people)",
        "2 journeys, 2.0 % of all",
    ]
    people = figures.bundle(sankey.interactive(flow_table(within="person")))["data"][0]["link"]["customdata"]
    assert any("50 people, 50 % of all" in text and "(" not in text.split("<br>")[2] for text in people)


def test_an_anchor_names_the_columns_and_who_lacks_it_is_said() -> None:
    links = [
        (-1, "(not begun)", "Cart", 10), (-1, "Browse", "Cart", 30), (-1, "(without it)", "(without it)", 60),
        (0, "Cart", "Order", 25), (0, "Cart", "(ended)", 15), (0, "(without it)", "(without it)", 60),
    ]  # fmt: skip
    flow = flow_layout.place(flow_table(links, anchor="Cart"))
    assert [flow.heading(position) for position in flow.columns] == ["1 before", "Cart", "1 after"]
    assert all(value != "(without it)" for _, value in flow.nodes)
    assert flow.nodes[0, "Cart"].share == 0.4, "shares are of all units"
    assert flow.nodes[0, "Cart"].height == pytest.approx(flow_layout.ALL)
    assert flow.said.endswith("Not drawn: 60 (60 %) without Cart.")


def test_hostile_names_are_text() -> None:
    table = flow_table([(1, XSS, "<a href='javascript:alert(1)'>x</a>", 7), (1, XSS, "%{label}", 3)])
    text = json.dumps(figures.bundle(sankey.interactive(table)))
    assert "<img" not in text
    assert "<a" not in text
    assert "&lt;img src=x onerror=alert(1)&gt;" in text
    assert "<svg" in theme.svg(sankey.static(table))


@pytest.mark.parametrize("arguments", [{"steps": 4}, {"anchor": "b", "before": 1, "after": 2}, {"min_n": 2}])
def test_the_tables_of_flows_are_drawn(arguments: dict[str, Any]) -> None:
    log = make_log("u1: a b c | u2: a b ; b d | u3: b c a | u4: d | u5: a b c | u6: c d a b")
    table = flows.flow(log, on="event", within="session", **arguments)
    flow = flow_layout.place(table)
    counted = flows.nodes(table)
    drawn = counted[counted["value"] != flow_layout.WITHOUT].replace({"value": {flows.FEW: flow_layout.OTHER}})
    expected = drawn.groupby(["position", "value"])["n"].sum().to_dict()
    assert {key: node.n for key, node in flow.nodes.items()} == expected
    assert isinstance(sankey.interactive(table), go.Figure)
    assert len(theme.svg(sankey.static(table))) > 1000


# --- the strips ----------------------------------------------------------------------------------------------------


def strip_table() -> pd.DataFrame:
    """Three journeys: ten values, two touches in one minute, one longer than what is shown."""
    rows: list[tuple[Any, ...]] = [
        (1, "converted", k + 1, f"v{k}", hours, 10) for k, hours in enumerate([0, 0, 0.5, 1, 5, 24, 30, 100, 800, 900])
    ]
    rows += [(2, "converted", 1, "v0", 0, 2), (2, "converted", 2, "v1", 2, 2)]
    rows += [(3, "open", k + 1, "v0", k / 60, 1040) for k in range(12)]
    return pd.DataFrame(rows, columns=["strip", "outcome", "number", "value", "hours", "touches_n"])


def blocks(ax: Any) -> list[tuple[str, float, float, float, float]]:
    """The blocks of a picture: colour, left, top, right, bottom."""
    found = []
    for patch in ax.patches:
        vertices = patch.get_path().vertices.reshape(-1, 5, 2)
        found += [(patch.get_facecolor(), *box.min(axis=0), *box.max(axis=0)) for box in vertices]
    return found


@pytest.mark.parametrize("draw", [strips.by_order, strips.by_time])
def test_every_touch_is_a_block_in_the_row_of_its_journey(draw: Any) -> None:
    table = strip_table()
    ax = draw(table)
    found = blocks(ax)
    assert len(found) == len(table)
    by_row = pd.Series([((top + bottom) / 2 - strips.TITLE) // 1 for _, _, top, _, bottom in found]).value_counts()
    assert sorted(by_row) == [2, 10, 12]
    texts = re.findall(r"<!-- (.*?) -->", theme.svg(ax))
    assert {"Converted (2 drawn)", "Open (1 drawn)", "v0", "other"} <= set(texts)
    assert "v9" not in texts, "eight values have a colour of their own"


@pytest.mark.parametrize("draw", [strips.by_order, strips.by_time])
def test_the_most_frequent_values_have_colours_and_the_rest_is_grey(draw: Any) -> None:
    colours = {tuple(block[0]) for block in blocks(draw(strip_table()))}
    assert len(colours) == len(strips.COLOURS) + 1
    assert (*to_rgb(strips.GREY), 1.0) in colours
    rare = strip_table().replace({"value": {"v0": journey_strips.RARE}})
    rare.attrs["values"] = ["v1", journey_strips.RARE]
    found = {tuple(block[0]) for block in blocks(draw(rare))}
    assert found == {(*to_rgb(strips.COLOURS[0]), 1.0), (*to_rgb(strips.GREY), 1.0)}


def test_by_order_says_how_many_touches_are_not_shown() -> None:
    texts = [text.get_text() for text in strips.by_order(strip_table()).texts]
    assert "+ 1,028" in texts
    assert sum(text.startswith("+") for text in texts) == 1


def test_by_time_touches_of_one_minute_share_their_place_and_none_is_hidden() -> None:
    found = blocks(strips.by_time(strip_table()))
    first = [block for block in found if block[2] < 3 and block[1] < 0.01]
    tall = [round(bottom - top, 6) for _, _, top, _, bottom in first]
    assert sorted(tall) == [strips.BLOCK / 2, strips.BLOCK / 2, strips.BLOCK], "two of journey 1, one of journey 2"
    assert len({(left, top) for _, left, top, _, _ in found}) == len(found)


def test_the_axis_of_time_has_readable_ticks() -> None:
    ax = strips.by_time(strip_table())
    labels = [label.get_text() for label in ax.get_xticklabels()]
    assert labels == ["start", "1 min", "10 min", "1 h", "6 h", "1 day", "1 week", "30 days"]
    assert [round(10**place - 1) for place in ax.get_xticks()][-3:] == [1440, 10080, 43200]
    assert ax.get_xlim()[1] > math.log10(1 + 60 * 900)


def test_one_short_journey_and_no_outcome_are_drawn() -> None:
    one = pd.DataFrame([(1, "all", 1, "a", 0.0, 1)], columns=list(strip_table().columns))
    one.attrs = {"units_n": 1234, "within": "session", "values": ["a"]}
    for draw in (strips.by_order, strips.by_time):
        ax = draw(one)
        assert len(blocks(ax)) == 1
        assert not [text for text in ax.texts if "all" in text.get_text().lower()]
        assert ax.get_xlabel().endswith("; 1 of 1,234 sessions, by lot")


@pytest.mark.parametrize("draw", [strips.by_order, strips.by_time])
def test_the_tables_of_strips_are_drawn(draw: Any) -> None:
    log = make_log("u1: a b@2h c@30h | u2: a b ; b d | u3: b c a | u4: d")
    journeys = pd.DataFrame({"journey_id": range(1, 6), "outcome": ["converted", "open", "abandoned", "open", "open"]})
    table = journey_strips.strips(log, journeys, strips_n=9)
    ax = draw(table)
    assert len(blocks(ax)) == len(table) == 11
    assert "by lot, about as many of each outcome" in ax.get_xlabel()
    assert theme.svg(ax) == theme.svg(draw(table))


# Machado, Oliveira and Fernandes (2009), full deficiency, on linear RGB.
DEFICIENT = {
    "normal": np.eye(3),
    "protan": np.array([[0.1523, 1.0526, -0.2049], [0.1145, 0.7863, 0.0992], [-0.0039, -0.0481, 1.0520]]),
    "deutan": np.array([[0.3673, 0.8606, -0.2280], [0.2801, 0.6725, 0.0474], [-0.0118, 0.0429, 0.9689]]),
}


def lab(colour: str, matrix: np.ndarray) -> np.ndarray:
    """A colour as somebody sees it, in CIE L*a*b* (D65)."""
    rgb = np.array(to_rgb(colour))
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    linear = np.clip(matrix @ linear, 0, 1)
    to_xyz = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])
    xyz = to_xyz @ linear / np.array([0.9505, 1.0, 1.089])
    f = np.where(xyz > (6 / 29) ** 3, np.cbrt(xyz), xyz / (3 * (6 / 29) ** 2) + 4 / 29)
    return np.array([116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])])


@pytest.mark.parametrize("kind", DEFICIENT)
def test_the_colours_of_strips_are_told_apart_by_all_readers(kind: str) -> None:
    seen = [lab(colour, DEFICIENT[kind]) for colour in [*strips.COLOURS, strips.GREY]]
    distances = [float(np.linalg.norm(a - b)) for k, a in enumerate(seen) for b in seen[:k]]
    assert min(distances) > 10, f"{min(distances):.1f}"
