"""One word for an encoder, as given to ``repkit embed --encoder``, to the encoder itself."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, overload

from repkit.api import Encoder
from repkit.errors import UsageError
from repkit.plugins import components, load
from repkit.plugins.discover import KNOWN_ELSEWHERE
from repkit.plugins.guards import make_encoder
from repkit.stage_one.folders import COMPONENTS, component_of, model_type

if TYPE_CHECKING:
    from repkit.stage_one.functionals import FunctionalsEncoder

_BUILT_IN: dict[str, tuple[str, dict[str, Any]]] = {
    "run": ("gru_autoencoder", {}),  # or what the run's model is read by
    "untrained": ("gru_autoencoder", {"untrained": True}),
    "statistics": ("statistics", {}),
    "hf": ("transformers", {}),
}
"""Prefixes of repkit's own encoders, all of which read a ``path``."""


@overload
def load_encoder(
    encoder: Literal["functionals", "functionals:all", "functionals:mel", "functionals:prosody"], **settings: Any
) -> FunctionalsEncoder: ...


@overload
def load_encoder(encoder: str | os.PathLike[str], **settings: Any) -> Encoder: ...


def load_encoder(encoder: str | os.PathLike[str], **settings: Any) -> Encoder:
    """Return an encoder by what stands behind ``repkit embed --encoder``: the front door for programs.

    Example:
        >>> encoder = load_encoder("functionals")  # doctest: +SKIP
        >>> vectors = encoder.encode([waveform])  # mono, float, 16 kHz  # doctest: +SKIP

    Args:
        encoder: a stage-one run of any objective, the model folder in it, ``functionals``, ``untrained:RUN``,
            ``statistics:RUN``, ``hf:ORG/NAME``, an installed encoder; see `open_encoder`.
        **settings: of that encoder, such as ``readout``, ``level``, ``layer``, ``batch_size``, ``device``.

    Returns:
        an object with ``encode(list of (S,) waveforms) -> list of (D,) vectors or (T, D) states``, ``name``, ``dim``, ``level``
        and ``provenance()`` (`repkit.api.Encoder`).

    Raises:
        UsageError: no such folder, an unfinished run, or an unknown prefix.
        RecipeError: settings that the encoder does not have, or wrong values, all at once.
        PluginError: the encoder is not installed, or broken.
    """
    return open_encoder(os.fspath(encoder), **settings)


def open_encoder(spec: str, **options: Any) -> Encoder:
    """Return the encoder of a specification.

    Args:
        spec: one of

            * ``runs/ae-x``: a finished run of ``repkit pretrain-ae`` (or its ``encoder`` or ``encoder-best`` folder);
            * ``untrained:runs/ae-x``: the same architecture with random weights (options ``seed``, by default the run's own, and
              ``init``);
            * ``statistics:runs/ae-x``: mean and deviation per band of the same spectrogram, no network;
            * ``hf:ORG/NAME`` or ``hf:FOLDER``: a transformers speech encoder;
            * ``NAME:ARGUMENT``: an installed encoder whose class says by ``argument`` which setting that is, such as
              ``opensmile:IS09``;
            * ``plugin:NAME``: an installed encoder (group ``repkit.encoders``), built from the options alone.
        **options: settings of that encoder; None counts as not given.

    Raises:
        UsageError: no such folder, an unfinished run, an unknown prefix, an encoder without the argument it needs, or an
            option that the specification itself decides.
        RecipeError: options that the encoder does not know, or wrong values, all at once.
        PluginError: the plugin is unknown, not installed or broken.
    """
    given = {name: value for name, value in options.items() if value is not None}
    kind, colon, rest = (os.path.expanduser(part) for part in spec.partition(":"))
    spec = kind + colon + rest
    named = not colon and _is_component(spec)
    # a bare name is the installed encoder's, also beside a folder of that name (its own vectors may lie there)
    if (Path(spec).exists() and not (named and not _is_model(spec))) or len(kind) == 1 or not (colon or named):
        # one letter is a drive
        kind, colon, rest = ("run" if model_type(Path(spec)) in (None, *COMPONENTS) else "hf"), ":", spec
    fixed: dict[str, Any]
    if colon and kind in _BUILT_IN:
        name, settings = _BUILT_IN[kind]
        if kind in ("run", "untrained"):
            name = component_of(Path(rest)) or name
        fixed = {"path": rest, **settings}
    elif colon and kind == "plugin":
        name, fixed = rest, {}
    else:
        name, fixed = kind, _argument(spec)
    other = [key for key, value in given.items() if key in fixed and fixed[key] != value]
    if other:
        raise UsageError(
            f"encoder {spec!r} decides {', '.join(other)} by itself; {other[0]} = {given[other[0]]!r} was given as a setting "
            "besides; leave one out"
        )
    made: Encoder = make_encoder(name, {**given, **fixed}, f"encoder {spec}")
    return made


def _is_model(spec: str) -> bool:
    return component_of(Path(spec)) is not None


def _is_component(name: str) -> bool:
    return name in KNOWN_ELSEWHERE or any(name == c.name for c in components("repkit.encoders"))


def _argument(spec: str) -> dict[str, str]:
    """Return the setting that ``NAME:ARGUMENT`` gives, or say what NAME takes."""
    name, _, value = spec.partition(":")
    if not _is_component(name):
        known = ", ".join(sorted({c.name for c in components("repkit.encoders")}))
        raise UsageError(
            f"encoder {spec!r}: prefix {name!r} is not known; expected a run folder, untrained:, statistics: or hf: before "
            f"it, the name of an installed encoder with its argument, or plugin: and a name; installed encoders: {known}"
        )
    encoder = load("repkit.encoders", name)
    argument = getattr(encoder, "argument", None)
    if argument is not None and (value or not encoder.Config.model_fields[argument].is_required()):
        return {argument: value} if value else {}
    read_by = "gru_autoencoder" if name in COMPONENTS.values() else name
    prefix = next((prefix for prefix, (own, _) in _BUILT_IN.items() if own == read_by and prefix != "run"), None)
    if argument is not None:
        meaning = encoder.Config.model_fields[argument].description
        expected = f"{name}:{argument.upper()}" + (f" ({meaning})" if meaning else "")
    elif prefix is not None:
        expected = f"{prefix}:PATH" + (" or the folder of a run" if name in COMPONENTS.values() else "")
    else:
        expected = f"plugin:{name}"
    settings = ", ".join(field for field in encoder.Config.model_fields if field != argument)
    raise UsageError(
        f"encoder {spec!r}: got {name} {'with' if value else 'without'} an argument; expected {expected}"
        + (f"; its other settings: {settings}" if settings else "")
    )
