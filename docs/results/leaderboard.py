"""Make docs/results/leaderboard.md: speaker-independent scores on published folds, without self-supervised weights.

    python docs/results/leaderboard.py --data FOLDER --work FOLDER

FOLDER of the data holds emodb, emovo, ravdess, urdu and librispeech. Steps that are done are not repeated, so that the
script can be stopped and started. A system more is a line more in `SYSTEMS`.
"""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

import common

CORPORA = ("emodb", "emovo", "ravdess", "urdu")
OPENSMILE = {"IS09": "opensmile-IS09", "eGeMAPS": "opensmile-eGeMAPSv02", "ComParE": "opensmile-ComParE_2016"}
STATISTICS = {"statistics": "statistics-spectrogram"}
FUNCTIONALS = "functionals"
TRAINED = {
    "mix": ("cpc_prosody_functionals", 24, False),
    "mask": ("masked_spans", 24, False),
    "mixall": ("cpc_prosody_functionals", 24, True),
}
"""Recipe, epochs and whether the labelled corpora are heard too (without labels): trainings of docs/results/stage_one.py."""
JOINED = {f"functionals_and_{name}": f"{FUNCTIONALS}+embeddings/{name}-s0" for name in TRAINED}
OURS = {"functionals": FUNCTIONALS, **{name: f"{name}-s0" for name in TRAINED}, **JOINED}
EVERY = ("protocol.name=published_split", "labels.map=own")
FITTED = ("training.select_by=nested", "seeds=[0]", "normalisation.mode=global_train")
"""Fitted in one go: nothing is drawn, one seed is all; they read vectors alone, so that frames are not normalised by speaker."""
BY_TRAIN, BY_SPEAKER = ("vector.by=train",), ("vector.by=per_speaker", "vector.min_clips=1")
# per utterance and dimension of standardised vectors: 88 to 6373 dimensions need gammas from about 1/100 to 1/16 000
RBF = (
    "model.kernel=rbf",
    "model.c=[1.0, 4.0, 16.0]",
    "model.gamma=[6e-5, 2.5e-4, 1e-3, 4e-3]",
    "model.class_weight=balanced",
)
LINEAR = ("model.kernel=linear", "model.c=[1e-4, 1e-3, 1e-2, 1e-1]", "model.class_weight=balanced")
LOGISTIC = ("model.name=logistic_regression", "model.c=[1e-4, 1e-3, 1e-2, 1e-1]")

SYSTEMS: tuple[tuple[str, dict[str, str], tuple[str, ...]], ...] = (
    ("keesing2020_svm", OPENSMILE, (*FITTED, *BY_TRAIN, *RBF)),
    ("keesing2020_svm", {**OPENSMILE, **STATISTICS}, (*FITTED, *BY_TRAIN, *LINEAR)),
    ("keesing2020_svm", {"eGeMAPS": OPENSMILE["eGeMAPS"], **STATISTICS}, (*FITTED, *BY_TRAIN, *LOGISTIC)),
    ("keesing2020_svm", OPENSMILE, (*FITTED, *BY_SPEAKER, *RBF)),
    ("keesing2020_svm", {**OPENSMILE, **STATISTICS}, (*FITTED, *BY_SPEAKER, *LINEAR)),
    ("probe", {"functionals": FUNCTIONALS, **JOINED}, (*FITTED, *BY_TRAIN, *RBF)),
    ("probe", OURS, (*FITTED, *BY_TRAIN, *LINEAR)),
    ("probe", {"functionals": FUNCTIONALS, **JOINED}, (*FITTED, *BY_SPEAKER, *RBF)),
    ("probe", OURS, (*FITTED, *BY_SPEAKER, *LINEAR)),
    ("attentive_cnn", STATISTICS, ("training.epochs=20",)),
    (
        "keesing2020_a1",
        {},
        (
            "protocol.dev=none",
            "normalisation.mode=global_train",
            "training.class_weights=balanced",
            "training.epochs=15",
            "seeds=[0]",
        ),
    ),
    ("cross_corpus", {}, ("model.name=parry_cnn", "training.select_by=dev.uar", "training.epochs=15", "seeds=[0]")),
)
"""Recipe, vectors (condition to encoder) and settings of every system; each is run on every corpus."""

INTRO = """# Leaderboard: four small corpora, published folds, no self-supervised weights

**What this is.** Emotions of Emo-DB, EMOVO, RAVDESS and URDU, recognised in speakers that were never trained on, by systems of this
house that need no pretrained self-supervised weights. Every number is of the same published folds, comes from a run directory,
and is made again by the command beside it.

**Splits.** Speakers and utterance names of every fold are in the package, so that others can test the very same folds. The protocol
`published_split` reads them: any copy of a corpus will do that has all utterances under their official file names.

{splits}

**How to read it.** Systems are ranked by themselves if they use anything of the test speakers before they predict: their unlabelled
audio (normalisation or standardisation by speaker), or their label counts. A test fold of few speakers is noisy: look at the interval
and at the mark {same} before you look at the rank; and the first of many is first partly by luck. Settings are chosen on training and
dev speakers; a run that chose them on test is refused.

**A row of your own.** Train under the protocol, then rank your run with ours:

```console
$ repkit train-ser --recipe attentive_cnn --corpus emodb=PATH --set protocol.name=published_split
$ repkit leaderboard runs --out leaderboard.md
```

Report the split with its version, the protocol id, and the UAR with its interval. `protocol.dev=none` trains on the published dev
speakers too, for systems that choose nothing by dev. A system outside repkit takes the lists of the split files; its score is
comparable if every utterance of the split was tested once, by a system that has not seen the fold's test speakers.

## The best of each corpus

{best}
"""


def commands(data: str) -> list[common.Step]:
    """Return every repkit command in order."""
    # the spectrogram's bands are what the statistics are taken of; the network itself is not used
    speech = common.corpora_options(data, ("librispeech",))
    small = ["--set", "training.epochs=1", "--set", "training.hidden_size=8"]
    steps = [["pretrain-ae", "--recipe", "autoencoder", *speech, "--out", "runs/spectrogram", *small]]
    for name, (recipe, epochs, everything) in TRAINED.items():
        heard = common.corpora_options(data, ("librispeech", *CORPORA) if everything else ("librispeech",))
        sets = ["--set", "training.seed=0", "--set", f"training.epochs={epochs}", "--set", "training.export=best"]
        steps.append(["pretrain-ae", "--recipe", recipe, *heard, "--out", f"runs/{name}-s0", *sets])
    encoders = [f"opensmile:{name.removeprefix('opensmile-')}" for name in OPENSMILE.values()]
    ours = ["statistics:runs/spectrogram", FUNCTIONALS, *(f"runs/{name}-s0" for name in TRAINED)]
    for encoder in [*encoders, *ours]:
        steps.append(["embed", "--encoder", encoder, *common.corpora_options(data, CORPORA), "--out", "embeddings"])
    for recipe, vectors, settings in SYSTEMS:  # so that an interrupted script has the quick systems of all corpora
        for corpus in CORPORA:
            given = [
                word for name, folder in vectors.items() for word in ("--embeddings", f"{name}=embeddings/{folder}")
            ]
            sets = [word for setting in (*EVERY, *settings) for word in ("--set", setting)]
            steps.append(["train-ser", "--recipe", recipe, *common.corpora_options(data, (corpus,)), *given, *sets])
    return steps


def split_table() -> str:
    """Return what the published splits are and by which rules they were made."""
    from repkit.evaluation.published_split import load_split, split_names

    rows: list[list[str]] = []
    rules: dict[str, list[str]] = {}
    for split in map(load_split, split_names()):
        link = f"[{split.name}](../../repkit/evaluation/splits/{split.name}.json)"
        sizes = [len(split.speaker_of), len(split.gender_of), len(split.folds)]
        rows.append([link, split.release, *map(str, sizes), f"`{split.sha256[:12]}`"])
        rules.setdefault(split.rule, []).append(split.name)
    table = common.table(["split", "release", "utterances", "speakers", "folds", "sha256"], rows)
    return table + "\n\n" + "\n".join(f"- {', '.join(names)}. {rule}" for rule, names in rules.items())


def best_table(groups: list[dict[str, Any]]) -> str:
    """Return the first system of each corpus, of both kinds."""
    rows = []
    for group in groups:
        for kind in ("inductive", "transductive"):
            for row in group[kind][:1]:
                pooled = row["uar_pooled"]
                tied = sum(not other["against_first"]["told_apart"] for other in group[kind][1:])
                rows.append(
                    [
                        group["corpus"],
                        kind,
                        f"{row['system']} ({row['model']})",
                        f"**{common.percent(row['uar']['mean'])}**",
                        common.percent(pooled["mean"], pooled["low"], pooled["high"]),
                        common.percent(group["chance"]),
                        f"{tied} of {len(group[kind]) - 1}",
                    ]
                )
    header = [
        "corpus",
        "kind",
        "system",
        "UAR mean",
        "UAR pooled [95 % interval]",
        "chance",
        "others not shown to be worse",
    ]
    return common.table(header, rows)


def page(data: str, work: Path, steps: list[common.Step]) -> str:
    """Return the whole page, of those steps that are finished."""
    from repkit.report.leaderboard import make_board
    from repkit.report.leaderboard_page import SAME, board_markdown

    trained = [step for step in steps if step[0] == "train-ser"]
    found = {shlex.join(step): common.finished(work, step) for step in trained}
    missing = [text.replace(data, "DATA") for text, folder in found.items() if folder is None]
    folders = [folder for folder in found.values() if folder is not None]
    if not folders:
        raise SystemExit("no run is finished; run the script without --page-only")
    board = make_board(folders)
    environment = common.read(folders[0], "environment.json")
    versions = ", ".join(f"{name} {version}" for name, version in environment["packages"].items())
    minutes = sum(common.read(folder, "status.json")["seconds"] for folder in folders) / 60
    parts = [
        INTRO.replace("{splits}", split_table())
        .replace("{same}", SAME)
        .replace("{best}", best_table(board.groups))
        .rstrip(),
        board_markdown(board),
        *(["## Not run\n\n" + "\n".join(f"- `{text}`" for text in missing)] if missing else []),
        "## Vectors",
        "Made before the systems that read them. *statistics* are mean and deviation of each band of a spectrogram; the autoencoder that "
        "is trained for one epoch only lends it that spectrogram. *mix*, *mask* and *mixall* are encoders of stage one that no label was "
        "given to ([what they are worth](stage_one.md)); *mixall* has heard the audio of all four corpora, *mix* and *mask* LibriSpeech "
        "alone. The fold of a system is ranked as transductive where its encoder has heard it.",
        common.commands_block([step for step in steps if step[0] != "train-ser"], data),
        f"Wall time of all runs together, {environment['cores']} processes: {minutes:.0f} min (other work ran on the machine at the same "
        "time; no speed claim).",
        f"Environment: repkit {environment['repkit']}, Python {environment['python']}, {versions}; plugins "
        f"{', '.join(environment['plugins'])}.",
        "This page was written by `python docs/results/leaderboard.py --data DATA --work WORK`.",
    ]
    return "\n\n".join(parts) + "\n"


if __name__ == "__main__":
    common.main(__file__, commands, page)
