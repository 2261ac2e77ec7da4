"""The chapters on disk: which notebooks there are, what they declare as parameters, and overrides of those.

Notebooks are read as JSON and their parameters cell as Python syntax, which takes milliseconds; a test holds the result
to what papermill's own inspector says.
"""

from __future__ import annotations

import ast
import json
import math
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from journeykit.errors import JourneyError, nearest

ROOT = Path(__file__).resolve().parents[2]
GIVEN = ("study", "run_dir")  # parameters that every chapter declares and that the runner fills in
TYPES = ("str", "int", "float", "bool")


@dataclass(frozen=True)
class Parameter:
    """A declared parameter: its type ("str", "int", "float" or "bool") and its default."""

    type: str
    default: object


@dataclass(frozen=True)
class Notebook:
    """A chapter's notebook: `name` is "04_funnel", `short` is "funnel", `title` its first heading."""

    path: Path
    title: str
    parameters: dict[str, Parameter] = field(default_factory=dict)

    @property
    def name(self) -> str:
        return self.path.stem

    @property
    def short(self) -> str:
        return self.name.split("_", 1)[1]


def folder() -> Path:
    """Return the folder of the chapters: `notebooks/`, or what `JOURNEYKIT_NOTEBOOKS` says."""
    return Path(os.environ.get("JOURNEYKIT_NOTEBOOKS") or ROOT / "notebooks").resolve()


def discover(where: Path | None = None) -> list[Notebook]:
    """Return the chapters (`NN_name.ipynb`) of a folder in order.

    Raises:
        JourneyError: there is none, or one cannot be read or does not declare `study` and `run_dir`.
    """
    where = where or folder()
    found = [read(path) for path in sorted(where.glob("[0-9][0-9]_*.ipynb"))]
    if not found:
        raise JourneyError(f"{where.name}/: no chapter found. A chapter is a notebook called like 04_funnel.ipynb.")
    for notebook in found:
        missing = [name for name in GIVEN if name not in notebook.parameters]
        if missing:
            raise JourneyError(
                f"{notebook.name}: its parameters cell does not declare {' and '.join(missing)}. "
                f"Add them to the cell tagged 'parameters', as the other chapters have them."
            )
    return found


def read(path: Path) -> Notebook:
    """Read a notebook's title and declared parameters."""
    try:
        cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise JourneyError(f"{path.name}: not a readable notebook ({error}). Restore it from git.") from None
    title = ""
    parameters: dict[str, Parameter] = {}
    for cell in cells:
        source = "".join(cell["source"])
        if cell["cell_type"] == "markdown" and not title:
            title = next((line[2:].strip() for line in source.splitlines() if line.startswith("# ")), "")
        if "parameters" in cell["metadata"].get("tags", []) and not parameters:
            parameters = declared(source, path.stem)
    return Notebook(path, title or path.stem, parameters)


def declared(source: str, where: str = "parameters") -> dict[str, Parameter]:
    """Return the parameters that a cell of plain annotated assignments declares.

    >>> declared('within: str = "7d"  # time allowed')
    {'within': Parameter(type='str', default='7d')}

    Raises:
        JourneyError: a line is something else, or its type is not str, int, float or bool.
    """
    try:
        lines = ast.parse(source).body
    except SyntaxError as error:
        raise JourneyError(f"{where}: line {error.lineno} of the parameters cell is not Python.") from None
    found: dict[str, Parameter] = {}
    for line in lines:
        try:
            if not isinstance(line, ast.AnnAssign) or not isinstance(line.target, ast.Name) or line.value is None:
                raise ValueError("not an annotated assignment")
            kind, default = ast.unparse(line.annotation), ast.literal_eval(line.value)
            if kind not in TYPES:
                raise ValueError(f"type {kind}")
        except ValueError as error:
            raise JourneyError(
                f"{where}: line {line.lineno} of the parameters cell ({error}) is not allowed. "
                f"Write `name: type = default  # help` with a type of {', '.join(TYPES)} and a literal default."
            ) from None
        found[line.target.id] = Parameter(kind, default)
    return found


def find(notebooks: Sequence[Notebook], name: str, where: str) -> Notebook:
    """Return the chapter of a name: "04_funnel", "funnel" or "04".

    Raises:
        JourneyError: no chapter is called so.
    """
    for notebook in notebooks:
        if name in (notebook.name, notebook.short, notebook.name[:2], notebook.path.name):
            return notebook
    known = [name for notebook in notebooks for name in (notebook.name, notebook.short)]
    raise JourneyError(
        f"{where}: there is no chapter {name!r}.{nearest(name, known)} "
        f"Chapters: {', '.join(notebook.name for notebook in notebooks)}."
    )


def parse_settings(settings: Iterable[str]) -> dict[str, dict[str, object]]:
    """Return the overrides that `--set` options give.

    >>> parse_settings(["funnel.within=14d"])
    {'funnel': {'within': '14d'}}
    """
    found: dict[str, dict[str, object]] = {}
    for setting in settings:
        target, equals, value = setting.partition("=")
        chapter, dot, key = target.strip().rpartition(".")
        if not (equals and dot and chapter and key):
            raise JourneyError(f"--set: found {setting!r}. Write chapter.parameter=value, such as funnel.within=14d.")
        found.setdefault(chapter, {})[key] = value
    return found


def check_overrides(
    notebooks: Sequence[Notebook], *layers: tuple[str, Mapping[str, Mapping[str, object]]]
) -> dict[str, dict[str, object]]:
    """Check overrides against what the notebooks declare, and return them by full name with the declared types.

    Args:
        layers: (where the overrides stand, chapter → parameter → value); later ones win.

    Raises:
        JourneyError: a chapter or parameter is unknown, or a value does not fit its type; all problems in one error.
    """
    problems: list[str] = []
    merged: dict[str, dict[str, object]] = {}
    for where, chapters in layers:
        for chapter, values in chapters.items():
            try:
                notebook = find(notebooks, chapter, where)
            except JourneyError as error:
                problems.append(str(error))
                continue
            for key, value in values.items():
                try:
                    merged.setdefault(notebook.name, {})[key] = _checked(
                        notebook, key, value, f"{where} {chapter}.{key}"
                    )
                except JourneyError as error:
                    problems.append(str(error))
    if problems:
        raise JourneyError("\n".join(dict.fromkeys(problems)))
    return merged


def _checked(notebook: Notebook, key: str, value: object, where: str) -> object:
    if key in GIVEN:
        raise JourneyError(f"{where}: the runner sets {key!r} itself. Name the study as the command's argument.")
    allowed = [name for name in notebook.parameters if name not in GIVEN]
    if key not in allowed:
        raise JourneyError(
            f"{where}: {notebook.name} has no parameter {key!r}.{nearest(key, allowed)} "
            f"It has: {', '.join(allowed) or 'none to set'}."
        )
    return coerce(value, notebook.parameters[key].type, where)


def coerce(value: object, kind: str, where: str) -> object:
    """Return a value from TOML or the command line as the declared type of a parameter.

    Text becomes a number or a truth value where it is one; nothing is rounded, and a truth value is not a number.

    >>> coerce("1_000", "int", "x"), coerce(2, "float", "x"), coerce("no", "bool", "x")
    (1000, 2.0, False)
    """
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    try:
        if kind == "bool" and isinstance(value, bool):
            return value
        if kind == "bool" and isinstance(value, str):
            return {
                "true": True,
                "yes": True,
                "on": True,
                "1": True,
                "false": False,
                "no": False,
                "off": False,
                "0": False,
            }[value.strip().lower()]
        if kind == "str" and (isinstance(value, str) or is_number):
            return str(value)
        if kind == "int" and (isinstance(value, str) or (is_number and value == int(value))):  # type: ignore[call-overload]
            return int(value)  # type: ignore[call-overload]
        if kind == "float" and (isinstance(value, str) or is_number) and math.isfinite(float(value)):  # type: ignore[arg-type]
            return float(value)  # type: ignore[arg-type]
    except (ValueError, KeyError, OverflowError):
        pass
    allowed = {"bool": "true or false", "int": "a whole number", "float": "a number", "str": "text"}[kind]
    raise JourneyError(f"{where}: found {value!r}. Allowed: {allowed}.")
