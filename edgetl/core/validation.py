"""Pydantic's complaints in words: every fault on a line, with the keys that would have been right."""

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
    """One line a fault: where, what, and for an unknown key the known ones, nearest first named."""
    lines = []
    for fault in error.errors(include_url=False):
        where = ".".join(str(part) for part in fault["loc"])
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
            # Of our own checks the error itself, without pydantic's "Value error, " before it.
            message = fault.get("ctx", {}).get("error", fault["msg"])
            lines.append(f"{where or 'the file'}: {message}{shown}")
    return "\n       ".join(lines)
