"""Make docs/results/keesing2020.md: the paper's systems on Emo-DB and RAVDESS beside its table, and on EMOVO and URDU.

    python docs/results/keesing2020.py --data FOLDER --work FOLDER

Steps that are done are not repeated, so that the script can be stopped and started. A cell more is a line more in `CELLS`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import common
import keesing2020_models

HERE = Path(__file__).parent
TABLE = "results/keesing2020"
# what two cores can run in an evening; the full recipe where there are no settings
CELLS: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("SVM-IS09/emodb", ()),
    ("SVM-IS09-nested/emodb", ()),
    ("SVM-IS09/ravdess", ()),
    ("SVM-IS09-nested/ravdess", ()),
    ("A1/emodb", ("--seeds", "1")),
    ("A2/emodb", ("--seeds", "1")),
    ("A3/emodb", ("--seeds", "1")),
    ("L/emodb", ("--seeds", "1")),
    ("O/emodb", ("--seeds", "1")),
    ("A1/ravdess", ("--seeds", "1", "--set", "training.epochs=15")),
    ("A2/ravdess", ("--seeds", "1", "--set", "training.epochs=15")),
    # all its utterances are equally long: batches by length would be those of the files' order, of one emotion each
    ("A3/ravdess", ("--seeds", "1", "--set", "training.epochs=15", "--set", "training.sampler=shuffle")),
    ("L/ravdess", ("--seeds", "1", "--set", "training.epochs=15")),
)
URDU = (
    "Every speaker is standardised by its own clips: of URDU's 29 speakers 26 say one emotion only, so that their means take the emotion "
    "away. A score at chance (25.0) says nothing of the system there."
)
OTHERS = ("emovo", "urdu")
GROUPS = {
    "speakers in the order of their numbers, as published": (),
    "women and men dealt evenly": ("protocol.gender_balanced=true",),
}
"""How 24 speakers of RAVDESS become six groups."""
BATCHES = {
    "lengths as they are (the row above)": (),
    "lengths rounded up to 64 frames, as the published code sorts them": ("training.length_step_frames=64",),
    "lengths as they are, neighbours drawn anew each epoch": ("training.sampler=length_binned",),
}
"""How A1's utterances of RAVDESS are sorted into batches; all for as many epochs as the cell."""


def commands(data: str) -> list[common.Step]:
    """Return every repkit command in order."""
    both = common.corpora_options(data, ("emodb", "ravdess"))
    steps: list[common.Step] = [
        ["reproduce", "keesing2020", *both, "--only", cell, "--out", TABLE, *settings] for cell, settings in CELLS
    ]
    vectors = ["--embeddings", "IS09=embeddings/opensmile-IS09"]
    steps.append(["embed", "--encoder", "opensmile:IS09", *common.corpora_options(data, OTHERS), "--out", "embeddings"])
    for corpus in OTHERS:
        for selection in ("test", "nested"):
            steps.append(_svm(data, corpus, vectors, f"training.select_by={selection}"))
    for settings in GROUPS.values():
        steps.append(_svm(data, "ravdess", vectors, "training.select_by=test", *settings))
    fewer = ("seeds=[0]", "training.epochs=15")
    steps += [
        [
            "train-ser",
            "--recipe",
            "keesing2020_a1",
            *common.corpora_options(data, ("ravdess",)),
            *_sets(*fewer, *settings),
        ]
        for settings in BATCHES.values()
        if settings
    ]
    return steps


def _svm(data: str, corpus: str, vectors: list[str], *settings: str) -> common.Step:
    return [
        "train-ser",
        "--recipe",
        "keesing2020_svm",
        *common.corpora_options(data, (corpus,)),
        *vectors,
        *_sets(*settings),
    ]


def _sets(*settings: str) -> list[str]:
    return [word for setting in settings for word in ("--set", setting)]


def cell_table(cells: list[dict[str, Any]]) -> str:
    """Return the measured cells beside the paper's."""
    rows = []
    for cell in cells:
        if cell["state"] != "measured":
            continue
        ours, value = cell["ours"], cell["paper"]["value"]
        rows.append(
            [
                f"{cell['system']}, {cell['corpus']}",
                f"{value:.1f}" if value is not None else "-",
                f"**{100 * ours['value']:.1f}**",
                f"[{100 * ours['low']:.1f}, {100 * ours['high']:.1f}]",
                f"{100 * ours['difference']:+.1f}" if ours.get("difference") is not None else "-",
                ours.get("verdict") or "-",
                str(len(ours["seeds"])),
                "; ".join(cell["differs"]) or "-",
                f"`{cell['run']['protocol_id']}`",
            ]
        )
    head = ["cell", "paper", "ours", "95 % interval", "ours - paper", "published is", "seeds", "differs", "protocol"]
    return common.table(head, rows)


def run_row(name: str, folder: Path) -> list[str]:
    """Return the score of a run of one condition."""
    results = common.read(folder, "results.json")
    (score,) = [s for s in common.of(results["scores"], "emotion") if s["checkpoint"] == "selected"]
    pooled = score["uar_pooled"]
    return [
        name,
        f"**{common.percent(score['uar']['mean'])}**",
        common.percent(pooled["mean"], pooled["low"], pooled["high"]),
        f"`{results['protocol_id']}`",
    ]


def order_section(data: str, cells: list[dict[str, Any]], folders: list[Path]) -> list[str]:
    """Return the section on how RAVDESS is sorted into batches, empty where A1 was not run on it.

    Args:
        data: folder of the corpora.
        cells: of the reproduction.
        folders: of the runs of `BATCHES` that are no cell.
    """
    mine = [cell for cell in cells if _is(cell, "A1/ravdess")]
    if not mine:
        return []
    cell = mine[0]
    scores = {next(iter(BATCHES)): cell_score(cell)} | {
        name: run_score(folder) for name, folder in zip(list(BATCHES)[1:], folders)
    }
    rows = [
        [name, *classes_in_a_batch(data, "ravdess", settings), f"**{value:.1f}**", f"[{low:.1f}, {high:.1f}]"]
        for (name, settings), (value, low, high) in zip(BATCHES.items(), scores.values())
    ]
    head = [
        "A1, ravdess, 15 epochs, one seed; batches sorted by",
        "emotions in a batch",
        "batches of one emotion",
        "UAR",
        "95 % interval",
    ]
    mixed = ", ".join(classes_in_a_batch(data, "emodb", settings)[0] for settings in BATCHES.values())
    return [
        "## What the batches of RAVDESS hold\n\nThe published code pads every utterance to a multiple of 64 frames, sorts by length and "
        "cuts batches of 32, whose members never change. Most of RAVDESS is then equally long; such utterances stand in the "
        "order of their file names, and these name the emotion before the speaker. So batches hold few emotions, in every epoch the "
        "same. On Emo-DB, whose names begin with "
        f"the speaker, the three orders leave {mixed} of seven emotions in a batch.",
        common.table(head, rows),
    ]


def cell_score(cell: dict[str, Any]) -> tuple[float, float, float]:
    """Return UAR and its interval in percent."""
    ours = cell["ours"]
    return 100 * ours["value"], 100 * ours["low"], 100 * ours["high"]


def run_score(folder: Path) -> tuple[float, float, float]:
    """Return UAR (mean over folds) and the interval of the pooled one, in percent, of a run of one condition."""
    results = common.read(folder, "results.json")
    (score,) = [s for s in common.of(results["scores"], "emotion") if s["checkpoint"] == "selected"]
    pooled = score["uar_pooled"]
    return 100 * score["uar"]["mean"], 100 * pooled["low"], 100 * pooled["high"]


def classes_in_a_batch(data: str, name: str, settings: tuple[str, ...]) -> list[str]:
    """Return the mean number of emotions in the first epoch's batches of a corpus, over folds, and the share with a single one."""
    import numpy as np
    import torch

    import repkit
    from repkit.config import SerRecipe, load_recipe
    from repkit.training.batches import Pool, epoch_batches

    table = load_recipe(SerRecipe, "keesing2020_a1", list(settings)).training
    corpus = repkit.open_corpus(name, f"{data}/{name}")
    utterances = {utterance.id: utterance for utterance in corpus.utterances()}
    frames = {i: 1 + (len(corpus.read(utterance)) - 400) // 160 for i, utterance in utterances.items()}
    held = []
    for fold in repkit.make_folds(list(utterances.values()), dev="none"):
        ids = [i for i in utterances if i in set(fold.train)]
        step = table.length_step_frames
        lengths = torch.tensor([-(-frames[i] // step) * step for i in ids])
        pool = Pool(torch.arange(len(ids)), lengths)
        for items, _ in epoch_batches([pool], table.sampler, table.batch_size, None, 0, 1):
            held.append(len({utterances[ids[place]].emotion for place in items.tolist()}))
    return [f"{np.mean(held):.1f}", f"{100 * np.mean(np.array(held) == 1):.0f} %"]


def page(data: str, work: Path, steps: list[common.Step]) -> str:
    """Return the whole page."""
    cells = common.read(work / TABLE, "cells.json")["cells"]
    trained = [step for step in steps if step[0] == "train-ser"]
    found = [common.finished(work, step) for step in trained]
    if None in found:
        raise SystemExit("not all runs are finished; run the script without --page-only")
    folders = [folder for folder in found if folder is not None]
    n, svms = 2 * len(OTHERS), 2 * len(OTHERS) + len(GROUPS)
    names = [f"{corpus}, settings chosen on {kind}" for corpus in OTHERS for kind in ("test", "training speakers")]
    head = ["SVM-IS09", "UAR mean over folds", "UAR pooled [95 % interval]", "protocol"]
    measured = [step for step, (cell, _) in zip(steps, CELLS) if any(_is(c, cell) for c in cells)]
    parts = [
        (HERE / "keesing2020_intro.md").read_text(encoding="utf-8").rstrip(),
        "## The paper's table\n\nUAR in percent, mean over folds, then over seeds. The interval draws speakers; *inside* and *outside* "
        "tell whether the published number lies in it.",
        cell_table(cells),
        not_run(cells),
        "## Corpora that the paper does not have",
        common.table(head, [run_row(name, folder) for name, folder in zip(names, folders[:n])]),
        URDU,
        "## How the 24 speakers of RAVDESS are grouped\n\nSVM-IS09, settings chosen on test. The published rule takes speakers of equal "
        "size in the order of their numbers, which alternate between women and men: each of its six groups then holds one gender.",
        common.table(head, [run_row(name, folder) for name, folder in zip(GROUPS, folders[n:svms])]),
        *order_section(data, cells, folders[svms:]),
        *batches_section(data, work, cells),
        *statistics_section(data, work, cells),
        "## What was found\n\n" + "\n".join(f"- {line}" for line in findings(cells, run_score(folders[svms]))),
        "## Commands",
        common.commands_block([*measured, *steps[len(CELLS) :]], data),
        common.how(folders).partition("\n\n")[2],
        "This page was written by `python docs/results/keesing2020.py --data DATA --work WORK`.",
    ]
    return "\n\n".join(parts) + "\n"


def batches_section(data: str, work: Path, cells: list[dict[str, Any]]) -> list[str]:
    """Return the section on the batches of the test part, empty where Latif's network was not run."""
    measured = [cell for cell in cells if _is(cell, "L/emodb")]
    return [
        section
        for cell in measured
        for section in (
            "## Latif's network hears the silence that fills a batch\n\nThe models of the row L, emodb, with the test utterances of each "
            "fold in batches of several sizes, in the order of their lengths. As published the LSTM reads on through the zeros that "
            "fill a batch to its longest utterance. In training, batches of 32 of some 480 utterances hold nearly equal lengths and "
            "few zeros; the test part of a fold is 35 to 71 utterances, two or three batches with many. The paper's batches are of 32, "
            "and so are those of the row above: the score moves by more than the difference from the paper with that choice alone. To "
            "choose another by this table would be to choose on test; `model.padding=masked` hears no silence.",
            keesing2020_models.batches_table(data, work, cell),
        )
    ]


def statistics_section(data: str, work: Path, cells: list[dict[str, Any]]) -> list[str]:
    """Return the section on Zhao's batch normalisation, empty where the network was not run."""
    return [
        section
        for cell in cells
        if _is(cell, "O/emodb")
        for section in (
            "## The running statistics of Zhao's network lag behind\n\nThe models of the row O, emodb, tested with other statistics in "
            "their batch normalisation. As published a running mean forgets a hundredth of itself with each batch (Keras' momentum "
            "0.99), and an epoch of Emo-DB is eight batches of 64: at the end it is that of weights of a dozen epochs. Measured once more "
            "on the training utterances, which needs no test audio, it is that of the weights which are tested. The last row uses the "
            "test speaker's audio without labels. No row but the first was used for anything.",
            keesing2020_models.statistics_table(data, work, cell),
        )
    ]


def _is(cell: dict[str, Any], name: str) -> bool:
    return cell["state"] == "measured" and f"{cell['system']}/{cell['corpus']}" == name


def not_run(cells: list[dict[str, Any]]) -> str:
    """Return a sentence that names the systems of the paper's table which were not run, by corpus."""
    lines = []
    for corpus in ("emodb", "ravdess"):
        systems = [
            c["system"] for c in cells if c["corpus"] == corpus and c["state"] != "measured" and c["system"] != "human"
        ]
        if systems:
            lines.append(f"{', '.join(systems)} on {corpus}")
    others = f"all networks on {' and '.join(OTHERS)}"
    return f"**Not run:** {'; '.join([*lines, others])}."


def findings(cells: list[dict[str, Any]], rounded: tuple[float, float, float]) -> list[str]:
    """Return one sentence for each claim that the measured cells can decide.

    Args:
        cells: of the reproduction.
        rounded: score of A1 on RAVDESS with lengths rounded up before they are sorted.
    """
    by_name = {f"{c['system']}/{c['corpus']}": c for c in cells if c["state"] == "measured"}
    lines = []
    for name, most in (
        ("SVM-IS09/emodb", 1.0),
        ("SVM-IS09/ravdess", 1.0),
        ("A1/emodb", 3.0),
        ("A2/emodb", 3.0),
        ("A3/emodb", 3.0),
        ("L/emodb", 3.0),
        ("O/emodb", 3.0),
        ("L/ravdess", 3.0),
    ):
        if name in by_name:
            gap = 100 * by_name[name]["ours"]["difference"]
            lines.append(
                f"**{name}**: ours minus the paper's {gap:+.1f} points, {'within' if abs(gap) <= most else 'not within'} "
                f"{most:g}."
            )
    if "O/emodb" in by_name:
        lines.append(
            "**O on Emo-DB** is held down by its batch normalisation (section above): with statistics of the weights that are tested, "
            "measured on the training utterances alone, the same models are far above the published number, which the same momentum may "
            "hold down too."
        )
    if "A1/ravdess" in by_name:
        cell = by_name["A1/ravdess"]
        (value, low, high), published = cell_score(cell), cell["paper"]["value"]
        text = f"**A1 on RAVDESS**: {value:.1f} [{low:.1f}, {high:.1f}] with mixed batches, though for fewer epochs; the paper has {published:.1f}."
        if rounded[0] < published < low:
            text += (
                f" With lengths rounded up before they are sorted, as published, the same network falls to {rounded[0]:.1f}. The published "
                "number lies between; the published sort need not keep equally long utterances in order, so that its batches may have been "
                "mixed more than ours. Batches of few emotions could explain it; one seed and fewer epochs tell no more. A3 "
                "(60.0), all of whose utterances are equally long, would have such batches too if its files stood in the same order, "
                "which we cannot tell."
            )
        lines.append(text)
    for name, words in (
        ("A2/ravdess", "**A2 on RAVDESS**, whose batches are those of A1: {} with mixed ones"),
        (
            "A3/ravdess",
            "**A3 on RAVDESS**, its batches drawn anew in every epoch (by length they would stand in the order of the files): {}",
        ),
    ):
        if name in by_name:
            value, low, high = cell_score(by_name[name])
            published = by_name[name]["paper"]["value"]
            lines.append(f"{words.format(f'{value:.1f} [{low:.1f}, {high:.1f}]')}; the paper has {published:.1f}.")
    return lines


if __name__ == "__main__":
    common.main(__file__, commands, page)
