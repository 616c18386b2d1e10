"""What `repkit plugins show` reads off a component."""

from typing import Literal

import pytest
from pydantic import Field

from repkit import api
from repkit.plugins import load
from repkit.plugins.describe import Setting, declarations, first_paragraph, settings_of


class Base(api.Config):
    """Common settings.

    Attributes:
        seed: of every
            choice.
        kind: see the base.
    """

    seed: int = 0


class Component:
    """One line
    and its end.

    A second paragraph.
    """

    class Config(Base):
        """Settings.

        Attributes:
            kind: of the thing.

        Source: own design.
        """

        kind: Literal["a", "b"] = "a"
        size: int | None = Field(default=None, ge=2, description="how large")
        share: float = Field(default=0.5, gt=0, lt=1)
        names: tuple[str, ...] = ()
        place: api.Audio
        tables: dict[str, int] = Field(default_factory=lambda: {"x": 1})


def test_settings_are_a_table_with_what_docstrings_say():
    assert settings_of(Component) == [
        Setting("seed", "int", "0", "of every choice."),
        Setting("kind", "'a' | 'b'", "'a'", "of the thing."),
        Setting("size", "int | nothing, at least 2", "None", "how large"),
        Setting("share", "float, above 0, below 1", "0.5", ""),
        Setting("names", "tuple[str, ...]", "()", ""),
        Setting("place", "Audio", "required", ""),
        Setting("tables", "dict[str, int]", "{'x': 1}", ""),
    ]
    assert settings_of(object) == []


def test_the_first_paragraph_is_one_line():
    assert first_paragraph(Component) == "One line and its end."
    assert first_paragraph(type("Silent", (), {})) == ""


@pytest.mark.parametrize(
    ("group", "name", "wanted"),
    [
        ("repkit.models", "attentive_cnn", "vectors: joins utterance vectors (Batch.vectors) when the task has them"),
        ("repkit.protocols", "leave_one_corpus_out", "hold_out: takes --hold-out"),
        ("repkit.encoders", "statistics", "level utterance"),
    ],
)
def test_declarations_are_what_the_class_states(group, name, wanted):
    assert wanted in declarations(group, load(group, name))


def test_optional_methods_of_objectives_are_declarations():
    class Objective:
        def measure(self, outputs, batch, progress):
            return {}

    assert declarations("repkit.objectives", Objective) == ["measure"]
    assert declarations("repkit.frontends", Objective) == []
    assert declarations("repkit.models", type("M", (), {"capabilities": {"vector"}})) == ["vector: not known"]
