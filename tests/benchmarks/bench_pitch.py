"""F0 trackers: librosa's pyin and yin, torchaudio's and ours on tones, on synthetic voices of known F0 and on real speech.

Praat (praat-parselmouth) is compared too where it is installed. Frames are taken every 10 ms; every tracker's are
looked up at the middle of ours, so that differences of window are not counted as differences of F0.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import harness
import librosa
import numpy as np
import torch
import torchaudio

from repkit.audio import voices
from repkit.audio.open import open_corpus
from repkit.features.pitch import PitchTracker
from repkit.features.prosody import PitchConfig
from repkit.features.spectral import frame_count

try:
    import parselmouth
except ImportError:
    parselmouth = None

RATE = 16000
LOW_HZ, HIGH_HZ = 60.0, 500.0
WINDOW, SHIFT = 640, 160
CORPORA = {"emodb": (16, 33), "ravdess": (10, 144), "librispeech": (8, 59)}
"""Corpora to number of utterances and distance between them in the corpus."""
MOST_S = 5.0


@dataclass(frozen=True)
class Track:
    """F0 at some times; `voiced` is None of a tracker that does not say."""

    times: np.ndarray
    hz: np.ndarray
    voiced: np.ndarray | None

    def at(self, times: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return F0 and voicing of the nearest frames; what lies outside is unvoiced."""
        place = np.abs(self.times[None, :] - times[:, None]).argmin(1)
        near = np.abs(self.times[place] - times) <= 0.0051
        voiced = np.ones(len(self.times), bool) if self.voiced is None else self.voiced
        return self.hz[place], voiced[place] & near


def grid(sound: np.ndarray) -> np.ndarray:
    """Return the middles of our frames in seconds."""
    return (np.arange(frame_count(len(sound), WINDOW, SHIFT)) * SHIFT + WINDOW / 2) / RATE


def ours() -> Callable[[np.ndarray], Track]:
    """Return our tracker; voiced is what the frontend takes for voiced, without its rule for silence."""
    tracker, limit = PitchTracker(WINDOW, SHIFT, LOW_HZ, HIGH_HZ), PitchConfig().voiced_at

    def run(sound: np.ndarray) -> Track:
        times = grid(sound)
        with torch.inference_mode():
            hz, voicing = tracker(torch.from_numpy(sound), len(times))
        return Track(times, hz.numpy(), voicing.numpy() >= limit)

    return run


def pyin(sound: np.ndarray) -> Track:
    """Return librosa's probabilistic YIN, frames of 60 ms (its default holds two periods of its default lowest F0)."""
    settings = {"fmin": LOW_HZ, "fmax": HIGH_HZ, "sr": RATE, "frame_length": 960, "hop_length": SHIFT, "center": False}
    hz, voiced, _ = librosa.pyin(sound, **settings)
    return Track((np.arange(len(hz)) * SHIFT + 480) / RATE, hz, voiced)


def yin(sound: np.ndarray) -> Track:
    """Return librosa's YIN, frames of 60 ms."""
    settings = {"fmin": LOW_HZ, "fmax": HIGH_HZ, "sr": RATE, "frame_length": 960, "hop_length": SHIFT, "center": False}
    hz = librosa.yin(sound, **settings)
    return Track((np.arange(len(hz)) * SHIFT + 480) / RATE, hz, None)


def torchaudios(sound: np.ndarray) -> Track:
    """Return torchaudio's normalised cross-correlation with its median over 30 frames (its default)."""
    hz = torchaudio.functional.detect_pitch_frequency(
        torch.from_numpy(sound), RATE, freq_low=int(LOW_HZ), freq_high=int(HIGH_HZ)
    ).numpy()
    # a frame of 10 ms is compared with one a period later: the middle lies half a period (about 2.5 ms) behind its own
    return Track((np.arange(len(hz)) * SHIFT + 120) / RATE, hz, None)


def praats(sound: np.ndarray) -> Track:
    """Return Praat's autocorrelation method (Boersma 1993) with its default settings but for the range of F0."""
    found = parselmouth.Sound(sound.astype(np.float64), RATE).to_pitch_ac(0.01, LOW_HZ, pitch_ceiling=HIGH_HZ)
    hz = found.selected_array["frequency"]
    return Track(found.xs(), hz, hz > 0)


def trackers() -> dict[str, Callable[[np.ndarray], Track]]:
    """Return all trackers there are by name."""
    found = {"ours": ours(), "pyin": pyin, "yin": yin, "torchaudio": torchaudios}
    return found | ({"Praat": praats} if parselmouth is not None else {})


def errors(hz: np.ndarray, truth: np.ndarray) -> tuple[float, float]:
    """Return the share of gross errors (more than 20 %) in percent and the median deviation of the others in cents."""
    ratio = np.maximum(hz, 1.0) / truth
    fine = np.abs(ratio - 1.0) <= 0.2
    return 100.0 * float(np.mean(~fine)), float(
        np.median(np.abs(1200.0 * np.log2(ratio[fine])))
    ) if fine.any() else np.nan


def tones(hz: float, harmonics: int) -> np.ndarray:
    """Return a second of a tone with harmonics of equal amplitude below 3.4 kHz."""
    t = np.arange(RATE) / RATE
    n = [k for k in range(1, harmonics + 1) if k * hz < 3400]
    return (0.5 / len(n) * sum(np.sin(2 * np.pi * k * hz * t + k) for k in n)).astype(np.float32)


def synthetic(n: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """Return voices of the synthetic corpora as the microphone hears them, and the F0 of every sample (0 outside)."""
    found: list[tuple[np.ndarray, np.ndarray]] = []
    heard: list[np.ndarray] = []
    glottis = voices._glottis

    def listen(pitch_hz: np.ndarray, tilt: float) -> np.ndarray:
        heard.append(pitch_hz)
        return glottis(pitch_hz, tilt)

    voices._glottis = listen  # the contour is not handed out otherwise
    try:
        for number in range(n):
            style = voices.STYLES["abc"[number % 3]]
            voice = voices.voice_of(0, "bench", number, 1.0)
            mood = list(voices.EXPRESSIONS.values())[number % 6]
            random = np.random.default_rng(number)
            dry = voices.speak(voice, mood, style, np.random.default_rng(number), 2.0, random)
            sound = voices.record(dry, style, np.random.default_rng(7), 1.0, random)
            margin = (len(sound) - len(dry)) // 2
            found.append((sound, np.pad(heard[-1], margin)))
    finally:
        voices._glottis = glottis
    return found


def on_tones(page: harness.Page, all_trackers: dict[str, Callable[[np.ndarray], Track]]) -> None:
    """Add the section on tones."""
    rows = []
    frequencies = np.geomspace(65.0, 480.0, 12)
    for name, run in all_trackers.items():
        row = [name]
        for harmonics in (1, 12):
            cents = []
            for hz in frequencies:
                track = run(tones(hz, harmonics))
                inside = (track.times > 0.2) & (track.times < 0.8)
                cents.append(1200.0 * np.log2(np.maximum(np.nan_to_num(track.hz[inside]), 1.0) / hz))
            off = np.abs(np.concatenate(cents))
            row += [f"{np.median(off):.2f}", f"{off.max():.2f}" if off.max() < 100 else "octaves"]
        rows.append(row)
    page.text("## Tones of 65 to 480 Hz: deviation in cents, frames inside")
    page.table(["tracker", "sine, median", "sine, largest", "12 harmonics, median", "12 harmonics, largest"], rows)


def on_voices(
    page: harness.Page, all_trackers: dict[str, Callable[[np.ndarray], Track]], n: int
) -> tuple[float, float]:
    """Add the section on synthetic voices; return our errors."""
    sounds = synthetic(n)
    rows, mine = [], (np.nan, np.nan)
    for name, run in all_trackers.items():
        hz, truth, total = [], [], 0
        for sound, pitch in sounds:
            times = grid(sound)
            true = pitch[np.minimum((times * RATE).astype(int), len(pitch) - 1)]
            found, voiced = run(sound).at(times)
            use = voiced & (true > 0)
            total += int((true > 0).sum())
            hz.append(found[use])
            truth.append(true[use])
        gross, cents = errors(np.concatenate(hz), np.concatenate(truth))
        mine = (gross, cents) if name == "ours" else mine
        rows.append([name, f"{gross:.2f}", f"{cents:.1f}", f"{100 * sum(map(len, hz)) / total:.0f}"])
    page.text(
        f"## Synthetic voices of known F0\n\n{n} utterances of the synthetic corpora's voices in their rooms, noise and "
        "telephone band (pitch moves, jitters and breathes; every third of them lacks what lies below 250 Hz). Over the "
        "frames between first and last pulse that the tracker calls voiced; consonants included, as noise covers the voice there."
    )
    page.table(["tracker", "gross errors, %", "median deviation of the others, cents", "frames called voiced, %"], rows)
    return mine


def on_speech(
    page: harness.Page, all_trackers: dict[str, Callable[[np.ndarray], Track]], sounds: Sequence[np.ndarray]
) -> dict[str, tuple[float, float, float]]:
    """Add the section on real speech; return our gross errors, cents and agreement by reference."""
    references = [name for name in ("pyin", "Praat") if name in all_trackers]
    looked: dict[str, list[tuple[np.ndarray, np.ndarray]]] = {}
    for name, run in all_trackers.items():
        looked[name] = [run(sound).at(grid(sound)) for sound in sounds]
    joined = {name: tuple(np.concatenate(part) for part in zip(*found)) for name, found in looked.items()}
    page.text("## Real speech: agreement with trackers that say what is voiced")
    rows, mine = [], {}
    for reference in references:
        true, known = joined[reference]
        for name in all_trackers:
            if name == reference:
                continue
            hz, voiced = joined[name]
            says = name not in ("yin", "torchaudio")
            both = known & voiced
            gross, cents = errors(hz[both], true[both])
            agree = 100.0 * float(np.mean(known == voiced))
            if name == "ours":
                mine[reference] = (gross, cents, agree)
            rows.append([f"{name} against {reference}", f"{gross:.2f}", f"{cents:.1f}", f"{agree:.1f}" if says else ""])
    page.table(["", "gross errors, %", "median deviation of the others, cents", "voicing agrees, %"], rows)
    if len(references) == 2:
        (one, a), (other, b) = (joined[name] for name in references)
        sure = a & b & (np.abs(one / np.maximum(other, 1.0) - 1.0) < 0.1)
        true = np.sqrt(one[sure] * other[sure])
        rows = []
        for name in ("ours", "yin", "torchaudio"):
            gross, cents = errors(joined[name][0][sure], true)
            rows.append([name, f"{gross:.2f}", f"{cents:.1f}"])
        page.text(
            f"Where pyin and Praat both hear a voice and agree within 10 % ({sure.sum()} frames), against their mean:"
        )
        page.table(["tracker", "gross errors, %", "median deviation of the others, cents"], rows)
    return mine


def speed(page: harness.Page, all_trackers: dict[str, Any], sounds: Sequence[np.ndarray], rounds: int) -> str:
    """Add the section on speed; return the headline's phrase."""
    few = sorted(sounds, key=len)[: 2 if rounds == 2 else 4]  # pyin takes a tenth of the sound's length
    hours, short = (sum(map(len, s)) / RATE / 3600 for s in (sounds, few))
    variants: dict[str, Callable[[], Any]] = {}
    for name, run in all_trackers.items():
        chosen = few if name == "pyin" else sounds
        variants[name] = lambda run=run, chosen=chosen: [run(sound) for sound in chosen]
    variants["ours, same few"] = lambda: [all_trackers["ours"](sound) for sound in few]
    seconds = harness.interleave(variants, rounds, time.process_time)
    rows = []
    for name in all_trackers:
        base = "ours, same few" if name == "pyin" else "ours"
        length = short if name == "pyin" else hours
        ratio = "" if name == "ours" else str(harness.ratio(seconds[name], seconds[base]))
        rows.append([name, f"{length / harness.median(seconds[name]):.4f}", ratio])
    page.text("## Speed")
    page.table(["tracker", "hours of speech per CPU s", "theirs / ours, median [p10, p90]"], rows)
    return f"{hours / harness.median(seconds['ours']):.2f} hours of speech per CPU s"


def real_speech(options: harness.Options) -> list[np.ndarray]:
    """Return utterances of three corpora, cut to `MOST_S`."""
    found = []
    for name, (n, step) in CORPORA.items():
        corpus = open_corpus(name, str(options.corpus(name)))
        chosen = corpus.utterances()[::step][: 1 if options.quick else n]
        found += [np.asarray(corpus.read(utterance, MOST_S), np.float32) for utterance in chosen]
    return found


def run(page: harness.Page, options: harness.Options) -> None:
    """Compare trackers."""
    harness.one_thread()
    sounds = real_speech(options)
    all_trackers = trackers()
    page.text(
        f"Range {LOW_HZ:.0f} to {HIGH_HZ:.0f} Hz for all. {len(sounds)} utterances of Emo-DB, RAVDESS and LibriSpeech, "
        f"{sum(map(len, sounds)) / RATE:.0f} s, decoded before the clock starts; one thread, CPU time. There is no true F0 of real "
        "speech: the figures are agreement, and how far pyin and Praat agree with each other is the scale. yin and torchaudio's "
        "tracker do not say what is voiced; they are judged where the reference does."
    )
    phrase = speed(page, all_trackers, sounds, options.rounds)
    on_tones(page, all_trackers)
    known = on_voices(page, all_trackers, 3 if options.quick else 12)
    mine = on_speech(page, all_trackers, sounds)
    against = "; ".join(
        f"{g:.1f} % gross errors, {c:.0f} cents, voicing {a:.0f} % against {n}" for n, (g, c, a) in mine.items()
    )
    page.headline(f"our tracker: {phrase}; {against}; {known[0]:.1f} % and {known[1]:.0f} cents on synthetic voices")


if __name__ == "__main__":
    harness.main("pitch", "F0 trackers", run)
