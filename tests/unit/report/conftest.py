"""A run directory with known predictions, as train-ser would leave it, made without any training."""

import hashlib
import json

import numpy as np
import pandas as pd
import pytest
from safetensors.numpy import save_file

from repkit.evaluation.predictions import prediction_table, write_predictions

EMOTIONS = ("anger", "happiness", "neutral", "sadness")
AROUSAL = ("low", "medium", "high")
VIEWS = {"emotion": EMOTIONS, "arousal": AROUSAL}
SKILL = {"BL": 0.45, "C": 0.6, "Li": 0.75, "untrained": 0.6, "stats": 0.72}


def skilled(condition, seed, fold, view, utterance, label, classes):
    """Right with the condition's skill, by a hash of names; so that all runs of the helper agree."""
    number = hash_of(condition, seed, view, utterance)
    right = number % 1000 < 1000 * SKILL.get(condition, 0.5)
    return label if right else classes[number // 1000 % len(classes)]


def hash_of(*names):
    return int.from_bytes(hashlib.sha256("/".join(map(str, names)).encode()).digest()[:6], "big")


# name: language, speakers, utterances of each speaker and class, classes
CORPORA = {
    "emodb": ("de", 4, 3, EMOTIONS),
    "iemocap": ("en", 4, 4, EMOTIONS),
    "savee": ("en", 2, 3, ("anger", "happiness", "neutral")),
    "tess": ("en", 2, 2, ("anger", "sadness")),
}
SYSTEMS = (
    {"name": "plain"},
    {"name": "dann", "set": {"objectives": [{"name": "multi_view"}, {"name": "domain_adversarial"}]}},
    {"name": "heard", "set": {"target_audio": "test"}},
)


def corpora_utterances(corpora=CORPORA):
    rows = []
    for corpus, (language, n_speakers, n_each, classes) in corpora.items():
        for s in range(n_speakers):
            for k in range(n_each * len(classes)):
                emotion = classes[k % len(classes)]
                rows.append(
                    {
                        "id": f"{corpus}/{s:02d}_{k:03d}", "corpus": corpus, "speaker": f"{corpus}/{s:02d}",
                        "session": None, "gender": ("female", "male")[s % 2], "language": language,
                        "emotion": emotion, "duration_s": 2.0, "target_emotion": emotion,
                    }
                )  # fmt: skip
    return pd.DataFrame(rows)


def corpora_folds(table, kind):
    """Folds that leave each corpus out, rotate halves of every corpus' speakers, or train on one and test on all."""
    corpora = sorted(table["corpus"].unique())
    first = set(table.groupby("corpus")["speaker"].min())

    def ids(rows):
        return rows["id"].tolist()

    folds = []
    if kind == "leave_one_out":
        for corpus in corpora:
            rest = table[table["corpus"] != corpus]
            dev = rest["speaker"].isin(first)
            folds.append((f"corpus_{corpus}", ids(rest[~dev]), ids(rest[dev]), ids(table[table["corpus"] == corpus])))
    elif kind == "union":
        for part in (0, 1):
            test = table["speaker"].str[-2:].astype(int) % 2 == part
            folds.append((f"rotation_{part}", ids(table[~test]), [], ids(table[test])))
    else:
        for corpus in corpora:
            train = (table["corpus"] == corpus) & ~table["speaker"].isin(first)
            folds.append((f"train_{corpus}", ids(table[train]), [], ids(table[~train])))
    return [(name, dict(zip(("train", "dev", "test"), parts)) | {"unlabelled": []}) for name, *parts in folds]


def make_corpora_run(
    run, kind="leave_one_out", conditions=SYSTEMS, seeds=(0, 1), corpora=CORPORA, skill=None, hidden=None, reference="plain",
    paper=(), epochs=3, audit=(), done=None,
):  # fmt: skip
    """Write a run of several corpora.

    skill(condition, corpus, held_out) is the share of right answers; hidden(condition, rows, rng) the last hidden layer.
    """
    run.mkdir()
    skill = skill or (lambda condition, corpus, held_out: {"plain": 0.5, "dann": 0.7}.get(condition, 0.6))
    table = corpora_utterances(corpora)
    table.to_parquet(run / "utterances.parquet")
    by_id = table.set_index("id", drop=False).astype(object)
    corpus_of, emotion_of = (dict(zip(table["id"].tolist(), table[c].tolist())) for c in ("corpus", "emotion"))
    folds = corpora_folds(table, kind)
    views = {"emotion": EMOTIONS}
    protocol = {
        "id": "abcdef012345",
        "parts": {
            "corpora": {name: "e" * 64 for name in corpora}, "label_map": "own", "category_map": None,
            "views": {"emotion": list(EMOTIONS)}, "protocol": {"name": kind}, "folds_sha256": "cd" * 32,
        },
        "audit": list(audit),
        "folds": [{"name": n, **{part: len(ids) for part, ids in split.items()}} for n, split in folds],
    }  # fmt: skip
    resolved = {
        "schema": 1, "name": "cross", "description": "", "seeds": list(seeds), "baseline": False,
        "conditions": [{"embeddings": None, "fusion": None, "set": {}, **c} for c in conditions],
        "reference": reference, "paper": list(paper), "training": {"select_by": "dev.corpus_uar"},
    }  # fmt: skip
    (run / "protocol.json").write_text(json.dumps(protocol))
    (run / "resolved.json").write_text(json.dumps(resolved))
    for condition in resolved["conditions"]:
        name = condition["name"]
        for seed in seeds:
            for fold, split in folds:
                job = run / "jobs" / name / f"seed_{seed}" / fold
                job.mkdir(parents=True)
                rng = np.random.default_rng(hash_of(name, seed, fold))
                split = {**split, "unlabelled": split["test"] if "target_audio" in condition["set"] else []}
                used = {corpus_of[i] for part in ("train", "dev") for i in split[part]}
                tables = []
                for checkpoint in ("selected", "last"):
                    for part in ("dev", "test"):
                        ids = split[part]
                        if not ids:
                            continue
                        corpora_of = [corpus_of[i] for i in ids]
                        right = [rng.random() < skill(name, c, c not in used) for c in corpora_of]
                        places = [EMOTIONS.index(emotion_of[i]) for i in ids]
                        told = [p if r else (p + rng.integers(1, 4)) % 4 for p, r in zip(places, right)]
                        values = rng.dirichlet(np.ones(4), len(ids)) * 0.4
                        values[np.arange(len(ids)), told] += 0.6
                        tables.append(
                            prediction_table(
                                condition=name, seed=seed, fold=fold, part=part, checkpoint=checkpoint, view="emotion",
                                classes=EMOTIONS, ids=ids, labels=[emotion_of[i] for i in ids], probabilities=values,
                            )
                        )  # fmt: skip
                write_predictions(job / "predictions.parquet", pd.concat(tables, ignore_index=True), views)
                (job / "split.json").write_text(json.dumps(split))
                lines = [
                    {
                        "epoch": e + 1, "phase": "train", "learning_rate": 0.1, "train_loss": 1.4 * 0.9**e,
                        "losses": {"multi_view.emotion": 1.0}, "figures": figures_of(name, e, rng), "seconds": 0.1,
                        "dev": {"emotion": {"uar": 0.3 + 0.02 * e, "wa": 0.3, "corpus_uar": 0.35 + 0.02 * e}},
                    }
                    for e in range(epochs)
                ]  # fmt: skip
                (job / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
                told = done(name, seed, fold) if done else {}
                (job / "done.json").write_text(json.dumps({"selected_epoch": 2, "epochs": epochs, **told}))
                if hidden:
                    values = {"values": hidden(name, by_id.loc[split["test"]], rng).astype(np.float16)}
                    if split["dev"]:
                        values["dev_values"] = hidden(name, by_id.loc[split["dev"]], rng).astype(np.float16)
                    save_file(values, job / "hidden.safetensors")
    return run


def figures_of(name, epoch, rng):
    if name == "plain":
        return {}
    return {
        "domain_adversarial.corpus_accuracy": 0.9 - 0.6 * epoch / (epoch + 4) + 0.02 * rng.normal(),
        "domain_adversarial.corpus_chance": 0.25,
        "domain_adversarial.gradient_scale": 0.3,
        "domain_adversarial.spread": 0.8 + 0.05 * rng.normal(),
    }


def telling_layer(condition, rows, rng):
    """Vectors that tell corpus and emotion, the corpus less so with an adversary."""
    values = rng.normal(size=(len(rows), 24))
    strength = {"plain": 3.0, "dann": 0.6}.get(condition, 1.0)
    for row, (corpus, emotion) in enumerate(zip(rows["corpus"], rows["emotion"])):
        values[row, sorted([*CORPORA, "msp_improv"]).index(corpus)] += strength
        values[row, 12 + EMOTIONS.index(emotion)] += 2.0
    return values


@pytest.fixture
def fabricate_corpora(tmp_path, monkeypatch):
    monkeypatch.setattr("os.fsync", lambda handle: None)
    return lambda name="corpora", **more: make_corpora_run(tmp_path / name, **more)


@pytest.fixture
def fabricate(tmp_path, monkeypatch):
    monkeypatch.setattr("os.fsync", lambda handle: None)  # hundreds of small files need not survive a power cut

    def make(
        name="run",
        conditions=("C", "Li", "untrained", "stats"),
        seeds=(0, 1, 2),
        n_speakers=8,
        n_each=3,
        views=VIEWS,
        predict=skilled,
        skip=(),
        paper=(),
        protocol_id="0123456789ab",
        extra=True,
        corpus="toy",
        epochs=6,
    ):
        run = tmp_path / name
        run.mkdir()
        rng = np.random.default_rng(0)
        speakers = [f"{corpus}/{s:02d}" for s in range(n_speakers)]
        rows = []
        for s, speaker in enumerate(speakers):
            for k in range(n_each * 4):
                emotion = EMOTIONS[k % 4]
                rows.append(
                    {
                        "id": f"{speaker}_{k:03d}",
                        "corpus": corpus,
                        "speaker": speaker,
                        "session": None,
                        "gender": ("female", "male")[s % 2],
                        "language": "de",
                        "emotion": emotion,
                        "arousal": None,
                        "valence": None,
                        "duration_s": 2.0 + 0.1 * k,
                        "target_emotion": emotion,
                        "target_arousal": {"anger": "high", "happiness": "high", "neutral": "medium"}.get(
                            emotion, "low"
                        ),
                    }
                )
        utterances = pd.DataFrame(rows)
        utterances.to_parquet(run / "utterances.parquet")
        of_speaker = {s: list(part["id"]) for s, part in utterances.groupby("speaker")}
        folds = []
        for s, speaker in enumerate(speakers):
            dev = speakers[(s + 1) % n_speakers]
            train = [i for other in speakers if other not in (speaker, dev) for i in of_speaker[other]]
            split = {"train": train, "dev": of_speaker[dev], "test": of_speaker[speaker], "unlabelled": []}
            folds.append((f"speaker_{speaker.split('/')[1]}", split))
        protocol = {
            "id": protocol_id,
            "parts": {
                "corpora": {corpus: "f" * 64},
                "label_map": "own",
                "category_map": "circumplex3",
                "derived_views": {"arousal": {"rated": 0, "derived": len(utterances), "missing": 0}},
                "views": {view: list(classes) for view, classes in views.items()},
                "protocol": {"name": "leave_one_speaker_out", "dev": "speakers", "n_dev_speakers": None, "seed": 0},
                "folds_sha256": "ab" * 32,
                "normalisation": {"mode": "global_train", "min_clips": 10},
                "selection": "dev.uar",
            },
            "audit": ["condition C: the encoder has heard 8 of 8 test speakers without labels in its own training"],
            "folds": [
                {"name": n, **{part: len(split[part]) for part in ("train", "dev", "test")}} for n, split in folds
            ],
        }
        resolved = {
            "schema": 1,
            "name": "neumann2019",
            "description": "Attentive CNN with three views.",
            "seeds": list(seeds),
            "baseline": True,
            "conditions": [{"name": c, "embeddings": f"embeddings/{c}", "fusion": "late"} for c in conditions],
            "training": {"epochs": epochs, "select_by": "dev.uar"},
            "paper": list(paper),
        }
        (run / "protocol.json").write_text(json.dumps(protocol))
        (run / "resolved.json").write_text(json.dumps(resolved))
        (run / "command.txt").write_text("repkit train-ser --recipe neumann2019 --corpus toy=PATH\n")
        (run / "environment.json").write_text(
            json.dumps({"repkit": "0.1.0", "python": "3.11.9", "packages": {"numpy": "2"}})
        )
        (run / "data.json").write_text(json.dumps({"dropped": {"toy: boredom (not in map own)": 7}, "left_out": {}}))
        (run / "status.json").write_text(json.dumps({"state": "done", "seconds": 125.0}))
        for condition in ("BL", *conditions):
            for seed in seeds:
                for fold, split in folds:
                    if f"{condition}/seed_{seed}/{fold}" in skip:
                        continue
                    job = run / "jobs" / condition / f"seed_{seed}" / fold
                    job.mkdir(parents=True)
                    tables = []
                    for checkpoint in ("selected", "last"):
                        for part in ("dev", "test"):
                            for view, classes in views.items():
                                target = dict(zip(utterances["id"], utterances[f"target_{view}"]))
                                labels = [target[i] for i in split[part]]
                                told = [
                                    predict(condition, f"{seed}{checkpoint}", fold, view, i, label, classes)
                                    for i, label in zip(split[part], labels)
                                ]
                                onehot = np.array([[float(c == t) for c in classes] for t in told])
                                tables.append(
                                    prediction_table(
                                        condition=condition, seed=seed, fold=fold, part=part,
                                        checkpoint=checkpoint, view=view, classes=classes, ids=split[part],
                                        labels=labels, probabilities=onehot,
                                    )
                                )  # fmt: skip
                    write_predictions(job / "predictions.parquet", pd.concat(tables, ignore_index=True), views)
                    (job / "split.json").write_text(json.dumps(split))
                    lines = [
                        {
                            "epoch": e + 1,
                            "train_loss": 1.4 * 0.9**e,
                            "losses": {"emotion": 1.0 * 0.9**e},
                            "dev": {"emotion": {"uar": 0.3 + 0.05 * e, "wa": 0.3 + 0.05 * e}},
                            "seconds": 0.5,
                        }
                        for e in range(epochs)
                    ]
                    (job / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
                    (job / "done.json").write_text(json.dumps({"selected_epoch": 4, "epochs": epochs, "seconds": 3.0}))
                    if extra:
                        place = {e: k for k, e in enumerate(EMOTIONS)}
                        hidden = rng.normal(size=(len(split["test"]), 12)).astype(np.float16)
                        emotions = utterances.set_index("id").loc[split["test"], "emotion"]
                        for row, emotion in enumerate(emotions):
                            hidden[row, place[emotion]] += 4
                        save_file({"values": hidden}, job / "hidden.safetensors")
        if extra:
            (run / "vectors").mkdir()
            for condition in conditions:
                values = rng.normal(size=(len(utterances), 16)).astype(np.float16)
                for row, (emotion, speaker) in enumerate(zip(utterances["emotion"], utterances["speaker"])):
                    values[row, EMOTIONS.index(emotion)] += 3
                    values[row, 5 + speakers.index(speaker) % 8] += 3
                save_file({"values": values}, run / "vectors" / f"{condition}.safetensors")
                (run / "vectors" / f"{condition}.json").write_text(json.dumps(list(utterances["id"])))
        return run

    return make
