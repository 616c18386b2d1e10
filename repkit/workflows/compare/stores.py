"""The stores that ``repkit compare`` compares: what made each, which are seeds of one encoder, and whose control is whose."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from repkit.config.schema import Condition
from repkit.errors import UsageError, did_you_mean
from repkit.runs.directory import canonical_hash
from repkit.store import open_store
from repkit.workflows.train_ser.conditions import check_names, find_store

Role = Literal["trained", "untrained", "functionals", "other"]
ROLES: tuple[Role, ...] = ("functionals", "untrained", "trained", "other")
_SEED_MARK = re.compile(r"(?:(?<=untrained-)seed\d+-)|(?:[-_.](?:seed[-_]?|s)\d+(?=$|[-_.]))")
_NOT_THE_ENCODER = ("name", "seed", "untrained_seed", "weights_sha256")
"""Keys of a provenance in which two seeds of one encoder differ."""
_SPLIT = ("speakers", "held_out_speakers", "corpora")
"""Keys that a seed may change a little, because it draws what is held out; the fingerprints of the corpora must agree."""
_SHAPE = (
    "encoder",
    "readout",
    "layer",
    "layers",
    "level",
    "frontend",
    "max_duration_s",
    "precision",
    "encoder_settings",
)
"""Keys that an untrained encoder must share with a trained one to be its control, besides the architecture."""
_NOT_SHAPE = ("init", "dropout")
"""Keys of the architecture that change nothing in what an encoder can express."""


@dataclass(frozen=True, slots=True)
class Entry:
    """A store to compare.

    Attributes:
        name: of the encoder, or as given.
        folder: of its stores, one per corpus.
        role: ``trained``, ``untrained``, ``functionals``, or ``other``: everything that is no side of the gate.
        family: name that all seeds of one encoder share.
        dim: D.
        source: its provenance.
        controls_all: an untrained encoder given as the control of every trained one.
    """

    name: str
    folder: str
    role: Role
    family: str
    dim: int
    source: Mapping[str, Any]
    controls_all: bool = False

    @property
    def shape(self) -> str:
        """Hash of what a control must share: architecture, readout, frontend and size, but neither weights nor seed."""
        shape = {key: self.source.get(key) for key in _SHAPE}
        architecture = self.source.get("architecture")
        if isinstance(architecture, Mapping):
            architecture = {key: value for key, value in architecture.items() if key not in _NOT_SHAPE}
        return canonical_hash([_without(shape), architecture, self.dim])


def role_of(source: Mapping[str, Any]) -> Role:
    """Return what a store's provenance says it is.

    ``untrained``: random weights (``untrained_seed``); ``functionals``: that encoder; ``trained``: weights with a checksum,
    or speech that was heard; ``other``: all else, such as the statistics of a spectrogram.
    """
    if source.get("untrained_seed") is not None:
        return "untrained"
    if source.get("encoder") == "functionals":
        return "functionals"
    heard = source.get("corpora") or source.get("speakers")
    return "trained" if source.get("weights_sha256") is not None or heard else "other"


def family_of(name: str) -> str:
    """Return a name without its mark of the seed: ``cpc-s1``, ``cpc-seed1``, ``untrained-seed1-cpc``."""
    return _SEED_MARK.sub("", name)


def read_entries(
    conditions: Sequence[Condition],
    corpora: Sequence[str],
    *,
    trained: Sequence[str] = (),
    controls: Sequence[str] = (),
    functionals: str | None = None,
) -> list[Entry]:
    """Return the stores with role and family.

    Two stores are seeds of one encoder when their names are alike but for the mark of a seed, and their provenance but for
    names, seeds and weights.

    Args:
        conditions: name and folder of each store.
        corpora: names; the first tells what a store is.
        trained: names of stores that are taken for trained, whatever their provenance says.
        controls: names of stores that are taken for untrained, and as the control of every trained one.
        functionals: name of the store that all others are joined with.

    Raises:
        UsageError: a name that is none of the stores', two stores of one name, joined or frame-level stores, or several
            stores of functionals.
        DataError: a store is missing.
    """
    names = [condition.name for condition in conditions]
    check_names(names, "compare", "stores")
    wanted: dict[str, Role] = {}
    for option, some, role in (
        ("--trained", trained, "trained"),
        ("--control", controls, "untrained"),
        ("--functionals", [functionals] if functionals else [], "functionals"),
    ):
        for name in some:
            if name not in names:
                raise UsageError(
                    f"{option} {name}: one of {', '.join(names)} was expected{did_you_mean(name, names)}; name a store"
                )
            if name in wanted:
                raise UsageError(f"{option} {name}: already given as {wanted[name]}; one role was expected")
            wanted[name] = role  # type: ignore[assignment]
    entries = [_read(condition, corpora[0], wanted.get(condition.name), controls) for condition in conditions]
    if functionals:  # the others are compared like any store
        entries = [
            replace(e, role="other") if e.role == "functionals" and e.name != functionals else e for e in entries
        ]
    _check_different(entries)
    several = [one.name for one in entries if one.role == "functionals"]
    if len(several) > 1:
        raise UsageError(
            f"compare: {', '.join(several)} are functionals; one was expected, with which all others are joined; name it by "
            "--functionals"
        )
    return _with_families(entries)


def controls_of(trained: Entry, entries: Sequence[Entry]) -> list[str]:
    """Return the families of untrained encoders that a trained one must beat, in their order.

    Those given as controls; where none is, all of the same shape, so that one with another initialisation counts as well.
    """
    untrained = [one for one in entries if one.role == "untrained"]
    given = [one for one in untrained if one.controls_all]
    return list(dict.fromkeys(one.family for one in given or untrained if given or one.shape == trained.shape))


def _read(condition: Condition, corpus: str, role: Role | None, controls: Sequence[str]) -> Entry:
    if len(condition.folders) != 1:
        raise UsageError(
            f"compare: {condition.name} is {'+'.join(condition.folders)}; single stores were expected, which are joined with "
            "the functionals here; give each by itself"
        )
    spec = open_store(find_store(Path(condition.folders[0]), corpus)).spec
    if spec.kind != "vectors":
        raise UsageError(
            f"compare: {condition.folders[0]} holds frame-level states; utterance vectors were expected; embed with "
            "--level utterance"
        )
    return Entry(
        name=condition.name,
        folder=condition.folders[0],
        role=role or role_of(spec.source),
        family=condition.name,
        dim=spec.dim,
        source=spec.source,
        controls_all=condition.name in controls,
    )


def _check_different(entries: Sequence[Entry]) -> None:
    """Refuse two stores of one encoder, which would count as two seeds."""
    seen: dict[str, str] = {}
    for one in entries:
        # random weights depend on their seed alone; the checksum of an untrained store is that of the run it was made from
        hidden = ("name", *_SPLIT, *(("weights_sha256",) if one.source.get("untrained_seed") is not None else ()))
        key = canonical_hash([{k: v for k, v in one.source.items() if k not in hidden}, one.dim])
        if key in seen and one.source:
            raise UsageError(
                f"compare: {seen[key]} and {one.name} hold vectors of the same encoder (same weights or same random seed); "
                "different ones were expected; give one of them, or embed the other with another --seed"
            )
        seen[key] = one.name


def _with_families(entries: Sequence[Entry]) -> list[Entry]:
    kinds = {one.name: (one.role, family_of(one.name), _identity(one.source), one.controls_all) for one in entries}
    by_kind: dict[Any, list[str]] = {}
    for name, kind in kinds.items():
        by_kind.setdefault(kind, []).append(name)
    families = [family_of(some[0]) for some in by_kind.values()]
    found = []
    for one in entries:
        members, family = by_kind[kinds[one.name]], family_of(one.name)
        # of two encoders whose names differ only in the mark of a seed, neither may take the name without it
        alone = len(members) == 1 or families.count(family) > 1
        found.append(replace(one, family=members[0] if alone else family))
    return found


def _identity(source: Mapping[str, Any]) -> str:
    """Return a hash that all seeds of one encoder share."""
    heard = [one.get("fingerprint") if isinstance(one, Mapping) else one for one in source.get("corpora") or ()]
    return canonical_hash([_without({k: v for k, v in source.items() if k not in _SPLIT}), heard])


def _without(value: Any) -> Any:
    """Return a JSON value without the keys in which seeds differ."""
    if isinstance(value, Mapping):
        return {key: _without(inner) for key, inner in value.items() if key not in _NOT_THE_ENCODER}
    return [_without(inner) for inner in value] if isinstance(value, list | tuple) else value


__all__ = ["ROLES", "Entry", "Role", "controls_of", "family_of", "read_entries", "role_of"]
