"""A run directory with known predictions, as train-ser would leave it, made without any training."""

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
    import hashlib

    return int.from_bytes(hashlib.sha256("/".join(map(str, names)).encode()).digest()[:6], "big")


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
