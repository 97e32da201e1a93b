"""Strict TOML configuration: a file becomes a pydantic model, and a typo becomes a suggestion.

Every options model derives from :class:`Options`, which forbids unknown keys. ``load`` names the
file, the key, the value and what was expected, one line a fault.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterable
from pathlib import Path
from typing import Any, TypeVar, get_args

from pydantic import BaseModel, ConfigDict, ValidationError

from meadowlark.errors import UserError, did_you_mean


class Options(BaseModel):
    """Base of every options table: unknown keys are errors, and so are numbers that are none or
    infinite (TOML has both); values do not change after loading.

    A table with ``hide_input_in_errors`` never shows a value: it might be a secret.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


Model = TypeVar("Model", bound=Options)


def load(path: Path, model: type[Model], overrides: Iterable[str] = ()) -> Model:
    """Read a TOML file into ``model``; ``overrides`` are ``section.key=VALUE`` in TOML syntax."""
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"no such configuration file: {path}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UserError(f"{path} is not valid TOML: {error}") from None
    for override in overrides:
        assign(values, override)
    return parse(values, model, str(path))


def parse(values: dict[str, Any], model: type[Model], where: str) -> Model:
    """Validate a dictionary; every fault is one line naming key, value and expectation."""
    try:
        return model.model_validate(values)
    except ValidationError as error:
        lines = [_explain(fault, model) for fault in error.errors()]
        raise UserError(f"{where} has {len(lines)} fault(s):\n  " + "\n  ".join(lines)) from None


def assign(values: dict[str, Any], override: str) -> None:
    """Put ``section.key=VALUE`` (TOML syntax; a bare word is a string) into nested tables."""
    key, equals, text = override.partition("=")
    if not equals:
        raise UserError(f"{override!r} is not of the form section.key=VALUE")
    try:
        value = tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        value = text  # a bare word is a string, as a shell user expects
    *sections, name = key.strip().split(".")
    for section in sections:
        values = values.setdefault(section, {})
        if not isinstance(values, dict):
            raise UserError(f"{override!r}: {section!r} is a value, not a section")
    values[name] = value


def _explain(fault: Any, model: type[Options]) -> str:
    path = [str(part) for part in fault["loc"]]
    key = ".".join(path)
    if fault["type"] == "extra_forbidden":
        known = _keys(model, path[:-1])
        return f"{key}: unknown key.{did_you_mean(path[-1], known)} Known: {', '.join(known)}."
    if fault["type"] == "missing":
        return f"{key}: missing"
    said = fault["msg"].removeprefix("Value error, ")
    if model.model_config.get("hide_input_in_errors"):
        return f"{key}: {said}"
    return f"{key} = {fault['input']!r}: {said}"


def _keys(model: Any, path: list[str]) -> list[str]:
    """The field names of the options table at ``path`` under ``model``."""
    for part in path:
        if not (isinstance(model, type) and issubclass(model, BaseModel)):
            return []
        field = model.model_fields.get(part)
        if field is None:
            return []
        nested = [field.annotation, *get_args(field.annotation)]
        found = [t for t in nested if isinstance(t, type) and issubclass(t, BaseModel)]
        model = found[0] if found else None
    return sorted(model.model_fields) if model is not None else []
