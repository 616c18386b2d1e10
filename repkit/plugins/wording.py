"""Say in repkit's words what a table of settings has wrong, for whoever typed it rather than for whoever wrote the schema."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from pydantic import ValidationError

from repkit.errors import did_you_mean

SAID = "said"
"""Type of an error whose message is the whole line already."""

_MOST_LETTERS = 80
"""Of a value that is shown; longer ones hide what is said of them."""

_KINDS: Mapping[str, str] = {
    "int": "a whole number",
    "float": "a number",
    "decimal": "a number",
    "finite": "a finite number",
    "bool": "true or false",
    "string": "text",
    "path": "a path",
    "tuple": "a list",
    "list": "a list",
    "set": "a list",
    "frozen": "a list",
    "iterable": "a list",
    "dict": "a table",
    "mapping": "a table",
    "model": "a table",
    "dataclass": "a table",
}
"""From the first word of pydantic's error types (``int_parsing``, ``tuple_type`` ...) to what was expected."""

_BOUNDS: Mapping[str, tuple[str, str]] = {
    "greater_than_equal": ("ge", "at least"),
    "greater_than": ("gt", "above"),
    "less_than_equal": ("le", "at most"),
    "less_than": ("lt", "below"),
}
_SIZES: Mapping[str, tuple[str, str]] = {"too_short": ("min_length", "at least"), "too_long": ("max_length", "at most")}

_OF_A_UNION = re.compile(
    r"(str|int|float|bool|none|path|date)$|(tuple|list|set|dict|literal|constrained|function|is)[-\[]"
)
"""What pydantic puts behind the place of a value that may be of several kinds: which of them it has tried."""


def validation_lines(error: ValidationError, where: str, known: tuple[str, ...] = ()) -> list[str]:
    """Return one line per wrong value: where, what was got, what was expected, and the name that was probably meant.

    Args:
        error: what pydantic found.
        where: place of the table in the recipe, put before every key; empty for the recipe itself.
        known: keys to suggest for unknown ones.
    """
    found: dict[str, list[Mapping[str, Any]]] = {}
    for problem in error.errors():
        found.setdefault(_place(where, problem["loc"]), []).append(problem)
    lines = []
    for place, problems in found.items():
        if len({problem["loc"] for problem in problems}) > 1:  # the kinds of a union, each tried on the same value
            lines.append(_line(place, problems[0]["input"], " or ".join(dict.fromkeys(map(_wanted, problems)))))
            continue
        lines += [_one(place, problem, known) for problem in problems]
    return lines


def _place(where: str, parts: Sequence[int | str]) -> str:
    # the kind tried stands last; a key of the same name can only be one behind another key
    if len(parts) > 1 and isinstance(parts[-1], str) and _OF_A_UNION.match(parts[-1]):
        parts = parts[:-1]
    return ".".join([*([where] if where else []), *map(str, parts)])


def _one(place: str, problem: Mapping[str, Any], known: Sequence[str]) -> str:
    kind, value = problem["type"], problem["input"]
    if kind == SAID:
        return str(problem["msg"])
    if kind == "extra_forbidden":
        return f"{place}: unknown key{_meant(problem['loc'], known)}"
    if kind == "missing":
        return f"{place}: missing"
    if kind in ("value_error", "assertion_error"):
        said = str(problem["msg"]).partition(", ")[2]  # pydantic begins it with "Value error, "
        # a whole table is no value that was typed
        got = "" if isinstance(value, Mapping) or not place else f"got {shown(value)}; "
        return f"{place}: {got}{said}" if place else said
    return _line(place, value, _wanted(problem), _hint(problem))


def _meant(parts: Sequence[int | str], known: Sequence[str]) -> str:
    """Return what was probably meant by an unknown key, to end a message with."""
    key = str(parts[-1])
    if key not in known:
        return did_you_mean(key, known)
    # nobody means by a key that very key: it is right in another table of the recipe
    hint = f", training settings of a phase as phases.{parts[1]}.training.{key}" if parts[0] == "phases" else ""
    return f" of this table; write {key!r} in the table it belongs to{hint}"


def _line(place: str, value: object, wanted: str, hint: str = "") -> str:
    example = f", for example {_as_list(value)}" if wanted == "a list" and not isinstance(value, Mapping) else ""
    return f"{place}: got {shown(value)}{hint}; {wanted} was expected{example}"


def _wanted(problem: Mapping[str, Any]) -> str:
    """Return what was expected, as words that "was expected" can follow."""
    kind, context = problem["type"], problem.get("ctx", {})
    if kind in _BOUNDS:
        key, word = _BOUNDS[kind]
        bound = f"{word} {context[key]:g}" if isinstance(context[key], int | float) else f"{word} {context[key]}"
        return f"a number {bound}" if word in ("above", "below") else bound
    if kind in _SIZES:
        key, word = _SIZES[kind]
        return f"a list of {word} {context[key]}"
    if kind in ("literal_error", "enum"):
        return (
            f"one of {', '.join(map(repr, _choices(context)))}" if len(_choices(context)) > 1 else context["expected"]
        )
    if kind == "string_pattern_mismatch":
        return f"text of the form {context['pattern']}"
    if kind == "string_too_short":
        return f"text of at least {context['min_length']} letter(s)"
    if kind == "int_from_float":
        return _KINDS["int"]
    named = _KINDS.get(kind.partition("_")[0])
    if named is not None:
        return named
    said = str(problem["msg"])
    return re.sub(r"^input should be (a valid )?", "", said[:1].lower() + said[1:])


def _choices(context: Mapping[str, Any]) -> list[str]:
    return re.findall(r"'([^']*)'", str(context.get("expected", "")))


def _hint(problem: Mapping[str, Any]) -> str:
    if problem["type"] != "literal_error" or not isinstance(problem["input"], str):
        return ""
    return did_you_mean(problem["input"], _choices(problem.get("ctx", {}))).rstrip("?")


def shown(value: object) -> str:
    """Return a value as a recipe writes it, cut where it is long."""
    if isinstance(value, bool):
        text = str(value).lower()
    elif isinstance(value, Mapping):
        text = f"a table with {', '.join(map(str, value)) or 'nothing in it'}"
    elif isinstance(value, list | tuple):
        text = _list_text(value)
    else:
        text = repr(value)
    return text if len(text) <= _MOST_LETTERS else f"{text[: _MOST_LETTERS - 4]} ..."


def _list_text(values: Iterable[object]) -> str:
    return f"[{', '.join(shown(value) for value in values)}]"


def _as_list(value: object) -> str:
    """Return the list that was probably meant: ``3`` is ``[3]``, ``0,1,2`` without brackets ``[0, 1, 2]``."""
    if not isinstance(value, str):
        return _list_text([value])
    parts = [part.strip() for part in value.split(",")]
    return _list_text([_number(part) for part in parts])


def _number(text: str) -> object:
    try:
        value = json.loads(text)
    except ValueError:
        return text
    return value if isinstance(value, int | float) else text
