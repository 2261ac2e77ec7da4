"""Where the nodes and bands of a flow chart stand: a column for each position, names never over each other.

Made from a table of `flows.flow`. Every column holds all units. The remainder is at the foot of each column: what is
summed up, "(other)", and with it the links of few people; who has not begun; who has ended. Units without the anchor
have no place in the columns; their number is kept.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import pandas as pd
from matplotlib.font_manager import FontProperties
from matplotlib.textpath import TextPath

from journeykit import present
from journeykit.flows import FEW
from journeykit.path_grid import ENDED, NOT_BEGUN, OTHER, WITHOUT
from journeykit.plots import theme

REMAINDER = {OTHER: "#8a8f98", NOT_BEGUN: "#b4bbc4", ENDED: "#b4bbc4"}  # in this order from above
OWN = [colour for colour in theme.COLOURS if colour not in REMAINDER.values()]
COMMON = "#5c7183"  # of values beyond those that have a colour of their own
ALL, NODE, GAP = 3.4, 0.12, 0.09  # inches: all units together, the width of a node, between two nodes
LINE, SIZE = 0.145, 8.5  # inches from line to line, points of the letters
WIDE, NARROW = 8.2, 1.2  # inches from the first column to the last, and at least from column to column
BESIDE = 0.06  # inches between a node and its name
UNITS = {"session": "sessions", "journey": "journeys", "person": "people"}

Key = tuple[int, str]


@dataclass
class Node:
    """A value at a position: its share of all units, and its place (inches from the left and from the top)."""

    position: int
    value: str
    n: float
    share: float
    colour: str
    label: list[str]
    x: float
    y: float
    height: float

    @property
    def middle(self) -> float:
        return self.y + self.height / 2


@dataclass
class Link:
    """Those who went from one node to another, and where their band leaves and enters (inches from the top).

    The number of people is not known (nan) where links of few people are a part of it.
    """

    start: Key
    end: Key
    n: float
    people_n: float
    leaves: float = 0.0
    enters: float = 0.0


@dataclass
class Flow:
    """What is drawn, the largest links first."""

    nodes: dict[Key, Node]
    links: list[Link]
    columns: dict[int, float]  # position: place from the left
    units_n: int
    per_n: float  # inches
    units: str
    anchor: str
    without_n: float

    @property
    def height(self) -> float:
        return max(node.middle + max(node.height, LINE * len(node.label)) / 2 for node in self.nodes.values())

    @property
    def width(self) -> float:
        return max(self.columns.values()) + NODE

    @property
    def beside(self) -> float:
        """The room that the names of the last column take."""
        last = max(self.columns)
        lines = [line for node in self.nodes.values() if node.position == last for line in node.label]
        return BESIDE + max(width_of(line) for line in lines)

    @property
    def said(self) -> str:
        """What the shares are of, and who is not drawn."""
        text = f"Shares of all {present.count(self.units_n)} {self.units}; the remainder is grey."
        if self.without_n:
            part = f"{present.count(self.without_n)} ({share(self.without_n / self.units_n)})"
            text += f" Not drawn: {part} without {self.anchor or 'it'}."
        return text

    def heading(self, position: int) -> str:
        """How a column is called: by its place in the sequence, or by its distance from the anchor."""
        if not self.anchor:
            return f"Step {position}"
        if position == 0:
            return self.anchor
        return f"{abs(position)} {'before' if position < 0 else 'after'}"


def place(table: pd.DataFrame) -> Flow:
    """Place the nodes of each column, from the left: in an order with few crossings, from the top."""
    units_n = int(table.attrs.get("units_n") or table.loc[table["position"] == table["position"].min(), "n"].sum())
    rows = table.to_dict("records")
    links = _links(row for row in rows if row["source"] != WITHOUT)
    without_n = max((row["n"] for row in rows if row["source"] == WITHOUT), default=0)
    left, arrived = _sums(links, lambda link: link.start), _sums(links, lambda link: link.end)
    sizes = {key: left.get(key) or arrived[key] for key in sorted({*left, *arrived})}
    positions = sorted({position for position, _ in sizes})
    every = table.attrs.get("occurrence") == "any"
    step = max(NARROW, WIDE / max(1, len(positions) - 1))
    flow = Flow(
        nodes={},
        links=links,
        columns={position: k * step for k, position in enumerate(positions)},
        units_n=units_n,
        per_n=ALL / max(1, units_n - without_n),
        units="times" if every else UNITS.get(table.attrs.get("within", ""), "units"),
        anchor=str(table.attrs.get("anchor") or ""),
        without_n=without_n,
    )
    colours = _colours(sizes, table.attrs.get("values", []))
    for position in positions:
        came: dict[Key, list[tuple[float, float]]] = {key: [] for key in sizes if key[0] == position}
        for link in links:
            if link.end in came and link.start in flow.nodes:
                came[link.end].append((flow.nodes[link.start].middle, link.n))
        y = 0.0
        for key in sorted(came, key=lambda key: (_rank(key[1]), _mean(came[key]), -sizes[key], key)):
            part = sizes[key] / units_n
            label = [*wrapped(key[1], step - NODE - 2 * BESIDE), share(part)]
            height = flow.per_n * max(left.get(key, 0.0), arrived.get(key, 0.0))
            slot = max(height, LINE * len(label))
            at = (flow.columns[position], y + (slot - height) / 2, height)
            flow.nodes[key] = Node(position, key[1], sizes[key], part, colours[key[1]], label, *at)
            y += slot + GAP
    _stack(flow)
    return flow


def share(part: float) -> str:
    """Return a share with a decimal only where it says something.

    >>> share(0.341), share(0.034), share(0.0002)
    ('34 %', '3.4 %', '< 0.1 %')
    """
    if 0 < part < 0.0005:
        return "< 0.1 %"
    return present.share(part, 0 if part >= 0.0995 else 1)


def _links(rows: Any) -> list[Link]:
    """The links, the largest first; those of few people join the summed-up rest."""
    found: dict[tuple[Key, Key], Link] = {}
    for row in rows:
        source, target = (OTHER if value == FEW else str(value) for value in (row["source"], row["target"]))
        ends = (int(row["position"]), source), (int(row["position"]) + 1, target)
        link = found.setdefault(ends, Link(*ends, 0.0, 0.0))
        link.n += row["n"]
        link.people_n += row["people_n"]
    return sorted(found.values(), key=lambda link: (-link.n, link.start, link.end))


def _stack(flow: Flow) -> None:
    """Let the bands leave and enter each node in the order of their other ends, one below the other."""
    used: dict[tuple[str, Key], float] = {}

    def below(side: str, key: Key, n: float) -> float:
        y = used.get((side, key), flow.nodes[key].y)
        used[side, key] = y + flow.per_n * n
        return y

    for link in sorted(flow.links, key=lambda link: (flow.nodes[link.end].y, link.end)):
        link.leaves = below("out", link.start, link.n)
    for link in sorted(flow.links, key=lambda link: (flow.nodes[link.start].y, link.start)):
        link.enters = below("in", link.end, link.n)


def _sums(links: list[Link], end: Callable[[Link], Key]) -> dict[Key, float]:
    found: dict[Key, float] = {}
    for link in links:
        found[end(link)] = found.get(end(link), 0.0) + link.n
    return found


def _mean(pairs: list[tuple[float, float]]) -> float:
    return sum(y * n for y, n in pairs) / sum(n for _, n in pairs) if pairs else 0.0


def _rank(value: str) -> int:
    return list(REMAINDER).index(value) + 1 if value in REMAINDER else 0


def _colours(sizes: dict[Key, float], values: list[str]) -> dict[str, str]:
    """A colour for each value, the same in all columns; the most frequent ones have their own."""
    volume: dict[str, float] = {}
    for (_, value), n in sizes.items():
        volume[value] = volume.get(value, 0.0) + n
    known = {value: k for k, value in enumerate(values)}
    named = [value for value in volume if value not in REMAINDER]
    named.sort(key=lambda value: (known.get(value, len(known)), -volume[value], value))
    return dict.fromkeys(named, COMMON) | dict(zip(named, OWN, strict=False)) | REMAINDER


@lru_cache(maxsize=4096)
def width_of(text: str) -> float:
    """Return the width of a line in inches, in the bold of a name."""
    face = FontProperties(family="DejaVu Sans", weight="bold", size=SIZE)
    return float(TextPath((0, 0), text, prop=face).get_extents().width) / 72 if text.strip() else 0.0


def wrapped(text: str, room: float) -> list[str]:
    """Break a name into lines that fit; a word that is too long is broken where it can be, else anywhere.

    >>> wrapped("Product page", 0.6), wrapped("page_view/checkout", 0.8)
    (['Product', 'page'], ['page_view/', 'checkout'])
    """
    lines, line = [], ""
    for piece in re.findall(r"[^\s/_.:-]+[/_.:-]*\s*|\s+|[/_.:-]+\s*", text):
        if line and width_of((line + piece).rstrip()) > room:
            lines.append(line.rstrip())
            line = ""
        line += piece
        while len(line) > 1 and width_of(line.rstrip()) > room:
            fits = next(k for k in range(len(line) - 1, 0, -1) if k == 1 or width_of(line[:k]) <= room)
            lines.append(line[:fits])
            line = line[fits:]
    return [*lines, line.rstrip()] if line.strip() else lines or [text]
