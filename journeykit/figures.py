"""Interactive figures as data: the same bytes on every run and machine, and nothing in a page that acts or loads."""

from __future__ import annotations

import base64
import json
import math
import re
from collections.abc import Mapping
from datetime import date
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

MIME = "application/vnd.plotly.v1+json"  # JupyterLab draws it offline, with an extension that plotly brings
CONFIG = {"displayModeBar": False, "responsive": True}
DIGITS = 6  # significant ones of a number; what machines differ in comes later
ANCHOR = re.compile(r"</?a\b[^>]*>?", re.IGNORECASE)
FETCHING = re.compile(r"map|geo|choropleth", re.IGNORECASE)  # kinds of trace that load tiles or outlines
LIBRARY = "plotly.min.js"


def bundle(figure: Any) -> dict[str, Any]:
    """Return a plotly figure as what a notebook stores under `MIME`: plain lists, rounded, without the template.

    Its width becomes `meta.width`, the most that it needs: it fits the place where it is shown.

    Args:
        figure: a plotly Figure, or a mapping with `data` and `layout`.

    >>> bundle({"data": [{"type": "bar", "y": [1 / 3], "uid": "x"}], "layout": {"template": "plotly"}})
    {'data': [{'type': 'bar', 'y': [0.333333]}], 'layout': {}, 'config': {'displayModeBar': False, 'responsive': True}}
    """
    content = figure.to_plotly_json() if hasattr(figure, "to_plotly_json") else figure
    traces = [{key: value for key, value in trace.items() if key != "uid"} for trace in content["data"]]
    layout = {key: value for key, value in content.get("layout", {}).items() if key != "template"}
    if "width" in layout:
        layout["meta"] = {"width": layout.pop("width")}
    return {"data": _plain(traces), "layout": _plain(layout), "config": dict(CONFIG)}


def inert(content: Any) -> dict[str, Any] | None:
    """Return of a stored figure what a page may draw, or None where there is nothing that it may.

    Left out are links in its texts, pictures, and settings of its own; a map is not drawn, because it loads tiles.
    """
    if not isinstance(content, Mapping) or not isinstance(content.get("layout", {}), Mapping):
        return None
    traces = content.get("data")
    if not isinstance(traces, list) or not traces or not all(isinstance(trace, Mapping) for trace in traces):
        return None
    if any(FETCHING.search(str(trace.get("type", ""))) for trace in traces):
        return None
    kept = {"data": traces, "layout": {k: v for k, v in content.get("layout", {}).items() if k != "images"}}
    cleaned: dict[str, Any] = _unlinked(_plain(kept))
    return cleaned


def embedded(content: Mapping[str, Any]) -> str:
    """Return a figure as JSON that can stand in a script element: no character of it is markup.

    >>> embedded({"text": "</script>"})
    '{"text":"\\\\u003c/script\\\\u003e"}'
    """
    text = json.dumps(content, ensure_ascii=False, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return text.replace("&", "\\u0026").replace("<", "\\u003c").replace(">", "\\u003e")


def library() -> Path:
    """Return the script that draws the figures, as the installed plotly has it."""
    found = find_spec("plotly")
    if found is None or found.origin is None:
        raise ModuleNotFoundError("plotly is not installed. Install the packages of requirements.txt.")
    return Path(found.origin).parent / "package_data" / LIBRARY


def is_library(path: Path) -> bool:
    """Tell whether a file is the script of the installed plotly, byte for byte: it holds nothing of a study."""
    if path.name != LIBRARY or not library().is_file() or path.stat().st_size != library().stat().st_size:
        return False
    return path.read_bytes() == library().read_bytes()


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        if set(value) >= {"dtype", "bdata"}:  # plotly packs arrays of numbers
            packed = np.frombuffer(base64.b64decode(value["bdata"]), dtype=value["dtype"])
            shape = [int(side) for side in str(value.get("shape", packed.size)).split(",")]
            return _plain(packed.reshape(shape))
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, np.ndarray | np.generic):
        return _plain((value.astype("datetime64[us]") if value.dtype.kind == "M" else value).tolist())
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, float):
        return float(f"{value:.{DIGITS}g}") if math.isfinite(value) else None
    return value.isoformat() if isinstance(value, date) else value


def _unlinked(value: Any) -> Any:
    if isinstance(value, str):
        while ANCHOR.search(value):  # what is left may be an anchor again
            value = ANCHOR.sub("", value)
        return value
    if isinstance(value, Mapping):
        return {key: _unlinked(item) for key, item in value.items()}
    return [_unlinked(item) for item in value] if isinstance(value, list) else value
