"""List components from the metadata of installed distributions, without importing any of them."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from importlib.metadata import EntryPoint, EntryPoints, entry_points

from repkit.errors import PluginError, did_you_mean

GROUPS: dict[str, str] = {
    "repkit.corpora": "utterances with speaker, labels and sound",
    "repkit.frontends": "waveforms to frames",
    "repkit.encoders": "frames or waveforms to embeddings",
    "repkit.pretraining": "unlabelled frames and an encoder's states to named losses",
    "repkit.models": "batch to the views' logits",
    "repkit.objectives": "outputs and batch to named losses",
    "repkit.protocols": "utterances to train, dev and test folds",
    "repkit.recipes": "ready settings for a whole run",
}
"""Entry-point groups and what a component of each does."""

_BROUGHT = {
    "repkit-cross-corpus": "cross_corpus parry2019 leave_one_corpus_out corpus_pairs parry2019_union parry_lstm parry_cnn "
    "parry_cnn_lstm",
    "repkit-dann": "dann dann_attentive gao2022 gao2022_cross gao_spectrogram cnn_blstm domain_adversarial centre "
    "gao2022_multi",
    "repkit-adapters": "adapters adapters_attentive add_corpus transfer gerczuk2021 gerczuk2021_egemaps "
    "gerczuk2021_deepspectrum adapter_resnet focal soft_ordinal gerczuk2021_partitions",
    "repkit-baselines": "keesing2020_a1 keesing2020_a2 keesing2020_a3 keesing2020_latif keesing2020_zhang keesing2020_zhao "
    "keesing2020_svm aldeneh_cnn latif_cnn_lstm zhang_cnn_gru zhao_cnn_blstm "
    "opensmile_log_mel keesing_spectrogram raw_waveform opensmile deepspectrum batch_cross_entropy",
}

KNOWN_ELSEWHERE: dict[str, str] = {name: package for package, names in _BROUGHT.items() for name in names.split()}
"""Components and recipes that another distribution of this project brings when installed; used in messages only."""


def brought_by(name: str) -> str:
    """Return how a component or recipe that is not installed can be had, to end a message with; empty where unknown.

    From a clone: this project is on no package index, where its names may be strangers'.
    """
    package = KNOWN_ELSEWHERE.get(name)
    return f"; it comes with {package} (in a clone of repkit: pip install ./plugins/{package})" if package else ""


@dataclass(frozen=True, slots=True)
class Component:
    """One entry point: what it is called, what it points to and who brings it."""

    group: str
    name: str
    value: str
    distribution: str
    version: str
    entry_point: EntryPoint

    @property
    def origin(self) -> str:
        """The distribution with its version, for messages."""
        return f"{self.distribution} {self.version}"

    @property
    def blame(self) -> str:
        """Who is to blame, for messages: ``plugin repkit-dann 0.1.0 (repkit.models: cnn_blstm)``."""
        return f"plugin {self.origin} ({self.group}: {self.name})"


def components(group: str | None = None) -> list[Component]:
    """Return installed components, sorted by group and name.

    ``REPKIT_PLUGINS=none`` leaves only repkit's own; a comma list of distributions admits only these besides repkit.
    """
    found = _installed(os.environ.get("REPKIT_PLUGINS"), _places(), entry_points)
    return [component for component in found if group is None or component.group == group]


def _places() -> tuple[tuple[str, int | None], ...]:
    """Return where distributions may lie and when each place last changed: as long as these stay, so does what is installed."""

    def changed(place: str) -> int | None:
        try:
            return os.stat(place or ".").st_mtime_ns
        except OSError:
            return None

    return tuple((place, changed(place)) for place in sys.path)


@lru_cache(maxsize=4)
def _installed(
    allowed: str | None, places: tuple[tuple[str, int | None], ...], read: Callable[..., EntryPoints]
) -> tuple[Component, ...]:
    """Read the metadata of all distributions, which takes a tenth of a second; `places` only tells when to read again."""
    names = None if allowed is None else {part.strip() for part in allowed.split(",")} | {"repkit"}
    found: list[Component] = []
    for name in GROUPS:
        for point in read(group=name):
            distribution = point.dist.name if point.dist else "unknown"
            if names is not None and distribution not in names:
                continue
            version = point.dist.version if point.dist else "?"
            found.append(Component(name, point.name, point.value, distribution, version, point))
    return tuple(sorted(found, key=lambda c: (c.group, c.name, c.distribution)))


def fits_the_rule(name: str) -> bool:
    """Whether a component's name is small letters, digits and underscores, a letter first, as recipes and options need it."""
    return re.fullmatch("[a-z][a-z0-9_]*", name) is not None


def find(group: str, name: str) -> Component:
    """Return the component called name (``"distribution:name"`` chooses between two that claim it).

    Raises:
        PluginError: no or more than one component of that name.
    """
    wanted, _, plain = name.rpartition(":")
    candidates = components(group)
    matching = [c for c in candidates if c.name == plain and wanted in ("", c.distribution)]
    if len(matching) == 1:
        return matching[0]
    if matching:
        owners = " and ".join(c.origin for c in matching)
        choices = " or ".join(f"'{c.distribution}:{plain}'" for c in matching)
        raise PluginError(
            f"{plain!r} in {group} is claimed by {owners}; write {choices} to choose one, or, where there is no place to write it, "
            "set the environment variable REPKIT_PLUGINS to a comma list of the distributions to admit besides repkit ('none' "
            "for repkit's own alone)"
        )
    known = sorted({c.name for c in candidates})
    raise PluginError(
        f"no component named {name!r} in {group}{did_you_mean(plain, known)}{brought_by(plain)}; "
        f"installed: {', '.join(known) or 'none'}"
    )


def name_of_origin(group: str, name: str, origin: str | None) -> str:
    """Return under which name to load a component that something was made with, whoever else claims its name today.

    Args:
        group: entry-point group.
        name: of the component, as it was asked for.
        origin: what brought it then, as in `Component.origin`; None where that is not known.

    Returns:
        the name with its distribution where that still brings it, else as it is: it may have moved to another one.

    Raises:
        PluginError: no installed distribution brings one of that name.
    """
    plain = name.rpartition(":")[2]
    distribution = (origin or "").rpartition(" ")[0]
    claims = {c.distribution for c in components(group) if c.name == plain}
    if distribution in claims:
        return f"{distribution}:{plain}"
    if claims or not distribution:
        return name
    left_out = " (REPKIT_PLUGINS may leave it out)" if os.environ.get("REPKIT_PLUGINS") is not None else ""
    raise PluginError(
        f"{plain!r} in {group}: {origin} brought it when this was made, and is not installed{left_out}; the same was expected"
        f"{brought_by(plain)}; install it"
    )


def blame(group: str, name: str) -> str:
    """Return who brings a component, as messages name it: ``plugin repkit-dann 0.1.0 (repkit.models: cnn_blstm)``.

    Never raises, so that it can be used while an error is put into words: a name that is not installed, or claimed
    twice, is blamed on nobody.
    """
    try:
        return find(group, name).blame
    except PluginError:
        return f"component {name} ({group})"


def claimed_twice(group: str | None = None) -> dict[tuple[str, str], list[Component]]:
    """Return the names that several distributions claim, as (group, name), with those who do."""
    owners: dict[tuple[str, str], list[Component]] = {}
    for component in components(group):
        owners.setdefault((component.group, component.name), []).append(component)
    return {key: found for key, found in owners.items() if len(found) > 1}
