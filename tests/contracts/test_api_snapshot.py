"""The public contract, name by name, against the snapshot stored beside this file.

``python tests/contracts/test_api_snapshot.py`` writes the snapshot anew.
"""

import dataclasses
import difflib
import enum
import inspect
import re
import sys
import typing
from collections.abc import Mapping
from pathlib import Path

import pytest
from pydantic import BaseModel

import repkit.testing
from repkit import api

SNAPSHOT = Path(__file__).with_name("api_snapshot.txt")
ADVICE = (
    "the public contract changed: raise API_VERSION minor for additions, major for changes, run "
    "`python tests/contracts/test_api_snapshot.py` to write the new snapshot, and add a line in docs/extension-points.md"
)


def text_of(annotation):
    """Return an annotation as it is written in the source."""
    if annotation is inspect.Parameter.empty:
        return ""
    if isinstance(annotation, str):
        return annotation
    plain = isinstance(annotation, type) and not typing.get_args(annotation)
    return annotation.__name__ if plain else str(annotation).replace("typing.", "")


def signature_of(function):
    """Return parameters with kinds, annotations and defaults, and what is returned."""
    signature = inspect.signature(function)
    parts, bare_star = [], False
    for name, parameter in signature.parameters.items():
        if parameter.kind is parameter.KEYWORD_ONLY and not bare_star:
            parts.append("*")
            bare_star = True
        star = {parameter.VAR_POSITIONAL: "*", parameter.VAR_KEYWORD: "**"}.get(parameter.kind, "")
        bare_star = bare_star or star == "*"
        annotation = text_of(parameter.annotation)
        default = "" if parameter.default is parameter.empty else f" = {parameter.default!r}"
        parts.append(f"{star}{name}{f': {annotation}' if annotation else ''}{default}")
    returned = text_of(signature.return_annotation)
    return f"({', '.join(parts)}){f' -> {returned}' if returned else ''}"


def members_of(kind):
    """Yield the public methods and properties that a class writes itself, and the optional ones its docstring names."""
    # dataclasses and protocols are given an __init__ that nobody wrote
    written = dataclasses.is_dataclass(kind) or getattr(kind, "_is_protocol", False)
    for name, value in vars(kind).items():
        if name.startswith("_") and not (name == "__call__" or (name == "__init__" and not written)):
            continue
        if isinstance(value, staticmethod | classmethod):
            yield f"{name}{signature_of(value.__func__)}  [{type(value).__name__}]"
        elif isinstance(value, property):
            yield f"{name} -> {text_of(inspect.signature(value.fget).return_annotation)}  [property]"
        elif inspect.isfunction(value):
            yield f"{name}{signature_of(value)}"
    if getattr(kind, "_is_protocol", False):
        yield from (f"{name}  [optional]" for name in re.findall(r"^ *- ``(.+?)``", kind.__doc__ or "", re.MULTILINE))


def fields_of(kind):
    """Yield a class's fields with types and defaults."""
    if dataclasses.is_dataclass(kind):
        for field in dataclasses.fields(kind):
            default = ""
            if field.default is not dataclasses.MISSING:
                default = f" = {field.default!r}"
            elif field.default_factory is not dataclasses.MISSING:
                default = f" = {field.default_factory.__name__}()"
            yield f"{field.name}: {text_of(field.type)}{default}{'  [keyword only]' if field.kw_only else ''}"
    elif issubclass(kind, BaseModel):
        yield f"settings: {dict(sorted(kind.model_config.items()))}"
        for name, field in kind.model_fields.items():
            rules = "".join(f", {rule!r}" for rule in field.metadata)
            yield f"{name}: {text_of(field.annotation)}{rules} = {'...' if field.is_required() else repr(field.get_default())}"
    else:
        for name, annotation in vars(kind).get("__annotations__", {}).items():
            if not name.startswith("_"):
                yield f"{name}: {text_of(annotation)}"


def head_of(name, kind):
    """Return the line that begins the description of a class."""
    what = [base.__name__ for base in kind.__bases__ if base not in (object,)]
    if dataclasses.is_dataclass(kind):
        own = kind.__dataclass_params__
        what += ["dataclass", *(["frozen"] if own.frozen else []), *(["slots"] if "__slots__" in vars(kind) else [])]
    return f"class {name}{f' [{chr(44).join(what)}]' if what else ''}"


def describe(name, value):
    """Return the lines that describe one public name."""
    if isinstance(value, type) and not issubclass(value, enum.Enum):
        return [head_of(name, value), *(f"    {line}" for line in (*fields_of(value), *members_of(value)))]
    if inspect.isfunction(value):
        return [f"def {name}{signature_of(value)}"]
    if isinstance(value, Mapping):
        return [f"{name}: {{{', '.join(map(repr, value))}}}"]
    return [f"{name} = {value!r}"]


def current():
    """Return the whole contract as text."""
    lines = []
    for module in (api, repkit.testing):
        lines += [f"# {module.__name__}", ""]
        for name in sorted(module.__all__, key=str.casefold):
            lines += [*describe(name, getattr(module, name)), ""]
    return "\n".join(lines)


def changes(old, new):
    """Return the lines taken away and the lines added, without empty ones."""
    found = [line for line in difflib.ndiff(old.splitlines(), new.splitlines()) if line[2:].strip()]
    return [line[2:] for line in found if line[0] == "-"], [line[2:] for line in found if line[0] == "+"]


def version_in(text):
    """Return API_VERSION as a snapshot states it."""
    (line,) = [line for line in text.splitlines() if line.startswith("API_VERSION = ")]
    return tuple(int(part) for part in line.partition("(")[2].rstrip(")").split(","))


def write():
    """Write the snapshot and say what kind of change it is."""
    old = SNAPSHOT.read_text(encoding="utf-8") if SNAPSHOT.exists() else ""
    new = current()
    SNAPSHOT.write_text(new, encoding="utf-8")
    if not old:
        return f"{SNAPSHOT.name}: written"
    removed, added = changes(old, new)
    if not removed and not added:
        return f"{SNAPSHOT.name}: unchanged"
    before, now = version_in(old), version_in(new)
    removed = [line for line in removed if not line.startswith("API_VERSION")]
    wanted = (before[0] + 1, 0) if removed else (before[0], before[1] + 1)
    kind = f"{len(removed)} lines changed or gone (major)" if removed else "additions only (minor)"
    advice = "" if now >= wanted else f"; API_VERSION is {now}, {wanted} was expected unless {before} is unreleased"
    return f"{SNAPSHOT.name}: written, {kind}{advice}"


def test_the_public_contract_is_the_one_in_the_snapshot():
    old, new = SNAPSHOT.read_text(encoding="utf-8"), current()
    if old != new:
        removed, added = changes(old, new)
        shown = [*(f"- {line}" for line in removed), *(f"+ {line}" for line in added)]
        pytest.fail("\n".join([ADVICE, *shown]), pytrace=False)


def test_the_snapshot_names_everything_public():
    text = SNAPSHOT.read_text(encoding="utf-8")
    words = {
        line.split("(")[0].split()[-1 if line.startswith("def ") else 0].rstrip(":")
        for line in text.splitlines()
        if line
    }
    words |= {line.split()[1] for line in text.splitlines() if line.startswith("class ")}
    assert {*api.__all__, *repkit.testing.__all__} <= words


@dataclasses.dataclass(frozen=True)
class Sample:
    first: int
    second: tuple[str, ...] = ()
    third: dict = dataclasses.field(default_factory=dict)

    def total(self, more: int = 1, *, less: float) -> float:
        """Return something."""
        return 0.0

    @property
    def size(self) -> int:
        """Return something."""
        return 1


def test_fields_methods_and_constants_are_described():
    assert describe("Sample", Sample) == [
        "class Sample [dataclass,frozen]",
        "    first: int",
        "    second: tuple[str, ...] = ()",
        "    third: dict = dict()",
        "    total(self, more: int = 1, *, less: float) -> float",
        "    size -> int  [property]",
    ]
    assert describe("VERSION", (1, 0)) == ["VERSION = (1, 0)"]
    assert describe("WORDS", {"a": "what a is", "b": "what b is"}) == ["WORDS: {'a', 'b'}"]
    assert describe("f", test_fields_methods_and_constants_are_described)[0] == ("def f()")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda text: text, "unchanged"),
        (
            lambda text: text.replace("def check_utterances", "def check_utterance"),
            "changed or gone (major); API_VERSION is",
        ),
        (lambda text: text.replace("    shared: torch.Tensor\n", ""), "additions only (minor); API_VERSION is"),
    ],
)
def test_writing_says_what_version_the_change_needs(change, said, tmp_path, monkeypatch):
    path = tmp_path / "api_snapshot.txt"
    new = current()
    assert change(new) != new or said == "unchanged"
    path.write_text(change(new), encoding="utf-8")
    monkeypatch.setattr(sys.modules[__name__], "SNAPSHOT", path)
    assert said in write()
    assert path.read_text(encoding="utf-8") == new


def test_a_change_fails_with_advice(tmp_path, monkeypatch):
    path = tmp_path / "api_snapshot.txt"
    path.write_text(current().replace("MISSING = -100", "MISSING = -1"), encoding="utf-8")
    monkeypatch.setattr(sys.modules[__name__], "SNAPSHOT", path)
    with pytest.raises(pytest.fail.Exception) as caught:
        test_the_public_contract_is_the_one_in_the_snapshot()
    assert str(caught.value).startswith(ADVICE)
    assert "- MISSING = -1\n+ MISSING = -100" in str(caught.value)


if __name__ == "__main__":
    print(write())
