"""The look of every figure: one palette, no frame, transparent ground, the same bytes on every run."""

from __future__ import annotations

import io
import re
from typing import Any, cast

import matplotlib as mpl
import numpy as np
from cycler import cycler
from matplotlib.axes import Axes
from matplotlib.figure import Figure

# Paul Tol's "muted" order, adapted: told apart by readers with colour vision deficiency, and in grey print.
COLOURS = ["#2f6f9f", "#cc6677", "#3f9b83", "#c59a3d", "#7d5ba6", "#8a8f98", "#b0563f", "#4f86c6"]
MAIN, CONTRAST, GOOD, WARN = COLOURS[0], COLOURS[1], COLOURS[2], COLOURS[3]
INK, MUTED, GRID = "#23303d", "#66727f", "#d9dee3"
SEQUENTIAL = mpl.colors.LinearSegmentedColormap.from_list("journey_sequential", ["#f3f6f9", "#8fb3d1", "#1f4e79"])
DIVERGING = mpl.colors.LinearSegmentedColormap.from_list("journey_diverging", ["#b2533e", "#e6d6b4", "#2c7a6b"])

_LONG = re.compile(r"scale\([^)]*\)|(?<![\w.#-])-?\d+\.\d{3,}")
_PATH = re.compile(r' d="([^"]*)"')
_AROUND = re.compile(r" ?([A-Za-z]) ?")
_GLYPH = re.compile(r'(<use xlink:href="#[^"]+") transform="translate\((-?[\d.]+) 0\)"/>')
_BETWEEN = re.compile(r">\s+<")

STYLE: Any = {
    "font.family": "DejaVu Sans",
    "font.size": 9.5,
    "text.color": INK,
    "axes.labelcolor": INK,
    "axes.edgecolor": MUTED,
    "axes.linewidth": 0.8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": False,
    "axes.axisbelow": True,
    "axes.prop_cycle": cycler(color=COLOURS),
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "grid.color": GRID,
    "grid.linewidth": 0.7,
    "legend.frameon": False,
    "figure.facecolor": "none",
    "axes.facecolor": "none",
    "savefig.facecolor": "none",
    "savefig.bbox": "tight",
    "savefig.pad_inches": 0.08,
    "svg.hashsalt": "journeykit",
    "svg.fonttype": "path",
}


def axes(width: float = 7.2, height: float = 3.6, columns: int = 1) -> Axes:
    """Return the Axes of a new figure in the house style (sizes in inches); several columns share the figure.

    The figure is not registered with pyplot, so that nothing is shown or kept by accident.
    """
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(width, height))
        parts = figure.subplots(1, columns)
    return parts if columns == 1 else parts[0]


def panels(rows: int, columns: int = 1, *, width: float = 7.2, height: float = 2.9) -> list[Axes]:
    """Return the Axes of a new figure with rows of panels in the house style, row by row; `height` is that of a row."""
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(width, height * max(rows, 1)))
        parts = list(figure.subplots(max(rows, 1), columns, squeeze=False).flat)
    figure.subplots_adjust(hspace=0.55, wspace=0.22)
    return parts


def reach(value: Any, low: Any, high: Any) -> np.ndarray:
    """Return how far an interval reaches to either side of its estimate, as error bars want it.

    Rounding may put a bound of 0 or 1 on the wrong side of an estimate that equals it; a missing bound has no reach.
    """
    estimate = np.asarray(value, dtype=float)
    sides = [estimate - np.asarray(low, dtype=float), np.asarray(high, dtype=float) - estimate]
    return np.nan_to_num(np.maximum(np.vstack(sides), 0))


def svg(ax: Axes) -> str:
    """Return the figure of an Axes as SVG text, the same bytes on every run."""
    buffer = io.StringIO()
    with mpl.rc_context(STYLE):
        cast(Figure, ax.figure).savefig(buffer, format="svg", metadata={"Date": None, "Creator": None})
    return compact(buffer.getvalue())


def compact(drawing: str) -> str:
    """Return an SVG without what nobody sees: digits beyond a hundredth of a point, blanks, long names of glyphs.

    Notebooks hold their figures, and code hosts show no large notebook.

    >>> compact('<g transform="scale(0.095 -0.095)"> <use xlink:href="#DejaVuSans-31" transform="translate(1.234 0)"/>')
    '<g transform="scale(0.095 -0.095)"><use xlink:href="#g31" x="1.23"/>'
    >>> compact('<path d="M 10.119 2 \\nL 3 4 \\n"/>')
    '<path d="M10.12 2L3 4"/>'
    """
    text = _LONG.sub(_hundredths, drawing)
    text = _PATH.sub(lambda found: f' d="{_AROUND.sub(_letter, " ".join(found[1].split()))}"', text)
    text = _GLYPH.sub(r'\1 x="\2"/>', _BETWEEN.sub("><", text))
    return text.replace("DejaVuSans-Bold-", "b").replace("DejaVuSans-", "g")


def _hundredths(found: re.Match[str]) -> str:
    return found[0] if found[0].startswith("scale") else f"{float(found[0]):.2f}".rstrip("0").rstrip(".")


def _letter(found: re.Match[str]) -> str:
    return found[1]
