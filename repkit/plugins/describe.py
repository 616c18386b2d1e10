"""What a component says about itself: first paragraph, what it declares, its settings."""

from __future__ import annotations

import inspect
import re
import typing
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from pydantic.fields import FieldInfo

from repkit.api import MODEL_CAPABILITIES, Config

_BOUNDS = {"ge": "at least", "gt": "above", "le": "at most", "lt": "below"}
_OPTIONAL_METHODS = {
    "repkit.objectives": ("domains", "measure", "update", "diagnose"),
    "repkit.pretraining": ("corrupt", "calibrate"),
}


@dataclass(frozen=True, slots=True)
class Setting:
    """One key of a component's table, as text."""

    key: str
    kind: str
    default: str
    meaning: str


def first_paragraph(thing: Any) -> str:
    """Return the first paragraph of a docstring on one line, empty where there is none of its own."""
    return " ".join(inspect.cleandoc(thing.__doc__ or "").split("\n\n")[0].split())


def settings_of(component: Any) -> list[Setting]:
    """Return the settings of a component's Config, in its order; none where it has no Config."""
    kind = getattr(component, "Config", None)
    if not (isinstance(kind, type) and issubclass(kind, Config)):
        return []
    said = _attributes(kind)
    return [
        Setting(key, _kind_of(field), _default_of(field), field.description or said.get(key, ""))
        for key, field in kind.model_fields.items()
    ]


def declarations(group: str, component: Any) -> list[str]:
    """Return what a class declares beyond its group's contract, one line each."""
    if group == "repkit.models":
        stated = getattr(component, "capabilities", ())
        return [f"{name}: {MODEL_CAPABILITIES.get(name, 'not known')}" for name in sorted(map(str, stated))]
    if group in _OPTIONAL_METHODS:
        return [name for name in _OPTIONAL_METHODS[group] if callable(getattr(component, name, None))]
    if group == "repkit.encoders":
        level = getattr(component, "level", None)
        return [f"level {level}"] if isinstance(level, str) else []
    if group == "repkit.protocols":
        kind = getattr(component, "Config", None)
        held = ["hold_out: takes --hold-out"] if "hold_out" in getattr(kind, "model_fields", {}) else []
        return [*held, *(["covers some: need not test every utterance"] if _covers_some(component) else [])]
    return []


def _covers_some(component: Any) -> bool:
    return bool(getattr(component, "covers", "all") == "some")


def _attributes(kind: type) -> dict[str, str]:
    """Return what the ``Attributes`` sections of a class and its bases say of each name; the class itself wins."""
    found: dict[str, str] = {}
    for one in reversed(kind.__mro__):
        found |= dict(_section(one.__dict__.get("__doc__") or ""))
    return found


def _section(doc: str) -> Iterator[tuple[str, str]]:
    lines = inspect.cleandoc(doc).split("\n")
    if "Attributes:" not in lines:
        return
    name, text = "", ""
    for line in lines[lines.index("Attributes:") + 1 :]:
        if line and not line.startswith(" "):
            break
        head = re.fullmatch(r"    (\w+): (.*)", line)
        if head:
            if name:
                yield name, text
            name, text = head[1], head[2]
        else:
            text = f"{text} {line.strip()}".strip()
    if name:
        yield name, text


def _kind_of(field: FieldInfo) -> str:
    bounds = [
        f"{word} {getattr(rule, attribute):g}"
        for rule in field.metadata
        for attribute, word in _BOUNDS.items()
        if isinstance(getattr(rule, attribute, None), int | float)
    ]
    return ", ".join([_type_text(field.annotation), *bounds])


def _type_text(annotation: Any) -> str:
    if typing.get_origin(annotation) is typing.Literal:
        return " | ".join(map(repr, typing.get_args(annotation)))
    if isinstance(annotation, type) and not typing.get_args(annotation):
        return "nothing" if annotation is type(None) else annotation.__name__
    if " | " in str(annotation) or typing.get_origin(annotation) is typing.Union:
        return " | ".join(_type_text(part) for part in typing.get_args(annotation))
    return re.sub(r"\b(?:\w+\.)+(?=\w)", "", str(annotation))


def _default_of(field: FieldInfo) -> str:
    if field.is_required():
        return "required"
    return repr(field.get_default(call_default_factory=True, validated_data={}))
