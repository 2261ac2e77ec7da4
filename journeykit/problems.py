"""Problems of a configuration in the reader's words: where · what was found · what is allowed · what to do."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel

from journeykit.errors import nearest
from journeykit.problem_forms import FORMS, form


def say(item: Any, raw: dict[str, Any], model: type[BaseModel]) -> list[str]:
    """Say one of pydantic's errors as where · what was found · what is allowed · what to do."""
    location = _where(item["loc"], raw)
    kind, found = item["type"], item.get("input")
    if kind == "extra_forbidden":
        allowed = _allowed(item["loc"], model)
        return [f"{location}: unknown key.{nearest(str(item['loc'][-1]), allowed)} Allowed: {', '.join(allowed)}."]
    if kind == "missing":
        return [f"{location}: missing. This key is required; add it."]
    if kind == "value_error":
        lines = [_ended(line) for line in str(item["ctx"]["error"]).split("\n")]
        return [f"{location}: {line}" if location else line for line in lines]
    if kind == "literal_error":
        return [f"{location}: found {found!r}. Allowed: {item['ctx']['expected']}."]
    if kind in FORMS:
        return [f"{location}: found {_brief(found)}. {form(item['loc'], found, model)}"]
    return [f"{location}: found {found!r}. {_ended(item['msg'])}"]


def _ended(sentence: str) -> str:
    return sentence if sentence.endswith((".", "?")) else f"{sentence}."


def _brief(found: Any) -> str:
    return "a table" if isinstance(found, dict) else "a list" if isinstance(found, list) else repr(found)


def _where(loc: tuple[int | str, ...], raw: Any) -> str:
    """Name a place as the reader knows it: list items by their `name` where they have one."""
    parts: list[str] = []
    node = raw
    for step in loc:
        try:
            node = node[step]
        except (KeyError, IndexError, TypeError):
            node = None
        if isinstance(step, int):
            name = node.get("name") if isinstance(node, dict) else None
            parts.append(str(name) if name else f"[{step + 1}]")
        else:
            parts.append(step)
    return ".".join(parts)


def _allowed(loc: tuple[int | str, ...], root: type[BaseModel]) -> list[str]:
    """Return the keys that the model allows at the place of an unknown key."""
    model: Any = root
    for step in loc[:-1]:
        if isinstance(step, int) or not hasattr(model, "model_fields"):
            continue
        field = model.model_fields.get(step)
        found = _models_in(field.annotation) if field else []
        model = found[0] if found else model
    return list(model.model_fields)


def _models_in(annotation: Any) -> list[Any]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [model for inner in getattr(annotation, "__args__", ()) for model in _models_in(inner)]
