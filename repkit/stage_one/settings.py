"""Settings of stage one's training: what both the autoencoder and objectives have, and what only one of them has."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from repkit.api import Config
from repkit.config import PretrainRecipe
from repkit.errors import RecipeError
from repkit.plugins import build_config, load
from repkit.plugins.load import validate


class PretrainConfig(Config):
    """Everything that decides what `pretrain-ae` learns; the defaults are the paper's where the paper states one.

    The defaults hear whole utterances, long ones in pieces of at most `chunk_s`. Recipe ``autoencoder_paper`` cuts or
    zero-pads each to 7.5 s as Neumann and Vu (2019) do, so that the tail of longer ones is never heard.

    Attributes:
        frontend: name in the group ``repkit.frontends``.
        frontend_settings: its settings, apart from `fixed_length_s`.
        trim_db: cut away the ends of every recording that are so many dB below its loudest part, before the frontend, in
            training and in `embed`; None keeps them.
        fixed_length_s: cut or zero-pad every waveform to these seconds before the frontend; None keeps its length.
        chunks: ``"split"`` cuts long utterances into even pieces, ``"truncate"`` keeps their first `chunk_s`,
            ``"whole"`` keeps them as they are, ``"random"`` takes as many pieces of `chunk_s` as would fill it, at places
            drawn from (seed, epoch). The pieces are cut from frames normalised over the whole utterance.
        chunk_s: longest piece in seconds.
        chunk_hop_s: distance of pieces in seconds when they shall overlap; None puts them end to end, evenly long.
        corpus_weights: how often the pieces of a corpus are heard in an epoch, by its name; 1 for others. 2.5 hears each
            twice, and a half of them, drawn from (seed, epoch), a third time.
        max_duration_s: longest stretch of an utterance to decode; None for all.
        dev_speakers: share of the speakers held out for the validation loss (at least one); 0 for none.
        hours: hear so many hours only of the speech that is not held out, spread evenly over its speakers; those of fewer
            hours lie within those of more (`repkit.stage_one.hours`). None hears all.
        hours_seed: of the draw of `hours`; not `seed`, so that trainings that differ in their seed hear the same speech.
        decoder, cell, n_layers, hidden_size, dropout, feed_previous_probability, decoder_frame_dropout, input_noise,
            mask_silence, init: see `repkit.stage_one.gru_autoencoder.GruAutoencoderConfig`.
        objectives: what an encoder is trained on instead of the autoencoder's loss, ``{"name", "weight", settings...}``
            each; a recipe's ``[[objectives]]``.
        inputs, bidirectional, pooling, pooling_layers: see `repkit.stage_one.gru_encoder.GruEncoderConfig`; with objectives
            only. Their encoder shares n_layers, hidden_size, dropout and init.
        standardise: with objectives: frames get mean 0 and deviation 1 by constants of the training speech.
        gain_db, eq_db, noise_share, noise_snr_db, room_share, room_rt60_s, pitch_semitones, tempo: see
            `repkit.stage_one.augment.Augmentation`; with objectives only.
        epochs: passes over the speech.
        updates: end after exactly so many updates instead, in the middle of an epoch if need be; `epochs` then says nothing.
            So trainings on more and on less speech can be equally long. The end of an epoch is then saved only when a
            checkpoint is due.
        batch_size: pieces per update, over all processes.
        learning_rate: Adam's, constant; betas 0.9, 0.999, epsilon 1e-8.
        clip_value: gradients are clipped element by element to plus and minus this.
        precision: ``"fp32"``, ``"bf16"`` (matrix products), or ``"auto"``: bf16 where the hardware multiplies it fast.
        device: ``"auto"`` (what accelerate finds) or ``"cpu"``.
        seed: of the weights, the order of batches, the dropout and the held-out speakers.
        export: which weights become ``encoder/``: ``"last"`` (the paper) or ``"best"`` by the held-out speakers.
        diagnose_every: epochs between two diagnostics (own, another's, zero vector); 0 only at the end.
        frames_dtype: type of the cached frames on disk and in memory.
        checkpoint_every_s: seconds between two checkpoints inside an epoch; changes no result.
        checkpoint_every_steps: also after so many updates; 0 never; changes no result.
        window_hours: speech that is shuffled together. A corpus of more is heard window by window: shard-sized blocks in
            an order drawn from (seed, epoch), so that two windows are all the memory it needs.
        ram_budget_gb: frames up to this size are held in memory, larger ones read from the cache; changes no result.
    """

    frontend: str = "spectrogram"
    frontend_settings: dict[str, Any] = Field(default_factory=dict)
    trim_db: float | None = Field(None, gt=0)
    fixed_length_s: float | None = Field(None, gt=0)
    chunks: Literal["split", "truncate", "whole", "random"] = "split"
    chunk_s: float = Field(7.5, gt=0)
    chunk_hop_s: float | None = Field(None, gt=0)
    corpus_weights: dict[str, Annotated[float, Field(gt=0, le=100)]] = Field(default_factory=dict)
    max_duration_s: float | None = Field(None, ge=0.1)
    dev_speakers: float = Field(0.05, ge=0, lt=1)
    hours: float | None = Field(None, gt=0)
    hours_seed: int = Field(0, ge=0)

    decoder: Literal["bidirectional", "unidirectional", "no_leak", "blind"] = "bidirectional"
    cell: Literal["gru", "lstm"] = "gru"
    n_layers: int = Field(2, ge=1)
    hidden_size: int = Field(256, ge=1)
    dropout: float = Field(0.2, ge=0, lt=1)
    feed_previous_probability: float = Field(0.0, ge=0, le=1)
    decoder_frame_dropout: float = Field(0.5, ge=0, le=1)
    input_noise: float = Field(0.0, ge=0, lt=1)
    mask_silence: bool = False
    init: Literal["paper", "torch"] = "paper"

    objectives: tuple[dict[str, Any], ...] = ()
    inputs: Literal["mel", "all"] = "mel"
    bidirectional: bool = False
    pooling: Literal["last", "mean", "mean_sd", "mean_sd_delta", "attentive"] = "mean_sd_delta"
    pooling_layers: Literal["last", "all"] = "all"
    standardise: bool = True
    gain_db: float = Field(0.0, ge=0, le=60)
    eq_db: float = Field(0.0, ge=0, le=60)
    noise_share: float = Field(0.0, ge=0, le=1)
    noise_snr_db: tuple[float, float] = (10.0, 30.0)
    room_share: float = Field(0.0, ge=0, le=1)
    room_rt60_s: tuple[float, float] = (0.2, 0.8)
    pitch_semitones: float = Field(0.0, ge=0, le=12)
    tempo: float = Field(0.0, ge=0, le=1)

    epochs: int = Field(64, ge=1)
    updates: int | None = Field(None, ge=1)
    batch_size: int = Field(64, ge=1)
    learning_rate: float = Field(1e-3, gt=0)
    clip_value: float = Field(2.0, gt=0)
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    device: Literal["auto", "cpu"] = "auto"
    seed: int = Field(0, ge=0)
    export: Literal["last", "best"] = "last"
    diagnose_every: int = Field(16, ge=0)
    frames_dtype: Literal["float16", "float32"] = "float16"
    window_hours: float = Field(24.0, gt=0)

    checkpoint_every_s: float = Field(300.0, gt=0)
    checkpoint_every_steps: int = Field(0, ge=0)
    ram_budget_gb: float = Field(8.0, ge=0)

    @model_validator(mode="after")
    def _fits_together(self) -> PretrainConfig:
        if self.feed_previous_probability and self.decoder != "unidirectional":
            raise ValueError(
                f"feed_previous_probability needs decoder = 'unidirectional', not {self.decoder!r}; set it to 0"
            )
        if self.export == "best" and not self.dev_speakers:
            raise ValueError("export = 'best' needs held-out speakers; set dev_speakers above 0")
        other, kind = (AUTOENCODER_ONLY, "the autoencoder") if self.objectives else (OBJECTIVES_ONLY, "objectives")
        idle = sorted(name for name in other if getattr(self, name) != type(self).model_fields[name].default)
        if idle:
            which = "objectives are" if self.objectives else "no objective is"
            raise ValueError(f"{', '.join(idle)}: only for {kind}, and {which} given; leave them out")
        for name in ("noise_snr_db", "room_rt60_s"):
            low, high = getattr(self, name)
            if low > high:
                raise ValueError(f"{name} = {(low, high)}: the smaller number comes first")
        if self.room_rt60_s[0] <= 0:
            raise ValueError(f"room_rt60_s = {self.room_rt60_s}: seconds above 0 were expected")
        if self.chunk_hop_s and self.chunk_hop_s > self.chunk_s:
            raise ValueError(f"chunk_hop_s = {self.chunk_hop_s} leaves gaps between pieces of {self.chunk_s} s")
        return self

    def on_cpu(self) -> bool:
        """Return whether training is on CPUs; accelerate must be told, or its processes would not find each other there."""
        import torch

        return self.device == "cpu" or not torch.accelerator.is_available()

    def frontend_table(self) -> dict[str, Any]:
        """Return name and settings of the frontend, as stored with the weights."""
        settings = dict(self.frontend_settings)
        if self.frontend == "spectrogram" or self.fixed_length_s is not None:
            # said even when None, because the spectrogram's own default is the paper's 7.5 s
            settings["fixed_length_s"] = self.fixed_length_s
        # not said of what is usual, so that runs of before keep their identity
        return {"name": self.frontend, "settings": settings} | ({"trim_db": self.trim_db} if self.trim_db else {})


AUTOENCODER_ONLY = (
    "decoder", "cell", "feed_previous_probability", "decoder_frame_dropout", "input_noise", "mask_silence",
)  # fmt: skip
"""Settings that mean something without objectives only."""

AUGMENTATION = (
    "gain_db", "eq_db", "noise_share", "noise_snr_db", "room_share", "room_rt60_s", "pitch_semitones", "tempo",
)  # fmt: skip
"""Settings of `repkit.stage_one.augment.Augmentation`."""

OBJECTIVES_ONLY = (
    "inputs", "bidirectional", "pooling", "pooling_layers", "standardise", *AUGMENTATION,
)  # fmt: skip
"""Settings that mean something with objectives only."""

OPERATIONAL = ("checkpoint_every_s", "checkpoint_every_steps", "ram_budget_gb")
"""Settings that change no result, so that a run may be resumed with others."""


def settings_of(recipe: PretrainRecipe) -> PretrainConfig:
    """Return the settings of a recipe, its objectives among them.

    Raises:
        RecipeError: unknown keys or wrong values, those of a component's settings too.
        PluginError: an objective that is not installed.
    """
    if "objectives" in recipe.training:
        raise RecipeError(
            f"recipe {recipe.name}: objectives stand in [training]; tables [[objectives]] beside it were expected; move them"
        )
    wrong: list[RecipeError] = []

    def told(check: Callable[[], Any]) -> Any:
        try:
            return check()
        except RecipeError as error:  # what is wrong with the others is told with it
            wrong.append(error)

    config = told(
        lambda: validate(PretrainConfig, {**recipe.training, "objectives": recipe.objective_tables()}, "training")
    )
    for place, one in enumerate(recipe.objectives):
        component = load("repkit.pretraining", one.name)
        told(partial(build_config, component, one.settings, f"objectives.{place}"))
    if len(wrong) > 1:
        raise RecipeError(f"recipe {recipe.name}: not valid", [line for error in wrong for line in error.problems])
    if wrong:
        raise wrong[0]
    return config
