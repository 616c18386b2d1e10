"""Make docs/results/cross_corpus.md: Parry et al. 2019 on four corpora, unseen and in union.

    python docs/results/cross_corpus.py --data FOLDER --work FOLDER

The autoencoder and its embeddings are those of docs/results/neumann2019.py. Steps that are done are not repeated.
"""

from __future__ import annotations

import json
import math
from collections import Counter
from pathlib import Path
from typing import Any

import common
import neumann2019

CORPORA = ("emodb", "emovo", "ravdess", "urdu")
HERE = Path(__file__).parent
MODELS = ("cnn", "lstm", "cnn_lstm")


def steps(data: str) -> list[common.Step]:
    """Return what makes the embeddings, then the three runs."""
    made = [step for step in neumann2019.commands(data) if step[0] in ("pretrain-ae", "embed")]
    vectors = [step for step in made if any(word.endswith("runs/ae-librispeech") for word in step)]
    return vectors + [
        ["train-ser", "--recipe", str(HERE / f"cross_corpus_{name}.toml"), *common.corpora_options(data, CORPORA)]
        for name in ("unseen", "union", "vectors")
    ]


def plateau(folder: Path, results: dict[str, Any]) -> str:
    """Return how the models start and end under the paper's choices, and with one thing changed."""
    import pandas as pd

    counts = Counter(pd.read_parquet(folder / "utterances.parquet")["target_emotion"])
    total = sum(counts.values())
    entropy = -sum(n / total * math.log(n / total) for n in counts.values())
    rows = []
    for score in common.of(results["scores"], "emotion"):
        name = score["condition"]
        if not name.startswith(MODELS):
            continue
        predicted = [sum(row[place] for row in score["confusion"]) for place in range(3)]
        losses = []
        for file in sorted(folder.glob(f"jobs/{name}/seed_*/*/metrics.jsonl")):
            history = [json.loads(line) for line in file.read_text().splitlines()]
            losses.append((history[0]["train_loss"], history[-1]["train_loss"]))
        first, last = (sum(pair[i] for pair in losses) / len(losses) for i in (0, 1))
        rows.append(
            [
                name,
                f"{first:.3f}",
                f"{last:.3f}",
                f"{100 * predicted[0] / sum(predicted):.0f}",
                common.percent(score["uar_pooled"]["mean"], score["uar_pooled"]["low"], score["uar_pooled"]["high"]),
            ]
        )
    head = ["condition", "loss, first epoch", "loss, last epoch", "called negative, %", "UAR pooled"]
    return (
        common.table(head, rows)
        + f"\n\nEntropy of the class shares: {entropy:.3f} nats, what an unweighted model reaches that has learnt nothing but "
        f"them; {math.log(3):.3f} with balanced weights. {100 * counts['negative'] / total:.0f} % of all utterances are negative."
    )


def paper_table(results: dict[str, Any]) -> str:
    """Return table 3 of the paper beside our union, per corpus that both have."""
    ours = {
        (r["condition"], r["corpus"]): r["uar"]["mean"]
        for r in common.of(results["corpora"], "emotion")
        if r["held_out"] is False
    }
    rows = []
    for value in common.paper_rows("parry2019"):
        corpus = value["corpus"].lower()
        if corpus in CORPORA:
            mine = ours.get((value["condition"], corpus))
            rows.append([corpus, value["condition"], f"{value['uar']:.1f}", common.percent(mine)])
    return common.table(["corpus", "model", "paper, 6 corpora", "ours, 4 corpora"], rows)


def vector_table(results: dict[str, Any]) -> str:
    """Return what each vector adds to the attentive CNN, and Li to its controls, per corpus and in the mean."""
    pairs = [(c, "none") for c in ("Li", "untrained", "statistics")] + [("Li", "untrained"), ("Li", "statistics")]
    by_corpus = {
        (d["condition"], d["against"], d["corpus"]): d for d in common.of(results["corpus_differences"], "emotion")
    }
    whole = {(d["condition"], d["against"]): d for d in common.of(results["differences"], "emotion")}
    rows = [
        [
            f"{one} - {other}",
            *(common.points(by_corpus[one, other, c]) if (one, other, c) in by_corpus else "-" for c in CORPORA),
            common.points(whole[one, other]),
        ]
        for one, other in pairs
        if (one, other) in whole
    ]
    return common.table(["difference", *CORPORA, "pooled over the corpora"], rows)


def vector_claim(results: dict[str, Any]) -> str:
    """Return in one sentence whether the vector helps on unseen corpora, and more than its controls."""
    found = common.of(results["differences"], "emotion")
    said = []
    for other in ("none", "untrained", "statistics"):
        d = common.find_difference(found, "Li", other)
        said.append(f"over {other} {common.points(d)}" if d else f"over {other} not compared")
    shown = [common.find_difference(found, "Li", other) for other in ("none", "untrained", "statistics")]
    verdicts = [d["verdict"] if d else "cannot tell" for d in shown]
    if all(v == "helps" for v in verdicts):
        start = "shown here, and beyond both controls"
    elif verdicts[0] == "helps":
        start = "shown here over no vector, but not beyond both controls, so that the training cannot take the credit"
    else:
        start = "not shown here"
    return f"- **A stage-one vector helps the attentive CNN on corpora never heard**: {start}. Li, UAR pooled, {'; '.join(said)}."


def claims(unseen: dict[str, Any], union: dict[str, Any]) -> list[str]:
    """Return one plain sentence for each claim, decided by the intervals."""
    lines = []
    means = {r["condition"]: r["uar"] for r in common.of(unseen["corpus_means"], "emotion") if r["over"] == "held_out"}
    above = [c for c in means if means[c]["low"] > 1 / 3]
    best = max(means, key=lambda c: means[c]["mean"])
    lines.append(
        "**Training on several corpora carries over to an unseen one** (paper: 45.1 to 49.5 on TESS, chance 33.3). "
        + (
            f"Holds here for {', '.join(above)}: the interval of the mean over the four unseen corpora is above chance"
            if above
            else "Not shown here: no interval of the mean over the four unseen corpora is above chance"
        )
        + f"; best is {best} with {common.percent(means[best]['mean'], means[best]['low'], means[best]['high'])}."
    )
    for name, results, over in (("unseen", unseen, "held_out"), ("union", union, "trained_on")):
        found = common.mean_differences(results, "emotion", over) or common.mean_differences(results, "emotion", "all")
        d = common.find_difference(found, "cnn_lstm", "cnn")
        if d is not None:
            said = {
                "helps": "holds here",
                "hurts": "does not hold here",
                "does not help": "does not hold here",
            }.get(d["verdict"], "cannot be told at this size")
            lines.append(
                f"**CNN-LSTM is the best on average** (paper, recomputed: 58.5 against 55.1 for CNN), {name}: {said}, "
                f"CNN-LSTM minus CNN {common.points(d, note=True)}."
            )
    chance = [
        score["condition"]
        for score in common.of(union["scores"], "emotion")
        if score["condition"].endswith("_paper") and abs(score["uar_pooled"]["max"] - 1 / 3) < 1e-9
    ]
    lines.append(
        "**Models trained with the paper's choices can end as all-negative, 33.33** (paper, table 2: most cells): "
        + (f"seen here for {', '.join(chance)}, every seed; see the plateau." if chance else "not seen here.")
    )
    return [f"- {line}" for line in lines]


def stage_one_section(vectors: dict[str, Any]) -> list[str]:
    """Return the section on vectors and their controls."""
    return [
        f"## What stage one brings to them\n\nAttentive CNN without a vector and with three, protocol `{vectors['protocol_id']}`. Controls: the "
        "same encoder untrained, and mean and standard deviation per band without any network. Each is standardised on train.",
        common.corpus_table(vectors, "emotion", CORPORA, True),
        vector_table(vectors),
    ]


def page(data: str, work: Path, given: list[common.Step]) -> str:
    """Return the whole page."""
    trained = [step for step in given if step[0] == "train-ser"]
    folders = [common.finished(work, step) for step in trained]
    if None in folders[:2]:
        raise SystemExit("not all runs are finished; run the script without --page-only")
    done = [folder for folder in folders if folder is not None]
    common.check_same_stores(done)
    unseen, union, *more = (common.read(folder, "results.json") for folder in done)
    parts = [
        (HERE / "cross_corpus_intro.md").read_text(encoding="utf-8").rstrip(),
        f"## Corpora never heard\n\nUAR in percent, protocol `{unseen['protocol_id']}`, each corpus held out whole in its turn.",
        common.corpus_table(unseen, "emotion", CORPORA, True),
        *(stage_one_section(more[0]) if more else []),
        f"## Union\n\nUAR in percent on further speakers of each corpus, protocol `{union['protocol_id']}`.",
        common.corpus_table(union, "emotion", CORPORA, False),
        "## The plateau\n\nConditions ending in `_paper` train as the paper does (unweighted cross-entropy, SGD 0.01 with momentum "
        "0.9, the epoch of the best error rate); `_paper_norm` adds batch normalisation of the mean over time, and nothing else.",
        plateau(done[1], union),
        "Per-utterance normalisation sets the mean over time of every band to zero, so the mean over time of any linear map of the "
        "frames is the same for all utterances. A network whose units work near zero is nearly such a map: it cannot tell "
        "utterances apart before it has become non-linear, and patience on the error rate ends it there. An all-negative model "
        "scores 33.33, the value that fills table 2 of the paper.",
        "## The paper's numbers\n\nTable 3 (cross-corpus training), UAR; ours are smaller models of other corpora.",
        paper_table(union),
        "## What can be read from the last hidden layer\n\nLinear probe on held-out speakers, UAR in percent; union.",
        common.probe_table(union, ("corpus", "emotion", "gender")),
        "## Claims",
        "\n".join([*claims(unseen, union), *(vector_claim(results) for results in more)]),
        "## Commands",
        common.commands_block(given[: len(given) - len(trained) + len(done)], data).replace(str(HERE), "docs/results"),
        common.how(done),
        "This page was written by `python docs/results/cross_corpus.py --data DATA --work WORK`.",
    ]
    return "\n\n".join(parts) + "\n"


if __name__ == "__main__":
    common.main(__file__, steps, page)
