"""A run folder made by hand: every kind of chapter, and hostile text wherever data can reach a page."""
# ruff: noqa: E501 - rows of data, one a line

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import nbformat
import pandas as pd
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

from journeykit import present
from journeykit.plots import theme

XSS = "<img src=x onerror=alert(1)>"
TITLES = {
    "01_ingest": "Is every row accounted for?",
    "04_funnel": "Where do buyers drop out?",
    "05_paths": f"Which paths do they take? {XSS}",
    "06_attribution": "Which channels earn the orders?",
    "07_churn": "Who cancels the care plan?",
    "08_experiment": "Which test won?",
    "09_summary": "What should be done first?",
}
STEPS = pd.DataFrame(
    {
        "step": ["Product page", "Cart", "Shipping cost", "Checkout", "Order"],
        "reached_n": [4210, 2318, 1904, 1003, 846],
        "continued_share": [0.5506, 0.8214, 0.5268, 0.8435, None],
        "continued_share_low": [0.5355, 0.8053, 0.5043, 0.8196, None],
        "continued_share_high": [0.5656, 0.8365, 0.5492, 0.8649, None],
        "median_seconds": [540.0, 95.0, 310.0, 420.0, None],
    }
)


def chart() -> str:
    ax = theme.axes()
    known = STEPS.dropna()
    ax.barh(known["step"], 100 * known["continued_share"], color=theme.MAIN, height=0.6)
    ax.invert_yaxis()
    ax.set_xlabel("people who continue to the next step (%)")
    return theme.svg(ax)


def shown(data: dict[str, Any], **metadata: Any) -> Any:
    return new_output("display_data", data=data, metadata=metadata)


def code(source: str, *outputs: Any, count: int | None = 1, tags: tuple[str, ...] = ()) -> Any:
    cell = new_code_cell(source, execution_count=count, outputs=list(outputs))
    cell.metadata["tags"] = list(tags)
    return cell


def hostile_figure() -> dict[str, Any]:
    """An interactive figure as a notebook stores it, with what must not act, load or leave the page."""
    end = "</script><script>alert(1)</script>"
    texts = [f"Cart {end}", '<a href="javascript:alert(1)">Order</a>', f"<<a>a href='https://example.org'>{XSS}"]
    return {
        "data": [
            {
                "type": "sankey",
                "node": {"label": texts, "customdata": texts, "hovertemplate": f"%{{label}} {XSS}<extra></extra>"},
                "link": {"source": [0, 0], "target": [1, 2], "value": [3, 1], "label": texts[:2]},
            }
        ],
        "layout": {
            "meta": {"width": 900},
            "height": 300,
            "title": {"text": f"{XSS} <a href='https://example.org/' onclick='alert(1)'>a link</a>"},
            "images": [{"source": "https://example.org/x.png", "xref": "paper", "yref": "paper"}],
            "annotations": [{"text": end, "x": 0, "y": 0, "showarrow": False, "captureevents": True}],
        },
        "config": {"plotlyServerURL": "https://example.org", "showSendToCloud": True},
        "frames": [{"name": end}],
    }


def funnel_cells() -> list[Any]:
    svg = chart()
    wide = pd.DataFrame({f"a rather long column name {i}": [i * 1000.5, -i, XSS] for i in range(12)})
    long = pd.DataFrame(
        {"day": [f"2025-01-{day:02d}" for day in range(1, 31)], "people_n": [day * 37 % 23 for day in range(30)]}
    )
    long["order_share"] = [0.1 + 0.01 * (day % 7) for day in range(30)]
    html = "text/html"
    return [
        new_markdown_cell(f"# {TITLES['04_funnel']}"),
        new_markdown_cell(
            "**Answers:** at which step people leave, how sure that is and how long each step takes.\n\n"
            "**Needs:** `[funnels.<name>]` in journey.toml.\n\n**Does not say:** why they leave."
        ),
        code('study = "laptop_store"', tags=("parameters",)),
        code('study = "other"', tags=("injected-parameters",)),
        code('chapter = open_chapter("04_funnel", study, run_dir)'),
        new_markdown_cell("## Where do people leave?"),
        code(
            "table = funnels.funnel(chapter.touches, steps=steps)  # ordered, within 30 days\nchapter.show(table, 'steps')",
            shown(
                {"image/svg+xml": svg}, **{"image/svg+xml": {"alt": f"Bars of the share that continues, by step {XSS}"}}
            ),
            shown({html: present.table(STEPS) + '<p class="rest">3 more rows in 04_funnel__steps.csv</p>'}),
            shown(
                {
                    "text/markdown": "Of 1,904 people who saw the shipping cost, 52.7 % (50.4–54.9 %) went on to checkout."
                }
            ),
        ),
        new_markdown_cell(
            "**How to read this.** Each bar is the share of the people who reached a step and went on to the next one "
            "within the window. **What to do.** Start at the step with the lowest share that many people reach. "
            "**What would make it wrong.** Events that are tracked twice or not at all; see [the first chapter](01_ingest.ipynb)."
        ),
        new_markdown_cell("## Does it change by day?"),
        code(
            "chapter.show(by_day)",
            shown({html: present.table(long)}),
            new_output("stream", name="stdout", text=f"done {XSS}\n"),
        ),
        new_markdown_cell("## A very wide table"),
        code(
            "wide",
            new_output("stream", name="stderr", text=f"a warning {XSS}\nits second line\n"),
            shown({html: wide.to_html(), "text/plain": "…"}),
            shown({html: wide.head(1).style.set_uuid("x").set_caption(XSS).to_html()}),
        ),
        new_markdown_cell("## An interactive figure"),
        code("fig", shown({"application/vnd.plotly.v1+json": {"data": [], "layout": {"title": XSS}}})),
        code(
            "fig",
            shown(
                {
                    "application/vnd.plotly.v1+json": hostile_figure(),
                    "image/svg+xml": svg,
                    html: "<script>alert(1)</script>",
                }
            ),
        ),
    ]


def hostile_cells() -> list[Any]:
    html = (
        f"<h1>Spoof</h1>{XSS}<script>alert(1)</script><iframe srcdoc='<script>alert(1)</script>'></iframe>"
        "<form action='https://example.org'><input></form><a href='java&#10;script:alert(1)'>a</a>"
        "<meta http-equiv='refresh' content='0;url=https://example.org'><link rel='stylesheet' href='https://example.org/x.css'>"
        "<img src='https://example.org/x.png'><img src='data:image/svg+xml;base64,PHN2ZyB4bWxucz0naHR0cDovL3d3dy53My5vcmcvMjAwMC9zdmcnIHdpZHRoPSc5JyBoZWlnaHQ9JzknLz4='><p style='background:url(https://example.org/x)'>p</p>"
        "<style>body{display:none}</style><svg onload=alert(1)><use href='https://example.org/x.svg#a'/><a xlink:href='javascript:alert(1)'><text>t</text></a></svg>"
        "<base href='https://example.org'><object data='https://example.org'></object><details open ontoggle=alert(1)><summary>s</summary></details>"
        "<a href='https://example.org/'>a plain link</a>"
    )
    return [
        new_markdown_cell(f"# {TITLES['05_paths']}\n\nMarkup in a text cell: {XSS}"),
        new_markdown_cell("## Hostile output"),
        code(
            "display(HTML(x))", shown({"text/html": html}), shown({"text/markdown": f"{XSS} [a](javascript:alert(1))"})
        ),
        code(
            "1/0",
            new_output("error", ename="ZeroDivisionError", evalue=XSS, traceback=[XSS]),
            tags=("raises-exception",),
        ),
        new_markdown_cell("## Hostile output\n\nThe same heading again."),
    ]


def failed_cells() -> list[Any]:
    return [
        code(
            "",
            new_output("display_data", data={"text/html": "<p>papermill banner</p>"}),
            tags=("papermill-error-cell-tag",),
        ),
        new_markdown_cell(f"# {TITLES['08_experiment']}"),
        new_markdown_cell("## Was the split as planned?"),
        code("print('computed before')", new_output("stream", name="stdout", text="computed before\n")),
        new_markdown_cell("## Which variant is better?"),
        code(
            "boom()",
            new_output("error", ename="ValueError", evalue=XSS, traceback=["\x1b[31mValueError\x1b[0m: " + XSS]),
        ),
        new_markdown_cell("## How large must a test be?"),
        code("power()", count=None),
    ]


def chapter(name: str, status: str, **more: Any) -> dict[str, Any]:
    return {
        "name": name,
        "title": TITLES[name],
        "status": status,
        "reason": "",
        "seconds": 3.2,
        "notebook": f"notebooks/{name}.ipynb",
        "error": "",
        "traceback": "",
        "parameters": {"study": "laptop_store"},
        **more,
    }


def finding(number: int, **more: Any) -> dict[str, Any]:
    row = {
        "id": f"f{number:02d}",
        "chapter": "04_funnel",
        "statement": "Half of the people who see the shipping cost leave there: 52.7 % go on to checkout.",
        "value": 0.5268,
        "low": 0.5043,
        "high": 0.5492,
        "n": 1904,
        "unit": "share",
        "better": "up",
        "evidence": "observed",
        "caveat": "People who return after the window count as lost.",
        "action": "Show the shipping cost on the product page and test it.",
        "owner": "Checkout team",
        "table": "04_funnel__steps",
        "headline": False,
        "label": "",
    }
    return {**row, **more}


def make_run(folder: Path) -> Path:
    """Write a run folder with every kind of chapter, and hostile text wherever data can reach a page."""
    (folder / "notebooks").mkdir(parents=True)
    (folder / "tables").mkdir()
    STEPS.to_csv(folder / "tables" / "04_funnel__steps.csv", index=False)
    plain = [
        new_markdown_cell(f"# {TITLES['01_ingest']}"),
        new_markdown_cell("## What was read?"),
        code("show()", shown({"text/markdown": "120,412 rows were read; every one is accounted for."})),
    ]
    # 09 carries an error output although the run says that it passed; 01 lacks outputs.
    odd = [code("x", new_output("error", ename="KeyError", evalue="'x'", traceback=["KeyError: 'x'"]))]
    for name, cells in {
        "01_ingest": plain,
        "04_funnel": funnel_cells(),
        "05_paths": hostile_cells(),
        "08_experiment": failed_cells(),
        "09_summary": odd,
    }.items():
        for index, cell in enumerate(cells, start=1):
            cell["id"] = f"nb-{index:02d}"
        notebook = new_notebook(cells=cells, metadata={"language_info": {"name": "python"}})
        nbformat.write(notebook, folder / "notebooks" / f"{name}.ipynb")
    run = {
        "study": "laptop_store",
        "title": "Laptop Store",
        "question": "Where do laptop buyers drop out, which paths do they take, who cancels the care plan and which test won?",
        "scope": f"People seen between 1 January and 31 December 2025, from the first touch to the last. {XSS}",
        "run": "2026-01-01T06-00-00Z",
        "started_at": "2026-01-01T06:00:00+00:00",
        "finished_at": "2026-01-01T06:00:42+00:00",
        "seconds": 42.1,
        "status": "failed",
        "version": "0.1.0",
        "commit": "0123456789abcdef + changes",
        "python": "3.11.7",
        "engine": "duckdb 2.0.0",
        "config_hash": "a1b2c3d4e5f6",
        "as_of": "2026-01-01T00:00:00Z",
        "currency": "EUR",
        "timezone": "Europe/Berlin",
        "overrides": {"04_funnel": {"note": "it's", "within": "14d"}},
        "asked": {"study": "…/laptop_store", "flags": ["--from", "04_funnel", "--set", "04_funnel.note=it's"]},
        "chapters": [
            chapter("01_ingest", "passed"),
            chapter("04_funnel", "passed", seconds=131.0),
            chapter("05_paths", "passed"),
            chapter("06_attribution", "not run", reason=f"The run was asked for other chapters only. {XSS}", seconds=0),
            chapter("07_churn", "skipped", reason=f"journey.toml has no [churn]. Say which event starts and which ends it. {XSS}"),
            chapter("08_experiment", "failed", error=f"ValueError: {XSS}", traceback=f"\x1b[31mTraceback\x1b[0m\n{XSS}\n" + "line\n" * 80),
            chapter("09_summary", "passed"),
        ],
        "accounting": [
            {"source": "web", "file": "raw/web/ga4_202501.jsonl", "read_n": 9820, "kept_n": 9703, "duplicate_n": 96, "quarantined_n": 21, "left_out_n": 0, "late_n": 14},
            {"source": "shop", "file": f"raw/shop/orders_{XSS}.csv", "read_n": 1204, "kept_n": 1180, "duplicate_n": 4, "quarantined_n": 3, "left_out_n": 17, "late_n": 0},
            {"source": "tickets", "file": "raw/tickets.csv", "read_n": 700, "kept_n": 690, "duplicate_n": 0, "quarantined_n": 0, "left_out_n": 0, "late_n": 2},
        ],
    }  # fmt: skip
    findings = [
        finding(1, headline=True, label="Go on after the shipping cost"),
        finding(2, headline=True, label="Cancel sooner after a late delivery", chapter="07_churn", statement="A late delivery goes with a cancellation hazard 1.84 times as high.", value=1.84, low=1.41, high=2.4, n=1312, unit="ratio", better="down", evidence="associated", owner="Logistics", action="Warn of delays before the promised day."),
        finding(3, headline=True, label="Orders added by early shipping cost", chapter="08_experiment", statement="Showing the shipping cost early raised orders by 3.1 points.", value=3.1, low=0.9, high=5.3, n=2204, unit="points", evidence="experimental", owner="Web team", action="Roll it out."),
        finding(4, headline=True, label="Median time to order, of " + "those_who_order_something_within_the_window_" * 2, statement="Half of the buyers order within 6.4 days of the first product view.", value=6.4, low=5.9, high=7.0, n=846, unit="days", better="down", action="", owner=""),
        finding(5, statement=f"Hostile statement {XSS}", caveat=XSS, action=XSS, owner=XSS, evidence="quasi-experimental", table=""),
        finding(6, chapter="01_ingest", statement="A number without an interval.", value=12345.6, low=None, high=None, unit="EUR", n=None),
        finding(7, statement="A statement without a number.", value=None, low=None, high=None, n=12, caveat="", action=""),
        *[finding(number, evidence="observed") for number in range(8, 13)],
    ]  # fmt: skip
    (folder / "run.json").write_text(json.dumps(run), encoding="utf-8")
    (folder / "findings.json").write_text(json.dumps({"findings": findings}), encoding="utf-8")
    return folder
