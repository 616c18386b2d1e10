"""docs/functionals.md: every number of the encoder `functionals`, from the tables that make their names."""

from __future__ import annotations

from generators.text import HEADER, table
from repkit.stage_one.contour_statistics import DELTA_STATISTICS, PAUSE_DB, PAUSE_S, PEAK_DB, RHYTHM, STATISTICS
from repkit.stage_one.functionals import CONTOURS, FunctionalsEncoder, feature_names


def functionals_page() -> str:
    """Return the page."""
    config = FunctionalsEncoder.Config()
    names, mel = feature_names(config.bands), feature_names(config.bands, "mel")
    counts = {"bands": len(mel), "contours": len(names) - len(mel) - len(RHYTHM), "rhythm": len(RHYTHM)}
    statistics = [(f"`{name}`", formula, _unit(unit)) for name, (formula, unit) in STATISTICS.items()]
    contours = [
        ("`mel_00` to `mel_39`", "10 log10 of the energy of a mel band + 1e-10 (triangles of peak 1, HTK's scale, 0 to 8 kHz)", "dB"),
        *((f"`{name}`", meaning, unit) for name, (meaning, unit) in CONTOURS.items()),
    ]  # fmt: skip
    lines = [
        HEADER,
        "",
        "# Functionals: an embedding without a network",
        "",
        f"`repkit embed --encoder functionals` turns an utterance into {len(names)} numbers, each of which has a name "
        "(`FunctionalsEncoder.feature_names`) and a formula (below). Nothing is trained: no weights, no speakers heard. It is "
        "the floor that a learnt representation has to beat, and a vector worth having by itself. Code: "
        "`repkit/stage_one/functionals.py`, `repkit/stage_one/contour_statistics.py`; speed and errors of the F0 tracker: "
        "[benchmarks-pitch](results/benchmarks-pitch.md).",
        "",
        "| group | names | numbers |",
        "| --- | --- | ---: |",
        f"| statistics of mel bands | `mel_BB_STATISTIC`, `mel_BB_delta_sd` | {counts['bands']} |",
        f"| statistics of prosody and of its slopes | `CONTOUR_STATISTIC`, `CONTOUR_delta_STATISTIC` | {counts['contours']} |",
        f"| rhythm, movement and voice quality | see below | {counts['rhythm']} |",
        "",
        "## What is measured",
        "",
        f"Frames of {_ms(config.window_s)} every {_ms(config.shift_s)}, at 16 kHz. Levels are dB of full scale: a mean square of 1 "
        "is 0 dB, a sine of amplitude 1 is -3 dB. Windowed power (Hann) is scaled so that its bins sum to the mean square of the frame.",
        "",
        "1. Frames at the begin and the end that lie more than "
        f"{config.trim_db:.0f} dB below the loudest are cut off (`trim_db`, 0 for none).",
        '2. With `level = "removed"` the rest is brought to a root mean square of 0.1, so that the gain of the microphone counts '
        "nothing.",
        "3. F0 and voicing: normalised autocorrelation, "
        f"{config.low_hz:.0f} to {config.high_hz:.0f} Hz (`repkit/features/pitch.py`). A frame is voiced when voicing is "
        f"{config.voiced_at} or more and it lies at most {config.silence_db:.0f} dB below the loudest. Statistics of F0 are over voiced frames.",
        "4. Tilt: least squares, sum(u L) / sum(u u), over 18 thirds of an octave from 100 Hz to 5 kHz; L is 10 log10 of the mean power "
        "per FFT bin in that third (+ 1e-12), u its log2 frequency minus their mean. White noise has tilt 0.",
        "5. Slopes (`delta`): least squares through five frames, ends repeated, per second.",
        "",
        "Where nothing is voiced F0 is midway between its limits on a logarithmic scale, without variation; other numbers that "
        "do not exist (the length of pauses where there are none) are 0. Sounds shorter than a frame are filled with zeros to one.",
        "",
        table(("contour", "meaning", "unit u"), contours),
        "",
        "## Statistics of a contour",
        "",
        f"Of every mel band these {len(STATISTICS)} and `delta_sd`, the standard deviation of its slope (dB/s). Of every prosody contour "
        f"these {len(STATISTICS)}, and of its slope all but `slope` and `residual` ({len(DELTA_STATISTICS)}; in u/s where u stands). "
        "`f0_slope` is a line through the voiced frames at their true times; `f0_change` counts neighbouring voiced frames.",
        "",
        table(("statistic", "formula", "unit"), statistics),
        "",
        "## Rhythm, movement and voice quality",
        "",
        f"A pause lasts {_ms(PAUSE_S)} or more and lies {PAUSE_DB:.0f} dB below the 95th percentile of energy; a syllable-like peak of the "
        f"energy, smoothed over five frames, is {PEAK_DB:.0f} dB prominent (after de Jong & Wempe 2009). Stretches are runs of frames.",
        "",
        table(("name", "formula", "unit"), [(f"`{name}`", *meaning) for name, meaning in RHYTHM.items()]),
        "",
        "## Other settings",
        "",
        "`--encoder-set KEY=VALUE` changes any of them (`repkit plugins show functionals`): with `--encoder-set level=removed` and "
        "`--encoder-set trim_db=30` the store is called `functionals-level-free-trim_db_30`.",
        "",
        "## Blocks of equal weight",
        "",
        "A linear classifier on standardised numbers weighs the "
        f"{counts['bands']} of the mel bands above the {counts['contours'] + counts['rhythm']} others. To weigh both alike, embed them "
        "apart and join them; each block is then divided by the root of its size:",
        "",
        "```console",
        "$ repkit embed --encoder functionals:mel --corpus emodb=PATH --out embeddings",
        "$ repkit embed --encoder functionals:prosody --corpus emodb=PATH --out embeddings",
        "$ repkit probe both=embeddings/functionals-mel+embeddings/functionals-prosody --corpus emodb=PATH",
        "```",
    ]
    return "\n".join(lines) + "\n"


def _unit(unit: str) -> str:
    return "none" if unit == "1" else unit


def _ms(seconds: float) -> str:
    return f"{1000 * seconds:.0f} ms"
