"""One word for an encoder, as given to ``repkit embed --encoder``, to the encoder itself."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from repkit.api import Encoder
from repkit.errors import UsageError
from repkit.plugins import build_config, components, load
from repkit.stage_one.folders import MODEL_TYPE, model_type


def open_encoder(spec: str, **options: Any) -> Encoder:
    """Return the encoder of a specification.

    Args:
        spec: one of

            * ``runs/ae-x``: a finished run of ``repkit pretrain-ae`` (or its ``encoder`` or ``encoder-best`` folder);
            * ``untrained:runs/ae-x``: the same architecture with random weights (option ``seed``);
            * ``statistics:runs/ae-x``: mean and deviation per band of the same spectrogram, no network;
            * ``hf:ORG/NAME`` or ``hf:FOLDER``: a transformers speech encoder;
            * ``plugin:NAME``: an installed encoder (group ``repkit.encoders``), built from the options alone.
        **options: settings of that encoder; None counts as not given.

    Raises:
        UsageError: no such folder, an unfinished run, an unknown prefix, or options the encoder does not know.
        PluginError: the plugin is unknown or broken.
    """
    given = {name: value for name, value in options.items() if value is not None}
    kind, colon, rest = spec.partition(":")
    if not colon or len(kind) == 1 or Path(spec).exists():  # one letter is a drive
        kind, rest = "run", spec
    if kind == "run" and model_type(Path(rest)) not in (None, MODEL_TYPE):
        kind = "hf"
    name, fixed = {
        "run": ("gru_autoencoder", {"path": rest}),
        "untrained": ("gru_autoencoder", {"path": rest, "untrained": True}),
        "statistics": ("statistics", {"path": rest}),
        "hf": ("transformers", {"path": rest}),
        "plugin": (rest, {}),
    }.get(kind, (None, {}))
    if name is None:
        known = ", ".join(sorted({c.name for c in components("repkit.encoders")}))
        raise UsageError(
            f"encoder {spec!r}: prefix {kind!r} is not known; expected a run folder, or untrained:, statistics:, hf: "
            f"or plugin: before it; installed encoders: {known}"
        )
    encoder = load("repkit.encoders", name)
    return encoder(build_config(encoder, {**given, **fixed}, f"encoder {spec}"))
