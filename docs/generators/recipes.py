"""docs/reference/recipes.md: every key of a recipe and of the components' own tables, from the pydantic models."""

from __future__ import annotations

import json
import types
import typing
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from generators.text import HEADER, described, first_paragraph, table

PLURALS = {"text": "texts", "integer": "integers", "number": "numbers", "table": "tables"}

MEANINGS: dict[str, dict[str, str]] = {
    "SerRecipe": {
        "schema_version": "version of this format",
        "command": "the command the recipe is for",
        "name": "small letters, digits, `_`, `.`, `-`; names the folder of its runs",
        "description": "one line for `repkit recipes list` and the report",
        "seeds": "every fold and condition is trained once per seed",
        "frontend": "`name` of the frontend and its settings",
        "protocol": "`name` of the rule that makes the folds and its settings",
        "model": "`name` of the stage-two model and its settings",
        "objectives": "`name` of each loss and its settings; their weighted sum is minimised",
    },
    "PretrainRecipe": {
        "schema_version": "version of this format",
        "command": "the command the recipe is for",
        "name": "small letters, digits, `_`, `.`, `-`",
        "description": "one line for `repkit recipes list`",
        "training": "the settings below",
        "objectives": "`name`, `weight` (default 1) and settings of each loss; none: the paper's autoencoder",
    },
    "LabelsTable": {"map": "a label map, see below", "views": "what is predicted; the first view selects the epoch"},
    "NormalisationTable": {
        "mode": "`global_train` takes mean and deviation per band from each fold's own train part",
    },
    "Condition": {
        "name": "stands in the report; a name that begins with `untrained` or `statistics` is a control",
        "fusion": "none: by the store, `late` for vectors and `early` for frame-level states",
    },
    "TrainingTable": {
        "batch_size": "utterances per update",
        "optimiser": "`adadelta` has rho 0.95 and epsilon 1e-6, as published",
        "learning_rate": "before `learning_rate_steps` and `schedule`",
        "sampler": "`shuffle`: every item once per epoch; `class_balanced`, `corpus_balanced`: drawn so that each is as frequent; "
        "`round_robin`: batches of one corpus, the corpora in turn",
        "weight_decay": "of the optimiser",
        "gradient_clip_norm": "none: gradients are not clipped",
        "class_weights": "`balanced` weighs utterances by the inverse frequency of their class in train, `balanced_per_corpus` "
        "by that in their corpus' part of train",
        "precision": "arithmetic of training; `auto` takes bf16 where the hardware multiplies it fast",
    },
    "PhaseTable": {"name": "stands in metrics.jsonl; seeds the phase's batches"},
    "PaperValue": {
        "corpus": "corpus it was measured on",
        "condition": "name in the paper",
        "minimum": "percent, over the paper's runs",
        "maximum": "percent, over the paper's runs",
        "note": "printed beside it",
    },
    "AttentiveCnn.Config": {
        "n_filters": "filters of the convolution",
        "kernel_frames": "length of a filter in frames",
        "stride_frames": "frames between two positions of a filter",
        "pool_size": "positions per maximum",
        "padding": "`masked`: padding changes nothing; `paper`: attention over a fixed length, padding included",
    },
}
"""What a key means where neither its field nor a docstring says so."""

RECIPES = Path(__file__).resolve().parents[2] / "recipes"


def recipes_page() -> str:
    """Return docs/reference/recipes.md."""
    from repkit.audio.category_maps import CATEGORY_MAPS
    from repkit.config.schema import PretrainRecipe, SerRecipe
    from repkit.workflows.scale.recipe import ScaleRecipe

    parts = [
        HEADER,
        "# Recipes",
        "A recipe is a TOML file. It names components and their settings; unknown keys are refused and all problems are "
        'reported at once. `extends = "NAME"` starts from another recipe, which may extend another; on the command line '
        "`--set KEY=VALUE` overrides a key, `--set training.epochs=20` for example. "
        "`repkit recipes show NAME` prints a recipe, with `--resolved` every setting and where it comes from, `repkit recipes check FILE` validates one.",
        "## Built-in recipes",
        table(("recipe", "for", "what it does", "begins with"), _recipe_rows()),
        "## Keys of a `train-ser` recipe",
        *_model_tables(SerRecipe),
        "The keys of `[frontend]`, `[protocol]`, `[model]` and `[[objectives]]` besides `name` are the settings of the "
        "component named; `[[objectives]]` also takes `weight` (default 1).",
        "### Label maps",
        "Values of `labels.map`.",
        table(("map", "views", "description"), _label_map_rows()),
        "`labels.category_map` names the table by which `own` and `neumann2019` derive arousal and valence of utterances "
        f"of corpora without ratings of them. Known: {', '.join(f'`{name}`' for name in CATEGORY_MAPS)} (own design, three levels). "
        "A report states which views are derived.",
        "## Keys of a `pretrain-ae` recipe",
        *_model_tables(PretrainRecipe),
        "### `[training]` of `pretrain-ae`",
        "Some keys mean something with `[[objectives]]` only, others (of the decoder) without them only; a recipe that gives the "
        "wrong ones is refused.",
        table(("key", "type", "default", "meaning"), _training_rows()),
        "## Keys of a `scale` recipe",
        *_model_tables(ScaleRecipe),
        "## Settings of components",
        "Every component that repkit brings. Those of plugins are documented by the plugins.",
    ]
    for group, title in (
        ("repkit.frontends", "[frontend]"),
        ("repkit.protocols", "[protocol]"),
        ("repkit.models", "[model]"),
        ("repkit.objectives", "[[objectives]]"),
        ("repkit.pretraining", "[[objectives]] of pretrain-ae,"),
    ):
        for name, component in own_components(group):
            parts += [f'### `{title}` name = "{name}"', first_paragraph(component)]
            rows = field_rows(component.Config)
            parts.append(table(("key", "type", "default", "meaning"), rows) if rows else "No settings.")
    return "\n\n".join(parts) + "\n"


def own_components(group: str) -> Iterable[tuple[str, Any]]:
    """Yield name and class of every component of a group that repkit itself brings."""
    from repkit.plugins import components

    for component in components(group):
        if component.distribution == "repkit":
            yield component.name, component.entry_point.load()


def _recipe_rows() -> list[tuple[str, ...]]:
    import tomllib

    rows = []
    for path in sorted(RECIPES.glob("*.toml")):
        text = path.read_text(encoding="utf-8")
        tables = tomllib.loads(text)
        start = tables.get("extends")
        rows.append((f"`{path.stem}`", tables["command"], tables["description"], f"`{start}`" if start else ""))
    return rows


def _training_rows() -> list[tuple[str, ...]]:
    from repkit.stage_one.augment import Augmentation
    from repkit.stage_one.gru_autoencoder import GruAutoencoderConfig
    from repkit.stage_one.gru_encoder import GruEncoderConfig
    from repkit.stage_one.settings import PretrainConfig

    rows = field_rows(PretrainConfig, GruAutoencoderConfig, GruEncoderConfig, Augmentation)
    return [row for row in rows if row[0] != "`objectives`"]  # tables of their own


def _label_map_rows() -> list[tuple[str, ...]]:
    from repkit.audio.label_maps import label_map, label_map_names

    maps = [label_map(name) for name in label_map_names()]
    return [(f"`{m.name}`", ", ".join(m.classes), m.description) for m in maps]


def _model_tables(model: type[BaseModel]) -> list[str]:
    """Return a table of a model's plain keys and one for each of its tables."""
    plain, inner = [], []
    for name, field in model.model_fields.items():
        found = _inner_model(field.annotation)
        if found is None or found.__name__ == "ComponentTable":
            plain.append(_field_row(name, field, MEANINGS.get(model.__qualname__, {})))
        else:
            inner.append((name, found, typing.get_origin(field.annotation) is tuple))
    parts = [table(("key", "type", "default", "meaning"), plain)]
    for name, found, is_list in inner:
        title = f"[[{name}]]" if is_list else f"[{name}]"
        rows = field_rows(found)
        parts += [f"### `{title}`", first_paragraph(found), table(("key", "type", "default", "meaning"), rows)]
    return parts


def _inner_model(annotation: Any) -> type[BaseModel] | None:
    candidates = [annotation, *typing.get_args(annotation)]
    return next((c for c in candidates if isinstance(c, type) and issubclass(c, BaseModel)), None)


def field_rows(model: type[BaseModel], *more: type) -> list[tuple[str, ...]]:
    """Return key, type, default and meaning of every field; meanings may come from the docstrings of further classes."""
    told = {**MEANINGS.get(model.__qualname__, {}), **described(model, *more)}
    return [_field_row(name, field, told) for name, field in model.model_fields.items()]


def _field_row(name: str, field: FieldInfo, told: Mapping[str, str]) -> tuple[str, ...]:
    return (
        f"`{field.alias or name}`",
        type_text(field.annotation) + _limits(field),
        _default(field),
        field.description or told.get(name, ""),
    )


def type_text(annotation: Any) -> str:
    """Return a type in words."""
    origin, inner = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is typing.Literal:
        return " or ".join(f"`{value}`" for value in inner)
    if origin in (typing.Union, types.UnionType):
        return " or ".join(type_text(one) for one in inner if one is not type(None))
    if origin is tuple and len(inner) == 2 and inner[1] is Ellipsis:
        words = type_text(inner[0])
        return f"list of {PLURALS.get(words, words)}"
    if origin is tuple:
        return f"list of {len(inner)}"
    if origin is not None:
        return "table"
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return "table"
    words = {str: "text", int: "integer", float: "number", bool: "true or false", Path: "path"}
    return words[annotation]


def _limits(field: FieldInfo) -> str:
    signs = {"ge": "at least", "gt": "above", "le": "at most", "lt": "below"}
    found = [
        f"{words} {getattr(limit, sign):g}"
        for limit in field.metadata
        for sign, words in signs.items()
        if getattr(limit, sign, None) is not None
    ]
    return f", {', '.join(found)}" if found else ""


def _default(field: FieldInfo) -> str:
    if field.default_factory is not None:
        return "empty"
    value = field.default
    if value is PydanticUndefined:
        return "required"
    if value is None:
        return "none"
    if isinstance(value, bool):
        return f"`{str(value).lower()}`"
    if isinstance(value, tuple | list | Mapping):
        if not value:
            return "empty"
        return f"`{json.dumps([getattr(v, 'name', v) for v in value])}`"
    return f"`{getattr(value, 'name', value)}`" if value != "" else "empty"
