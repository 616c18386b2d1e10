"""What a condition hears without labels, and the domains (speaker, corpus, language, gender) its objectives tell apart."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from repkit.api import DOMAINS, MISSING, Fold
from repkit.config.schema import SerRecipe
from repkit.errors import PluginError
from repkit.plugins import blame, build_config, load


def heard_fold(fold: Fold, recipe: SerRecipe) -> Fold:
    """Return the fold; the audio of its test part joins training unlabelled where the recipe says so."""
    if recipe.target_audio == "test":
        return replace(fold, unlabelled=tuple(sorted({*fold.unlabelled, *fold.test})))
    return fold


def wanted_domains(recipe: SerRecipe) -> tuple[str, ...]:
    """Return the domains that the objectives of a recipe ask for, each once.

    Raises:
        PluginError: an objective asks for something else.
    """
    wanted: dict[str, None] = {}
    for number, table in enumerate(recipe.objectives):
        objective_class = load("repkit.objectives", table.name)
        if not hasattr(objective_class, "domains"):
            continue
        names = objective_class.domains(build_config(objective_class, table.settings, f"objectives.{number}"))
        unknown = [name for name in names if name not in DOMAINS]
        if unknown:
            raise PluginError(
                f"{blame('repkit.objectives', table.name)}: asks for the domain {unknown[0]!r}; one of "
                f"{', '.join(DOMAINS)} was expected; mend the plugin"
            )
        wanted |= dict.fromkeys(names)
    return tuple(wanted)


def domain_codes(
    wanted: Sequence[str], attributes: Mapping[str, Sequence[str | None]], heard: Sequence[int]
) -> tuple[dict[str, list[int]], dict[str, int], dict[str, str]]:
    """Number the classes of domains over the audio that training hears.

    Args:
        wanted: domains.
        attributes: per domain the value of each of n utterances.
        heard: places of the utterances in train and unlabelled.

    Returns:
        codes (n) of each domain, `repkit.api.MISSING` where unknown or not heard; the number of its classes; and why a
        domain was left out (a single class leaves nothing to tell apart: gao2022 sheet, trap 5).
    """
    codes, sizes, left_out = {}, {}, {}
    for name in wanted:
        values = attributes[name]
        classes = sorted({value for i in heard if (value := values[i]) is not None})
        if len(classes) < 2:
            only = f"only {classes[0]}" if classes else "nothing known"
            left_out[name] = f"{only} in the training audio, nothing to tell apart"
            continue
        number = {value: place for place, value in enumerate(classes)}
        codes[name] = [MISSING if v is None else number.get(v, MISSING) for v in values]
        sizes[name] = len(classes)
    return codes, sizes, left_out
