"""The flow from step to step: a drawing for paper and code hosts, and its interactive twin.

Both take a table of `flows.flow` and show it in the same layout; see `plots.flow_layout`.
"""

from __future__ import annotations

import html
import textwrap
from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.collections import PathCollection
from matplotlib.colors import to_rgb
from matplotlib.patches import Rectangle
from matplotlib.path import Path

from journeykit import present
from journeykit.path_grid import ENDED
from journeykit.plots import flow_layout, theme
from journeykit.plots.flow_layout import BESIDE, LINE, NODE, REMAINDER, SIZE, Flow, Link, Node

HEAD, FOOT = 0.3, 0.3  # inches above the columns for their headings, and below for what the shares are of
FADED, PALE, CLEAR = 0.36, 0.2, 0.75  # opacity of bands, of those of the remainder, and of one that is pointed at
GROUND = 0.5  # opacity of the white behind a name
PIXELS = 96  # a CSS inch
FONT = 'system-ui, -apple-system, "Segoe UI", Roboto, "Liberation Sans", Arial, sans-serif'


def static(table: pd.DataFrame) -> Axes:
    """Draw the flow with smooth bands; each node has its name and its share of all."""
    flow = flow_layout.place(table)
    width, height = flow.width + flow.beside + 0.05, flow.height + FOOT
    ax = theme.axes(width, HEAD + height)
    ax.set_position((0, 0, 1, 1))
    ax.set(xlim=(0, width), ylim=(height, -HEAD))
    ax.set_axis_off()
    colours = [(*to_rgb(colour), opacity) for colour, opacity in (_paint(flow, link) for link in flow.links)]
    bands = [_band(flow, link) for link in flow.links]
    ax.add_collection(PathCollection(bands, facecolors=colours, edgecolors="none", zorder=1))
    ground = {"facecolor": "#ffffff", "alpha": GROUND, "linewidth": 0, "pad": 1}
    text: dict[str, Any] = {"fontsize": SIZE, "va": "center"}
    for node in flow.nodes.values():
        ax.add_patch(Rectangle((node.x, node.y), NODE, node.height, facecolor=node.colour, linewidth=0, zorder=2))
        top = node.middle - LINE * (len(node.label) - 1) / 2
        for k, line in enumerate(node.label):
            weight = "normal" if k == len(node.label) - 1 else "bold"
            at = (node.x + NODE + BESIDE, top + LINE * k)
            ax.text(*at, line, color=theme.INK, fontweight=weight, bbox=ground, zorder=3, **text)
    for position, x in flow.columns.items():
        ax.text(x, 0.1 - HEAD, flow.heading(position), color=theme.MUTED, **text)
    ax.text(0, height - 0.1, flow.said, color=theme.MUTED, **text)
    return ax


def interactive(table: pd.DataFrame) -> Any:
    """Return the same flow as a plotly Figure: pointing at a band or a node tells its numbers."""
    import plotly.graph_objects as go

    flow = flow_layout.place(table)
    nodes, number = list(flow.nodes.values()), {key: k for k, key in enumerate(flow.nodes)}
    wide, tall = flow.width, flow.height
    links = sorted(flow.links, key=lambda link: (link.start[0], flow.nodes[link.start].y, flow.nodes[link.end].y))
    paints = [_paint(flow, link) for link in links]
    trace = go.Sankey(
        arrangement="fixed",
        textfont={"color": "rgba(0,0,0,0)", "size": 1, "shadow": "none"},  # _note draws the names
        node={
            "align": "left",  # else all who ended are taken for a part of the last column
            "label": [_escaped(node.value) for node in nodes],
            "x": [(node.x + NODE / 2) / wide for node in nodes],
            "y": [node.middle / tall for node in nodes],
            "color": [node.colour for node in nodes],
            "customdata": [_told(flow, node) for node in nodes],
            "hovertemplate": "%{customdata}<extra></extra>",
            "line": {"width": 0},
            "pad": PIXELS * _gap(flow),
            "thickness": PIXELS * NODE,
        },
        link={
            "sort": "input",  # in this order they leave and enter as in the drawing
            "source": [number[link.start] for link in links],
            "target": [number[link.end] for link in links],
            "value": [link.n for link in links],
            "color": [_rgba(*paint) for paint in paints],
            "hovercolor": [_rgba(colour, CLEAR) for colour, _ in paints],
            "customdata": [_told_link(flow, link) for link in links],
            "hovertemplate": "%{customdata}<extra></extra>",
        },
    )
    muted = {"font": {"color": theme.MUTED}}
    notes = [_note(node, wide, tall) for node in nodes]
    notes += [
        {"text": _escaped(flow.heading(position)), "x": x / wide, "y": 1, "yshift": PIXELS * (HEAD - 0.1)} | muted
        for position, x in flow.columns.items()
    ]
    notes.append({"text": _escaped(flow.said), "x": 0, "y": 0, "yshift": -PIXELS * (FOOT - 0.1)} | muted)
    beside = {"xref": "paper", "yref": "paper", "xanchor": "left", "yanchor": "middle", "align": "left"}
    margin = {"l": 2, "r": round(PIXELS * flow.beside) + 12, "t": round(PIXELS * HEAD), "b": round(PIXELS * FOOT)}
    ground = {"align": "left", "bgcolor": "#ffffff", "bordercolor": theme.GRID}
    return go.Figure(
        trace,
        {
            "annotations": [beside | {"showarrow": False} | note for note in notes],
            "font": {"family": FONT, "size": SIZE * PIXELS / 72, "color": theme.INK},
            "height": round(PIXELS * tall) + margin["t"] + margin["b"],
            "width": round(PIXELS * wide) + margin["l"] + margin["r"],
            "hoverlabel": ground | {"font": {"family": FONT, "color": theme.INK, "size": 13}},
            "margin": margin,
            "paper_bgcolor": "#ffffff",
        },
    )


def _paint(flow: Flow, link: Link) -> tuple[str, float]:
    """A band has the colour of what it leaves; one of the remainder, and one of those who end there, is paler."""
    colour = REMAINDER[ENDED] if link.end[1] == ENDED else flow.nodes[link.start].colour
    return colour, PALE if colour in REMAINDER.values() else FADED


def _band(flow: Flow, link: Link) -> Path:
    """The outline of a link: two curves that leave and arrive level."""
    x, to_x = flow.nodes[link.start].x + NODE, flow.nodes[link.end].x
    middle, thick = (x + to_x) / 2, flow.per_n * link.n
    y, to_y = link.leaves, link.enters
    upper = [(x, y), (middle, y), (middle, to_y), (to_x, to_y)]
    lower = [(to_x, to_y + thick), (middle, to_y + thick), (middle, y + thick), (x, y + thick)]
    return Path([*upper, *lower], [Path.MOVETO, *[Path.CURVE4] * 3, Path.LINETO, *[Path.CURVE4] * 3])


def _gap(flow: Flow) -> float:
    """The gap between nodes (inches) at which plotly, which fits the fullest column, draws at the layout's scale."""
    columns = [[node.height for node in flow.nodes.values() if node.position == position] for position in flow.columns]
    return min(((flow.height - sum(column)) / (len(column) - 1) for column in columns if len(column) > 1), default=0.0)


def _note(node: Node, wide: float, tall: float) -> dict[str, Any]:
    """A node's name beside it, in lines as in the drawing; plotly's own would lie over the bands at the right end."""
    *name, part = (_escaped(line) for line in node.label)
    return {
        "text": "<br>".join([f"<b>{line}</b>" for line in name] + [part]),
        "x": (node.x + NODE) / wide,
        "y": 1 - node.middle / tall,
        "xshift": PIXELS * BESIDE - 2,
        "bgcolor": f"rgba(255,255,255,{GROUND})",
        "borderpad": 1,
    }


def _told(flow: Flow, node: Node) -> str:
    where = _escaped(flow.heading(node.position))
    counted = f"{present.count(node.n)} {flow.units}, {_share(node.share)} of all"
    return f"<b>{_broken(node.value)}</b><br>{where}<br>{counted}"


def _told_link(flow: Flow, link: Link) -> str:
    start = flow.nodes[link.start]
    counted = f"{present.count(link.n)} {flow.units}, {_share(link.n / flow.units_n)} of all"
    if flow.units != "people" and not present.missing(link.people_n):
        counted += f" ({present.count(link.people_n)} people)"
    part = f"{_share(link.n / start.n)} of those at {_broken(start.value)}"
    return f"<b>{_broken(f'{start.value} → {link.end[1]}')}</b><br>{part}<br>{counted}"


def _share(part: float) -> str:
    return _escaped(flow_layout.share(part))


def _broken(text: str) -> str:
    return "<br>".join(_escaped(line) for line in textwrap.wrap(text, 60) or [text])


def _escaped(text: str) -> str:
    """Data is text: plotly reads some markup in labels."""
    return html.escape(text, quote=False)


def _rgba(colour: str, opacity: float) -> str:
    red, green, blue = (round(255 * part) for part in to_rgb(colour))
    return f"rgba({red},{green},{blue},{opacity})"
