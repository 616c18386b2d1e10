"""Front ends on real speech: librosa, torchaudio and kaldi-native-fbank against ours, with the largest difference in value.

Every peer gets the settings that make its numbers ours up to rounding, and is used the way its documentation shows,
utterance by utterance; what can be made once for all utterances (filters, windows, padded copies, prepared computers) is
made before the clock starts, in a row of its own where its usual function makes it anew.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Sequence
from typing import Any

import harness
import kaldi_native_fbank as knf
import librosa
import numpy as np
import torch
import torchaudio

from repkit.audio.open import open_corpus
from repkit.features.kaldi_fbank import KaldiFbank
from repkit.features.log_mel import LogMel
from repkit.features.spectrogram import Spectrogram

RATE = 16000
SECONDS = 240.0
"""Speech that every variant works on once per round."""
SHAPES = {
    26: {"window": 400, "shift": 160, "n_fft": 512, "high": 6500.0, "kind": "hamming", "target": 1.9},
    128: {"window": 1280, "shift": 640, "n_fft": 1280, "high": 8000.0, "kind": "hann", "target": 3.5},
}
"""Bands to settings: stage two's (25 ms every 10 ms) and stage one's (80 ms every 40 ms)."""
FLOOR = 1e-10


def speech(options: harness.Options) -> list[np.ndarray]:
    """Return utterances of LibriSpeech."""
    corpus = open_corpus("librispeech", str(options.corpus("librispeech")))
    wanted, found = 30.0 if options.quick else SECONDS, []
    for _, sound in corpus.stream():
        if isinstance(sound, np.ndarray):
            found.append(sound)
        if sum(map(len, found)) > wanted * RATE:
            break
    return found


def ours(frontend: Any, sounds: Sequence[np.ndarray]) -> Callable[[], list[np.ndarray]]:
    """Return a function that makes the frames of all utterances with one of our front ends."""
    waveforms = [torch.from_numpy(sound)[None] for sound in sounds]
    lengths = [torch.tensor([len(sound)]) for sound in sounds]

    def run() -> list[np.ndarray]:
        with torch.inference_mode():
            return [frontend(w, n)[0][0].numpy() for w, n in zip(waveforms, lengths)]

    return run


def mel_peers(bands: int, sounds: Sequence[np.ndarray]) -> dict[str, Callable[[], list[np.ndarray]]]:
    """Return the peers of `LogMel`: logarithms of HTK mel bands of the power spectrum, no padding."""
    s = SHAPES[bands]
    # librosa and torch.stft put a short window in the middle of the FFT: zeros at both ends make the frames ours
    margin = (s["n_fft"] - s["window"]) // 2
    padded = [np.pad(sound, margin) for sound in sounds]
    stft = {"n_fft": s["n_fft"], "hop_length": s["shift"], "win_length": s["window"], "window": s["kind"]}
    mel = {"n_mels": bands, "fmin": 0.0, "fmax": s["high"], "htk": True, "norm": None}
    bank = librosa.filters.mel(sr=RATE, n_fft=s["n_fft"], **mel)
    transform = torchaudio.transforms.MelSpectrogram(
        RATE, n_fft=s["n_fft"], win_length=s["window"], hop_length=s["shift"], f_min=0.0, f_max=s["high"],
        n_mels=bands, window_fn=getattr(torch, f"{s['kind']}_window"), center=False,
    )  # fmt: skip
    tensors = [torch.from_numpy(sound) for sound in padded]

    def usual() -> list[np.ndarray]:
        return [
            np.log(np.maximum(librosa.feature.melspectrogram(y=x, sr=RATE, center=False, **stft, **mel), FLOOR)).T
            for x in padded
        ]

    def filters_once() -> list[np.ndarray]:
        spectra = (np.abs(librosa.stft(x, center=False, **stft)) ** 2 for x in padded)
        return [np.log(np.maximum(bank @ spectrum, FLOOR)).T for spectrum in spectra]

    def through_torchaudio() -> list[np.ndarray]:
        with torch.inference_mode():
            return [transform(x).clamp(min=FLOOR).log().T.numpy() for x in tensors]

    return {"librosa": usual, "librosa, filters once": filters_once, "torchaudio": through_torchaudio}


def kaldi_peers(bands: int, sounds: Sequence[np.ndarray], calls: int) -> dict[str, Callable[[], Any]]:
    """Return the peers of `KaldiFbank`, and what of kaldi-native-fbank is the conversion of the array alone.

    The binding takes a vector of floats; a list is the fastest thing to give it. Its conversion is timed with a window
    longer than any utterance, so that no frame is ever made.
    """
    s = SHAPES[bands]
    length, shift = 1000.0 * s["window"] / RATE, 1000.0 * s["shift"] / RATE
    options = knf.FbankOptions()
    options.frame_opts.dither = 0.0
    options.frame_opts.frame_length_ms, options.frame_opts.frame_shift_ms = length, shift
    options.mel_opts.num_bins = bands
    options.use_energy = False
    endless = knf.FbankOptions()
    endless.frame_opts.frame_length_ms = 1000.0 * (max(map(len, sounds)) + RATE) / RATE
    endless.frame_opts.round_to_power_of_two = False
    # one computer can swallow only what is shorter than its window, so each utterance of each round gets its own
    computers = itertools.cycle([knf.OnlineFbank(endless) for _ in range(len(sounds) * calls)])
    scaled = [sound * 32768.0 for sound in sounds]
    tensors = [torch.from_numpy(sound)[None] for sound in scaled]

    def native() -> list[np.ndarray]:
        found = []
        for x in scaled:
            computer = knf.OnlineFbank(options)
            computer.accept_waveform(RATE, x.tolist())
            computer.input_finished()
            found.append(np.stack([computer.get_frame(i) for i in range(computer.num_frames_ready)]))
        return found

    def conversion() -> None:
        for x in scaled:
            next(computers).accept_waveform(RATE, x.tolist())

    def through_torchaudio() -> list[np.ndarray]:
        settings = {"dither": 0.0, "num_mel_bins": bands, "frame_length": length, "frame_shift": shift}
        with torch.inference_mode():
            return [torchaudio.compliance.kaldi.fbank(x, **settings).numpy() for x in tensors]

    return {"kaldi-native-fbank": native, "conversion alone": conversion, "torchaudio.compliance": through_torchaudio}


def largest_difference(a: Sequence[np.ndarray], b: Sequence[np.ndarray]) -> float:
    """Return the largest absolute difference of two lists of frames of equal shapes."""
    return max(float(np.abs(x - y).max()) for x, y in zip(a, b, strict=True))


def compare(page: harness.Page, options: harness.Options, bands: int, sounds: Sequence[np.ndarray]) -> str:
    """Add the section of one setting; return a phrase for the headline."""
    s = SHAPES[bands]
    hours = sum(map(len, sounds)) / RATE / 3600
    shape = {"bands": bands, "window_s": s["window"] / RATE, "shift_s": s["shift"] / RATE}
    log_mel = LogMel(LogMel.Config(high_hz=s["high"], window=s["kind"], n_fft=s["n_fft"], **shape))
    kaldi = KaldiFbank(KaldiFbank.Config(**shape))
    peers = mel_peers(bands, sounds)
    kaldi_like = kaldi_peers(bands, sounds, 1 if options.quick else 2)
    variants = {"ours, log_mel": ours(log_mel, sounds), **peers, "ours, kaldi_fbank": ours(kaldi, sounds)}
    variants |= {name: kaldi_like[name] for name in ("kaldi-native-fbank", "torchaudio.compliance")}
    if bands == 128:
        variants["ours, spectrogram"] = ours(Spectrogram(Spectrogram.Config(fixed_length_s=None)), sounds)
    seconds = harness.interleave(variants, options.rounds, time.process_time)
    # two rounds tell: it is subtracted from nothing that is claimed, and its computers hold a window each
    converting = harness.interleave(
        {"c": kaldi_like["conversion alone"]}, 1, time.process_time, warm_up=0 if options.quick else 1
    )["c"]
    native = seconds["kaldi-native-fbank"]
    seconds["kaldi-native-fbank, conversion taken off"] = [t - harness.median(converting) for t in native]
    partner = dict.fromkeys(peers, "ours, log_mel")
    rows = []
    for name, taken in seconds.items():
        other = partner.get(name, "ours, kaldi_fbank" if not name.startswith("ours") else "")
        difference = ratio = ""
        if other:
            ratio = str(harness.ratio(taken, seconds[other]))
            function = variants[name.removesuffix(", conversion taken off")]
            difference = f"{largest_difference(function(), variants[other]()):.1e}"
        rows.append([name, f"{hours / harness.median(taken):.2f}", other.removeprefix("ours, "), ratio, difference])
    page.text(f"## {bands} bands, {1000 * s['window'] // RATE} ms every {1000 * s['shift'] // RATE} ms")
    page.table(["front end", "hours of speech per CPU s", "against ours", "theirs / ours", "largest difference"], rows)
    share = harness.median(converting) / harness.median(native)
    page.text(f"Of kaldi-native-fbank's time the conversion of the array takes {share:.0%}.")
    exact = mel_peers(bands, [sound.astype(np.float64) for sound in sounds])["librosa"]()
    off = {name: largest_difference(variants[name](), exact) for name in ("ours, log_mel", "librosa", "torchaudio")}
    page.text(
        "Largest difference from librosa in float64: "
        + ", ".join(f"{name} {value:.1e}" for name, value in off.items())
        + ". librosa's FFT is in float64 whatever it is given, the others' in float32; their largest differences are in bands "
        "that hold less than a millionth of their frame's energy."
    )
    found = harness.ratio(seconds["librosa"], seconds["ours, log_mel"])
    page.target(f"{bands} bands: at least {s['target']} times librosa", found.median >= s["target"], str(found))
    return f"{bands} bands {found} times librosa"


def run(page: harness.Page, options: harness.Options) -> None:
    """Compare both settings."""
    harness.one_thread()
    sounds = speech(options)
    page.text(
        f"{sum(map(len, sounds)) / RATE / 60:.1f} minutes of LibriSpeech in {len(sounds)} utterances, decoded before the "
        "clock starts, one thread; CPU time. The differences are in natural logarithms, all frames of all utterances; settings are "
        "matched, so that they are rounding. `librosa` is `feature.melspectrogram`, which makes its filters at every call; "
        "`filters once` is the same steps with filters made before."
    )
    parts = [compare(page, options, bands, sounds) for bands in SHAPES]
    page.headline("hours of speech per second, " + "; ".join(parts))


if __name__ == "__main__":
    harness.main("frontend", "Front ends", run)
