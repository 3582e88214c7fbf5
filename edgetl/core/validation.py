"""Pydantic's validation errors in words: one line per fault, with the keys that are allowed."""

from __future__ import annotations

import difflib
from typing import Any, get_args

from pydantic import BaseModel, ValidationError


def _model_at(model: type[BaseModel], location: tuple[int | str, ...]) -> type[BaseModel] | None:
    """The model class that owns the key at the end of `location`."""
    owner: type[BaseModel] | None = model
    for part in location[:-1]:
        if owner is None or isinstance(part, int):
            continue
        field = owner.model_fields.get(part)
        owner = _model_in(field.annotation) if field is not None else None
    return owner


def _model_in(annotation: Any) -> type[BaseModel] | None:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    for inner in get_args(annotation):
        found = _model_in(inner)
        if found is not None:
            return found
    return None


def explain_validation(error: ValidationError, model: type[BaseModel]) -> str:
    """One line per fault: where, what, and for an unknown key the known keys and the most similar one."""
    lines = []
    faults = error.errors(include_url=False)
    for fault in faults:
        where = ".".join(str(part) for part in fault["loc"])
        depth = len(fault["loc"])
        if fault["type"] == "too_short" and any(
            other["loc"][:depth] == fault["loc"] for other in faults if other != fault
        ):
            continue  # the list is short only because its own entries are faulty
        if fault["type"] == "extra_forbidden":
            key = str(fault["loc"][-1])
            owner = _model_at(model, fault["loc"])
            known = sorted(owner.model_fields) if owner is not None else []
            near = difflib.get_close_matches(key, known, n=1)
            hint = f" (did you mean {near[0]}?)" if near else ""
            lines.append(f"{where}: unknown key{hint}; known keys: {', '.join(known)}")
        else:
            given = fault.get("input")
            shown = f", given {given!r}" if isinstance(given, str | int | float | bool) else ""
            # For our own checks, show only the error, without pydantic's "Value error, " before it.
            message = fault.get("ctx", {}).get("error", fault["msg"])
            lines.append(f"{where}: {message}{shown}" if where else f"{message}{shown}")
    return "\n       ".join(lines)
