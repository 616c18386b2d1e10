"""Make docs/results/stage_one.md: what each objective of stage one is worth on four small corpora, and the gate's verdicts.

    python docs/results/stage_one.py --data FOLDER --work FOLDER

Every step is one repkit command, printed before it runs. `repkit pretrain-ae`, `repkit embed` and `repkit compare` repeat
nothing that is finished, so that the script can be stopped and started.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import common

HERE = Path(__file__).parent
CORPORA = ("emodb", "emovo", "ravdess", "urdu")
SEEDS = (0, 1)
# on LibriSpeech 768 to 960 updates each (the autoencoder's pieces are longer), in the order in which they were run
ENCODERS: dict[str, tuple[str, int, bool]] = {
    "mix": ("cpc_prosody_functionals", 24, False),
    "apc": ("apc", 24, False),
    "cpc": ("cpc", 24, False),
    "mask": ("masked_spans", 24, False),
    "blind": ("blind_decoder", 24, False),
    "ae": ("autoencoder", 64, False),
    "mixall": ("cpc_prosody_functionals", 24, True),
}
"""Recipe, epochs, and whether the labelled corpora are heard too (without labels)."""
UNTRAINED = ("mix", "mask", "ae")
"""One of each architecture; apc, cpc, blind and mixall begin with the weights of mix."""
SHORT = ("functionals", "mix-s0", "mix-s1", "untrained-mix-s0", "untrained-seed1-mix-s0")
"""Stores that the recipe of stage two is trained on."""
SER = ("--recipe", "attentive_cnn", "--seeds", "1", "--set", "training.epochs=20")
MODES = ("train", "per_speaker")
PAIR = ("functionals + trained", "functionals + untrained")
GATE = (
    "Points of UAR, mean over the four corpora: [functionals + trained] - [functionals + untrained]. Passed: the interval lies "
    "above zero under both normalisations."
)
PROTOTYPE = {
    "functionals": (54.5, 63.2),
    "mix": (53.7, 65.6),
    "untrained-mix": (46.5, 60.2),
    "ae": (42.5, 47.5),
}
"""Figures of the prototypes, train and per-speaker normalisation: mean of emodb, emovo and ravdess, linear SVM."""


def commands(data: str) -> list[common.Step]:
    """Return every repkit command in order."""
    labelled = common.corpora_options(data, CORPORA)
    steps: list[common.Step] = []
    for seed in SEEDS:
        for name, (recipe, epochs, everything) in ENCODERS.items():
            heard = common.corpora_options(data, ("librispeech", *CORPORA) if everything else ("librispeech",))
            settings = (f"training.seed={seed}", f"training.epochs={epochs}", "training.export=best")
            words = [word for text in settings for word in ("--set", text)]
            steps.append(["pretrain-ae", "--recipe", recipe, *heard, "--out", f"runs/{name}-s{seed}", *words])
    for encoder, *seed in encoders():
        steps.append(["embed", "--encoder", encoder, *seed, *labelled, "--out", "embeddings"])
    steps.append(["compare", *(f"embeddings/{store(*words)}" for words in encoders()), *labelled, "--out", "compare"])
    steps.append(["compare", *(f"embeddings/{store}" for store in SHORT), *labelled, *SER, "--out", "compare-ser"])
    return steps


def encoders() -> list[list[str]]:
    """Return every encoder as `repkit embed` is given it, with the seed where it is untrained."""
    untrained = [
        [f"untrained:runs/{name}-s0", *(["--seed", str(seed)] if seed else [])] for name in UNTRAINED for seed in SEEDS
    ]
    return [["functionals"], *untrained, *([f"runs/{name}-s{seed}"] for name in ENCODERS for seed in SEEDS)]


def store(encoder: str, *seed: str) -> str:
    """Return the name of an encoder's store."""
    mark = f"seed{seed[1]}-" if seed else ""
    return encoder.replace("untrained:", f"untrained-{mark}").replace("runs/", "")


def training_table(work: Path) -> str:
    """Return how every encoder was trained."""
    rows = []
    for name, (recipe, _, everything) in ENCODERS.items():
        for seed in SEEDS:
            found = common.read(work / "runs" / f"{name}-s{seed}", "results.json")
            lines = (work / "runs" / f"{name}-s{seed}" / "metrics.jsonl").read_text().splitlines()
            first = json.loads(lines[0])
            key = "dev_loss" if "dev_loss" in first else "dev_rmse"  # the autoencoder's is the error of its frames
            rows.append(
                [
                    f"{name}-s{seed}",
                    recipe,
                    "all five" if everything else "librispeech",
                    str(found["updates"]),
                    f"{first[key]:.3f}",
                    f"{found['best'][key]:.3f} ({found['best']['epoch']} of {found['epochs']})",
                    f"{found['training_seconds'] / 60:.0f}",
                ]
            )
    head = ["encoder", "recipe", "heard", "updates", "held-out loss, first epoch", "best (epoch)", "minutes"]
    return common.table(head, rows)


def prototype_table(state: dict[str, Any]) -> str:
    """Return the prototypes' figures beside ours, mean of the three corpora that they had."""
    rows = []
    for system, figures in PROTOTYPE.items():
        cells = []
        for mode, figure in zip(MODES, figures):
            found = {
                one["corpus"]: one["uar"]
                for one in state["scores"]
                if (one["system"], one["normalisation"], one["head"]) == (system, mode, "probe")
            }
            ours = 100 * sum(found[corpus] for corpus in CORPORA[:3]) / 3
            cells += [f"{figure:.1f}", f"**{ours:.1f}**", f"{ours - figure:+.1f}"]
        rows.append([system, *cells])
    head = ["store", "train: prototype", "ours", "difference", "per-speaker: prototype", "ours", "difference"]
    return common.table(head, rows)


def gate_difference(gate: dict[str, Any], normalisation: str, first: str, second: str) -> dict[str, Any]:
    """Return a difference of a gate under a normalisation."""
    wanted = (normalisation, first, second)
    return next(d for d in gate["differences"] if (d["normalisation"], d["first"], d["second"]) == wanted)


def verdict_table(state: dict[str, Any], head: str) -> str:
    """Return the gate's difference under both normalisations, and the verdict, of every trained encoder."""
    rows = []
    for gate in state["gates"]:
        if gate["head"] != head:
            continue
        cells = []
        for mode in MODES:
            one = gate_difference(gate, mode, *PAIR)
            spread = "" if one["lowest"] is None else f" ({100 * one['lowest']:+.1f} to {100 * one['highest']:+.1f})"
            cells.append(f"{100 * one['difference']:+.1f} [{100 * one['low']:+.1f}, {100 * one['high']:+.1f}]{spread}")
        rows.append([gate["trained"], gate["control"] or "-", *cells, f"**{gate['verdict']}**"])
    return common.table(["trained", "untrained", *(mode.replace("_", "-") for mode in MODES), "gate"], rows)


def shown(one: dict[str, Any]) -> str:
    """Return a difference in points with its interval."""
    return f"{100 * one['difference']:+.1f} [{100 * one['low']:+.1f}, {100 * one['high']:+.1f}]"


def without_urdu(state: dict[str, Any], work: Path, head: str) -> list[tuple[str, str, list[dict[str, Any]]]]:
    """Return trained and untrained encoders of every gate, and the gate's differences over the corpora but URDU, by `MODES`."""
    from types import SimpleNamespace

    from repkit.evaluation.gate import judge
    from repkit.workflows.compare.scores import gate_table

    entries: Any = [SimpleNamespace(**{k: one[k] for k in ("name", "role", "family")}) for one in state["stores"]]
    runs: dict[tuple[str, str, str], dict[str, Path]] = {}
    for run in state["runs"]:
        if run["head"] == head and run["corpus"] != "urdu":
            of = runs.setdefault((head, run["normalisation"], run["corpus"]), {})
            of.update(dict.fromkeys(run["conditions"], work / run["path"]))
    found = []
    for gate in (one for one in state["gates"] if one["head"] == head):
        told = judge(gate_table(entries, gate["trained"], gate["control"], head, MODES, runs))
        pair = {d.normalisation: d.interval for d in told.differences if (d.first, d.second) == PAIR}
        ends = [{"difference": pair[m].value, "low": pair[m].low, "high": pair[m].high} for m in MODES]
        found.append((gate["trained"], gate["control"], ends))
    return found


def urdu_section(cases: list[tuple[str, str, str, list[dict[str, Any]]]]) -> list[str]:
    """Return what URDU does to the gate's per-speaker half, and the differences without it."""
    from repkit.evaluation.published_split import load_split

    split = load_split("urdu-v1")
    emotions: dict[str, set[str]] = {}
    for name, speaker in split.speaker_of.items():
        emotions.setdefault(speaker, set()).add(split.emotion_of[name])
    single = sum(len(one) == 1 for one in emotions.values())
    rows = [[trained, untrained, head, *map(shown, ends)] for trained, untrained, head, ends in cases]
    return [
        "## Without URDU",
        f"{single} of the {len(emotions)} speakers of URDU say one emotion only. Standardised by speaker, their vectors have lost it "
        "with the speaker's mean: UAR on URDU under per-speaker normalisation is near chance (25.0) or below it whatever was "
        "encoded, and means nothing. A quarter of the gate's per-speaker half hangs on it. The gate's differences again, mean over "
        "the other three corpora. **No verdict follows**: URDU is left out here after all numbers were seen.",
        common.table(["trained", "untrained", "read by", *(mode.replace("_", "-") for mode in MODES)], rows),
    ]


def findings(
    probe: dict[str, Any], ser: dict[str, Any], cases: list[tuple[str, str, str, list[dict[str, Any]]]]
) -> list[str]:
    """Return what the tables below decide, in sentences."""
    lines = []
    gates = [*((gate, "the linear SVM") for gate in probe["gates"] if gate["head"] == "probe")]
    gates += [(gate, "the attentive CNN") for gate in ser["gates"] if gate["head"] != "probe"]
    passed = [f"{gate['trained']} with {head}" for gate, head in gates if gate["verdict"] == "passed"]
    lines.append(
        f"The gate is passed by {', '.join(passed)}." if passed else f"The gate stays shut in all {len(gates)} cases."
    )
    above_both = [
        f"{one} ({head}: {shown(a)} and {shown(b)})" for one, _, head, (a, b) in cases if min(a["low"], b["low"]) > 0
    ]
    lines.append(
        "A quarter of its per-speaker half is URDU, where statistics by speaker take the emotion away ([below](#without-urdu)). "
        f"Over the other three corpora the interval lies above zero under both normalisations for {', '.join(above_both) or 'none'}; "
        "leaving a corpus out after the numbers were seen is no verdict."
    )
    for title, pair in (("beside the functionals", PAIR), ("alone", ("trained", "untrained"))):
        above = []
        for gate, head in gates:
            for mode in MODES:
                one = gate_difference(gate, mode, *pair)
                if one["low"] is not None and one["low"] > 0:
                    above.append(
                        f"{gate['trained']} ({head}, {mode.replace('_', '-')}: {100 * one['difference']:+.1f} "
                        f"[{100 * one['low']:+.1f}, {100 * one['high']:+.1f}])"
                    )
        told = "; ".join(above) or "none"
        lines.append(f"Trained above untrained, {title}, with an interval above zero: {told}.")
    uar = {
        (o["system"], o["normalisation"]): o["uar"]
        for o in probe["scores"]
        if (o["corpus"], o["head"]) == ("mean", "probe")
    }
    for mode in MODES:
        best = sorted(((100 * value, name) for (name, m), value in uar.items() if m == mode), reverse=True)[:3]
        floor = 100 * uar["functionals", mode]
        lines.append(
            f"Highest means over the four corpora, {mode.replace('_', '-')}: "
            + ", ".join(f"{name} {value:.1f}" for value, name in best)
            + f" (functionals alone {floor:.1f}); of {sum(m == mode for _, m in uar)} rows the highest is too high by chance."
        )
    return lines


def page(data: str, work: Path, steps: list[common.Step]) -> str:
    """Return the whole page."""
    from repkit.report.gate_page import score_header, score_rows, words
    from repkit.report.tables import table

    probe, ser = (common.read(work / folder, "compare.json") for folder in ("compare", "compare-ser"))
    for state, folder in ((probe, "compare"), (ser, "compare-ser")):
        if not state["complete"]:
            raise SystemExit(f"{folder} is not complete; run the script without --page-only")
    cnn = next(head for head in ser["heads"] if head != "probe")
    cases = [(one, other, "the linear SVM", ends) for one, other, ends in without_urdu(probe, work, "probe")]
    cases += [(one, other, "the attentive CNN", ends) for one, other, ends in without_urdu(ser, work, cnn)]
    parts = [(HERE / "stage_one_intro.md").read_text(encoding="utf-8").rstrip()]
    parts += ["## What was found", "\n".join(f"- {line}" for line in findings(probe, ser, cases))]
    parts += ["## The gate", GATE, verdict_table(probe, "probe"), *urdu_section(cases)]
    parts += ["## Beside the prototypes", prototype_table(probe)]
    for title, state, head in (("linear SVM", probe, "probe"), ("attentive CNN, 20 epochs", ser, cnn)):
        for mode in ("train", "per_speaker"):
            rows = score_rows(state, head, mode)
            parts += [f"## UAR, {title}, {words(mode)} normalisation", table(score_header(state), rows)]
    parts += ["## The gate with the attentive CNN", verdict_table(ser, cnn), "## Trainings", training_table(work)]
    parts += ["## Commands", common.commands_block(steps, data)]
    runs = dict.fromkeys(
        f"{Path(run['head']).stem}, {words(run['normalisation'])}, {run['corpus']} `{run['protocol_id']}`"
        for state in (probe, ser)
        for run in state["runs"]
    )
    parts.append("Protocols: " + "; ".join(runs) + ".")
    parts.append(common.how([work / run["path"] for run in probe["runs"][:1]]).partition("\n\n")[2])
    parts.append("This page was written by `python docs/results/stage_one.py --data DATA --work WORK`.")
    return "\n\n".join(parts) + "\n"


if __name__ == "__main__":
    common.main(__file__, commands, page)
