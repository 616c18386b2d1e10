"""The functionals and their parts on real speech; openSMILE's feature sets beside them where opensmile is installed."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import harness
import numpy as np
import torch

from repkit.audio.open import open_corpus
from repkit.features.affect import Affect
from repkit.features.prosody import Prosody
from repkit.stage_one.functionals import FunctionalsEncoder

try:
    import opensmile
except ImportError:
    opensmile = None

RATE = 16000
SECONDS = 60.0
"""Speech of each corpus that every variant works on once per round."""


def speech(options: harness.Options) -> list[np.ndarray]:
    """Return utterances of Emo-DB (short) and LibriSpeech (long)."""
    found = []
    for name in ("emodb", "librispeech"):
        corpus, seconds = open_corpus(name, str(options.corpus(name))), 0.0
        for _, sound in corpus.stream():
            if isinstance(sound, np.ndarray):
                found.append(sound)
                seconds += len(sound) / RATE
            if seconds > (5.0 if options.quick else SECONDS):
                break
    return found


def frames_of(frontend: Any, sounds: list[np.ndarray]) -> Callable[[], Any]:
    """Return a function that makes the frames of all sounds."""
    tensors = [(torch.from_numpy(sound)[None], torch.tensor([len(sound)])) for sound in sounds]

    def run() -> list[torch.Tensor]:
        with torch.inference_mode():
            return [frontend(*pair)[0] for pair in tensors]

    return run


def run(page: harness.Page, options: harness.Options) -> None:
    """Compare encoders and frontends."""
    harness.one_thread()
    sounds = speech(options)
    hours = sum(map(len, sounds)) / RATE / 3600
    encoders = {
        "functionals": FunctionalsEncoder(),
        "functionals:mel": FunctionalsEncoder(FunctionalsEncoder.Config(parts="mel")),
        "functionals:prosody": FunctionalsEncoder(FunctionalsEncoder.Config(parts="prosody")),
    }
    variants: dict[str, Callable[[], Any]] = {
        name: lambda encoder=encoder: encoder.encode(sounds) for name, encoder in encoders.items()
    }
    variants["frontend prosody"] = frames_of(Prosody(), sounds)
    variants["frontend affect"] = frames_of(Affect(), sounds)
    peers = {"openSMILE eGeMAPSv02": "eGeMAPSv02", "openSMILE ComParE_2016": "ComParE_2016"} if opensmile else {}
    for name, feature_set in peers.items():
        smile = opensmile.Smile(opensmile.FeatureSet[feature_set], opensmile.FeatureLevel.Functionals)
        variants[name] = lambda smile=smile: [smile.process_signal(sound, RATE) for sound in sounds]
    seconds = harness.interleave(variants, options.rounds, time.process_time)
    rows = [
        [name, f"{hours / harness.median(taken):.3f}", str(harness.ratio(taken, seconds["functionals"]))]
        for name, taken in seconds.items()
    ]
    page.text(
        f"{hours * 60:.1f} minutes of Emo-DB and LibriSpeech in {len(sounds)} utterances, decoded before the clock starts, one "
        "thread, CPU time; through each package's usual call, utterance by utterance."
    )
    page.table(["", "hours of speech per CPU s", "time / that of functionals, median [p10, p90]"], rows)
    rate = f"functionals: {hours / harness.median(seconds['functionals']):.2f} hours of speech per CPU s"
    target = "functionals at least as fast as openSMILE's eGeMAPS"
    if not peers:
        page.headline(rate)
        page.target(target, None, "opensmile is not installed")
        return
    found = harness.ratio(seconds["openSMILE eGeMAPSv02"], seconds["functionals"])
    page.headline(f"{rate}, {found} times openSMILE's eGeMAPS")
    page.target(target, found.low >= 1.0, f"{found} times")


if __name__ == "__main__":
    harness.main("functionals", "Functionals", run)
