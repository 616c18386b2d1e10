"""Which of the encoders given made the vectors that a run's models were trained on."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from repkit.api import Encoder
from repkit.errors import PluginError, RecipeError, RepkitError, UsageError
from repkit.plugins import load
from repkit.stage_one.open import open_encoder
from repkit.workflows.train_ser.saved import HEARD

NOT_IDENTITY = (*HEARD, "name", "max_duration_s", "precision", "encoder_settings")
"""Keys of a store's source that do not tell what an encoder computes: what was heard, names, and how it was used."""

WHERE_FROM = ("model", "revision", "weights")
"""Keys that say where weights were found; of no matter where their checksum is the same."""

OPERATIONAL = ("path", "batch_size", "device", "n_workers", "untrained")
"""Settings of encoders that the specification or the machine decides, not the run."""


@dataclass(frozen=True, slots=True)
class Part:
    """Embeddings of one encoder, as a run's models read them.

    Attributes:
        encoder: what makes them.
        dtype: type that the store has rounded them to.
        max_duration_s: longest stretch of an utterance that it hears; None for all.
        precision: ``fp32`` or ``bf16``.
    """

    encoder: Encoder
    dtype: str
    max_duration_s: float | None
    precision: str


def open_parts(
    embeddings: Mapping[str, Any] | None, given: Sequence[str | Encoder], condition: str, device: str
) -> list[Part]:
    """Open the encoder of each part of a condition's embeddings, with the settings that the run's stores were made with.

    Args:
        embeddings: of a job's ``model.json``.
        given: specifications (`repkit.stage_one.open.open_encoder`) or encoders, in any order.
        condition: its name, for messages.
        device: for encoders that have one.

    Raises:
        UsageError: an encoder is missing, not needed, or not the one that made the stores.
    """
    if embeddings is None:
        if given:
            raise UsageError(
                f"--encoder {_called(given[0])}: condition {condition!r} reads no embeddings; no encoder was expected; leave it "
                "out, or choose a condition with --condition"
            )
        return []
    found, used = [], set()
    for part in embeddings["parts"]:
        refused: list[str] = []
        for place, one in _candidates(given, part["source"]):
            encoder, why = _opened(one, part, device)
            if encoder is not None:
                used.add(place)
                found.append(_part(encoder, part))
                break
            refused.append(f"{_called(one)}: {why}")
        else:
            _refuse(part, condition, refused)
    unused = [_called(one) for place, one in enumerate(given) if place not in used]
    if unused:
        raise UsageError(
            f"--encoder {unused[0]}: no embedding of condition {condition!r} was made by it; "
            f"{len(embeddings['parts'])} encoder(s) were expected; leave it out"
        )
    return found


def _candidates(given: Sequence[str | Encoder], source: Mapping[str, Any]) -> Iterator[tuple[int, str | Encoder]]:
    yield from enumerate(given)
    if source.get("encoder") == "functionals":  # it needs nothing that is not in the run
        yield -1, "functionals"


def _part(encoder: Encoder, part: Mapping[str, Any]) -> Part:
    source = part["source"]
    return Part(encoder, part["dtype"], source.get("max_duration_s"), source.get("precision", "fp32"))


def _opened(given: str | Encoder, part: Mapping[str, Any], device: str) -> tuple[Encoder | None, str]:
    """Return the encoder if it is the one of the part, else why it is not."""
    encoder: Encoder
    if isinstance(given, str):
        try:
            try:
                encoder = open_encoder(given, **_settings(part["source"], device))
            except RecipeError:  # an encoder of another kind has other settings; what it is is told below
                encoder = open_encoder(given)
        except RepkitError as error:
            return None, str(error)
    else:
        encoder = given
    wanted = {**_identity(part["source"]), "dim": part["dim"]}
    here = {**_identity(encoder.provenance()), "dim": encoder.dim}
    differing = [key for key in sorted(wanted.keys() | here.keys()) if wanted.get(key) != here.get(key)]
    if wanted.get("weights_sha256") is not None and wanted["weights_sha256"] == here.get("weights_sha256"):
        differing = [key for key in differing if key not in WHERE_FROM]
    if not differing:
        return encoder, ""
    if "encoder" in differing:
        return None, f"is {here.get('encoder')}; {wanted.get('encoder')} was expected"
    return None, "differs in " + ", ".join(
        f"{key} ({_short(here.get(key))}; {_short(wanted.get(key))} in the run)" for key in differing
    )


def _settings(source: Mapping[str, Any], device: str) -> dict[str, Any]:
    """Return the settings of an encoder that a store's source tells; its identity is compared afterwards."""
    own = dict(source.get("encoder_settings") or {})
    try:
        encoder_class = load("repkit.encoders", str(source.get("encoder")))
    except PluginError:  # a provenance may call its encoder as it likes
        return own
    told = source.get("settings")
    told = {**source, **(told if isinstance(told, Mapping) else {}), **own}
    if source.get("untrained_seed") is not None:
        told |= {"seed": source["untrained_seed"], "init": (source.get("architecture") or {}).get("init")}
    fixed = {*OPERATIONAL, getattr(encoder_class, "argument", None)}
    fields = encoder_class.Config.model_fields
    found = {key: told[key] for key in fields if key in told and key not in fixed}
    return {**found, **({"device": device} if "device" in fields else {})}


def _identity(source: Mapping[str, Any]) -> dict[str, Any]:
    # in JSON terms, as a store keeps it: tuples become lists
    return json.loads(json.dumps({key: value for key, value in source.items() if key not in NOT_IDENTITY}))


def _refuse(part: Mapping[str, Any], condition: str, refused: Sequence[str]) -> None:
    source = part["source"]
    sha = source.get("weights_sha256")
    facts = [str(source.get("encoder")), f"{part['dim']} numbers", *([f"weights {sha[:12]}"] if sha else [])]
    wanted = f"{source.get('name', source.get('encoder'))} ({', '.join(facts)})"
    if refused:
        raise UsageError(
            f"--encoder: none of those given made the embeddings of condition {condition!r}; {wanted} was expected; give that "
            "encoder, or train again with vectors of yours",
            refused,
        )
    raise UsageError(
        f"condition {condition!r}: its models read embeddings of {wanted}; that encoder was expected; give it with --encoder, "
        "as to `repkit embed`"
    )


def _called(given: str | Encoder) -> str:
    return given if isinstance(given, str) else given.name


def _short(value: Any) -> str:
    text = "nothing" if value is None else value if isinstance(value, str) else json.dumps(value)
    return text if len(text) <= 40 else f"{text[:16]}..."


__all__ = ["NOT_IDENTITY", "Part", "open_parts"]
