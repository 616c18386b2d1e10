"""The leaderboard on hand-made runs of EMOVO: 14 utterances per speaker and emotion, so that right answers are shares of 14."""

import json

import numpy as np
import pandas as pd
import pytest

from repkit.evaluation.predictions import prediction_table, write_predictions
from repkit.evaluation.published_split import PublishedSplit, load_split
from repkit.report.leaderboard import make_board
from repkit.report.leaderboard_entry import shown_command
from repkit.report.leaderboard_page import board_markdown

EMOTIONS = ("anger", "disgust", "fear", "happiness", "neutral", "sadness", "surprise")
SPLIT = load_split("emovo-v1")
STATISTICS = {"encoder": "statistics", "name": "statistics-ae", "corpora": [], "speakers": []}


@pytest.fixture
def make_run(tmp_path, monkeypatch):
    """Write a finished run; `right` tells how many of the 14 clips of each speaker and emotion a seed gets right."""
    monkeypatch.setattr("os.fsync", lambda handle: None)

    def make(
        name, right=lambda condition, seed, speaker: 7, seeds=(0,), conditions=("BL",), corpus="emovo", emotions=EMOTIONS,
        dev="published", recipe=(), parts=(), sources=(), state="done", fold_change=None, skip=(), drop=0, epoch="epoch",
    ):  # fmt: skip
        run = tmp_path / "runs" / name / "20260102T030405Z_0123abcd"
        run.mkdir(parents=True)
        utterances = [u for u in SPLIT.utterances(corpus) if u.emotion in emotions]
        folds = PublishedSplit(PublishedSplit.Config(dev=dev)).folds(utterances)
        table = pd.DataFrame(
            [{"id": u.id, "corpus": corpus, "speaker": u.speaker, "emotion": u.emotion} for u in utterances]
        )
        table.to_parquet(run / "utterances.parquet")
        protocol = {
            "id": f"id-{name}",
            "parts": {
                "corpora": {corpus: "f" * 64}, "views": {"emotion": list(emotions)}, "selection": "dev.uar",
                "protocol": {"name": "published_split", "split": "", "dev": dev}, **dict(parts),
            },
            "audit": [],
            "folds": [{"name": fold.name} for fold in folds],
        }  # fmt: skip
        bare = [c for c in conditions if c not in dict(sources)]
        resolved = {
            "name": name, "seeds": list(seeds), "baseline": "BL" in conditions,
            "conditions": [{"name": c, "embeddings": None if c in bare else f"e/{c}"} for c in conditions if c != "BL"],
            "model": {"name": "attentive_cnn"}, "frontend": {"name": "log_mel"},
            "normalisation": {"mode": "global_train"}, "training": {"select_by": "dev.uar"}, **dict(recipe),
        }  # fmt: skip
        described = {c: {"stores": {corpus: {"source": source}}} for c, source in dict(sources).items()}
        for file, value in (
            ("protocol.json", protocol), ("resolved.json", resolved), ("data.json", {"conditions": described}),
            ("status.json", {"state": state, "time": "20260102T040000Z"}), ("environment.json", {"repkit": "9.9"}),
        ):  # fmt: skip
            (run / file).write_text(json.dumps(value))
        (run / "command.txt").write_text(f"repkit train-ser --recipe {name} --corpus {corpus}=/home/me/data/EMOVO\n")
        by_id = {u.id: u for u in utterances}
        rank = {}
        for u in utterances:
            rank[u.id] = sum(i < u.id for i, o in by_id.items() if (o.speaker, o.emotion) == (u.speaker, u.emotion))
        for condition in conditions:
            for seed in seeds:
                for fold in folds:
                    if f"{condition}/seed_{seed}/{fold.name}" in skip:
                        continue
                    job = run / "jobs" / condition / f"seed_{seed}" / fold.name
                    job.mkdir(parents=True)
                    split = {p: list(getattr(fold, p)) for p in ("train", "dev", "test", "unlabelled")}
                    if fold_change:
                        fold_change(split)
                    (job / "split.json").write_text(json.dumps(split))
                    ids = fold.test[: len(fold.test) - drop]
                    places = np.array([emotions.index(by_id[i].emotion) for i in ids])
                    hit = np.array([rank[i] < right(condition, seed, by_id[i].speaker.split("/")[1]) for i in ids])
                    told = np.where(hit, places, (places + 1) % len(emotions))
                    rows = prediction_table(
                        condition=condition, seed=seed, fold=fold.name, part="test", checkpoint="selected", view="emotion",
                        classes=emotions, ids=ids, labels=[emotions[p] for p in places],
                        probabilities=np.eye(len(emotions))[told],
                    )  # fmt: skip
                    write_predictions(job / "predictions.parquet", rows, {"emotion": emotions})
                    (job / "metrics.jsonl").write_text(json.dumps({"epoch": 1, "phase": epoch}) + "\n")
                    epochs = 20 if fold is folds[0] else 15
                    (job / "done.json").write_text(json.dumps({"parameters": 1234567, "epochs": epochs}))
        return run

    return make


def group_of(board):
    (group,) = board.groups
    return group


def test_systems_are_ranked_by_the_mean_over_folds_and_seeds(make_run):
    low = make_run("low", lambda c, seed, s: 3)
    middle = make_run("middle", lambda c, seed, s: (7, 10)[seed], seeds=(0, 1), corpus="italian")
    # as good as middle on average, each better on half of the speakers
    turned = make_run("turned", lambda c, seed, s: 10 if s[0] == "f" else 6, dev="none")
    board = make_board([low, middle, turned, low], n_resamples=400)
    group = group_of(board)
    assert (group["name"], group["corpus"], group["n_utterances"], group["n_speakers"]) == ("emovo-v1", "emovo", 588, 6)
    assert (group["n_folds"], group["chance"], group["folds_without_a_class"]) == (6, 1 / 7, 0)
    assert group["transductive"] == []
    rows = group["inductive"]
    assert [row["system"] for row in rows] == ["middle: BL", "turned: BL", "low: BL"]
    assert [row["rank"] for row in rows] == [1, 2, 3]
    assert [row["uar"]["mean"] for row in rows] == pytest.approx([8.5 / 14, 8 / 14, 3 / 14])
    assert (rows[0]["uar"]["min"], rows[0]["uar"]["max"], rows[0]["n_seeds"]) == pytest.approx((7 / 14, 10 / 14, 2))
    # all six speakers drawn from one half has a chance of 1 / 64, below 2.5 %; five and one of the other has not
    ends = (rows[1]["uar_pooled"]["low"], rows[1]["uar_pooled"]["high"])
    assert ends == pytest.approx(((10 + 5 * 6) / 6 / 14, (5 * 10 + 6) / 6 / 14))
    assert rows[0]["against_first"] is None
    against = [row["against_first"] for row in rows[1:]]
    assert [a["difference"] for a in against] == pytest.approx([-0.5 / 14, -5.5 / 14])
    assert [a["told_apart"] for a in against] == [False, True]
    # the same difference for each of six speakers: no spread, and only one sign pattern of 2 x 32 is as uneven
    assert (against[1]["low"], against[1]["high"], against[1]["p_sign_flip"]) == pytest.approx(
        (-5.5 / 14, -5.5 / 14, 1 / 32)
    )
    assert rows[0]["parameters"] == [1234567, 1234567]
    assert rows[0]["epochs"] == [15, 20]
    assert (rows[0]["date"], rows[0]["repkit"], rows[0]["model"]) == ("2026-01-02", "9.9", "attentive_cnn on log_mel")
    assert rows[0]["command"] == "repkit train-ser --recipe middle --corpus italian=DATA/EMOVO"
    assert [p["id"] for p in group["protocols"]] == ["id-middle", "id-turned", "id-low"]
    assert group["protocols"][1]["differs_in"] == ["corpora", "protocol"]
    json.dumps(board.as_json())


def test_the_page_says_what_the_numbers_are(make_run):
    runs = [make_run("good", lambda c, seed, s: 10), make_run("bad", lambda c, seed, s: 3), make_run("other", lambda c, seed, s: 11 if s > "m" else 9)]  # fmt: skip
    text = board_markdown(make_board(runs, n_resamples=200))
    lines = text.splitlines()
    assert lines[0] == "## emovo: emotion, 7 classes"
    assert "Split `emovo-v1` (sha256 `28f2230f7cbc`): 588 utterances, 6 speakers, 6 folds; anger, disgust" in lines[2]
    assert "chance 14.3" in lines[2]
    table = [line.split("|")[1:-1] for line in lines if line.startswith("| ")]
    cells = [[cell.strip() for cell in row] for row in table]
    assert cells[0][:8] == [
        "rank",
        "system",
        "UAR mean",
        "min to max",
        "UAR pooled",
        "95 % interval",
        "minus the first",
        "seeds",
    ]
    assert [row[0] for row in cells[1:]] == ["1", "1 ≈", "3"], "equal UAR, equal rank"
    assert cells[1][1:8] == [
        "good: BL (attentive_cnn on log_mel)",
        "**71.4**",
        "71.4 to 71.4",
        "71.4",
        "[71.4, 71.4]",
        "-",
        "1",
    ]
    assert cells[3][6] == "-50.0 [-50.0, -50.0]"
    assert cells[0][8:10] == ["epochs", "parameters"]
    assert cells[1][8:] == ["15 to 20", "1 234 567", "-", "none", "dev UAR", "a", "2026-01-02", "[1]"]
    assert "[3] repkit train-ser --recipe bad --corpus emovo=DATA/EMOVO" in lines
    assert "- b: protocol `id-other`" in lines
    assert "Intervals are optimistic: 6 speakers are too few" in text
    assert "## Not ranked" not in text
    assert "/home" not in text
    assert "nan" not in text.replace("inan", "")
    assert "No finished run" in board_markdown(make_board([]))


def heard(*speakers, hours=1.5):
    corpora = [{"name": "emovo", "hours": hours}]
    return {"encoder": "gru_autoencoder", "name": "ae", "corpora": corpora, "speakers": list(speakers)}


USES = {
    "frames": ({"recipe": {"normalisation": {"mode": "per_speaker"}}}, ["frames normalised per speaker"]),
    "vectors": (
        {"conditions": ("v",), "sources": {"v": STATISTICS}, "recipe": {"vector": {"by": "per_corpus"}}},
        ["vector standardised per corpus"],
    ),
    "encoder": ({"conditions": ("v",), "sources": {"v": heard("emovo/f1", "emovo/m2", "x/y")}}, ["2 of 6 heard by the encoder"]),
    "counts": ({"recipe": {"training": {"class_weights": "balanced_all"}}}, ["their label counts in the class weights"]),
    "phase": (
        {"recipe": {"phases": [{"name": "a"}, {"name": "b", "training": {"class_weights": "balanced_all"}}]}},
        ["their label counts in the class weights"],
    ),
    "unlabelled": (
        {"fold_change": lambda split: split.update(unlabelled=split["test"])},
        ["their audio without labels in training"],
    ),
    "both": (
        {
            "fold_change": lambda split: split.update(unlabelled=split["test"]),
            "recipe": {"normalisation": {"mode": "per_speaker"}},
        },
        ["frames normalised per speaker", "their audio without labels in training"],
    ),
}  # fmt: skip


@pytest.mark.parametrize("kind", USES)
def test_what_uses_the_test_speakers_is_ranked_by_itself(make_run, kind):
    settings, uses = USES[kind]
    best = make_run(kind, lambda c, seed, s: 12, **settings)
    clean = make_run("clean", lambda c, seed, s: 7)
    board = make_board([best, clean], n_resamples=100)
    group = group_of(board)
    assert [row["system"] for row in group["inductive"]] == ["clean: BL"]
    assert [row["rank"] for row in group["transductive"]] == [1]
    assert group["transductive"][0]["test_speakers"] == uses
    text = board_markdown(board)
    assert (
        text.index("### Inductive")
        < text.index("clean: BL (")
        < text.index("### Transductive")
        < text.index(f"{kind}: ")
    )
    assert f"| {'; '.join(uses)} |" in text


def test_a_vector_of_the_own_house_is_inductive_and_says_what_it_is(make_run):
    run = make_run(
        "both", lambda c, seed, s: {"stats": 9, "ae": 8}[c], conditions=("stats", "ae"), epoch="fit",
        sources={"stats": STATISTICS, "ae": heard("librispeech/1")}, recipe={"model": {"name": "svm", "kernel": "rbf"}},
    )  # fmt: skip
    first, second = group_of(make_board([run], n_resamples=100))["inductive"]
    assert (first["system"], first["model"], first["heard"]) == ("both: stats", "svm (rbf) on statistics-ae", [])
    assert (second["model"], second["heard"], second["pretrained"]) == ("svm (rbf) on ae", ["emovo (1.50 h)"], "none")
    pictures = {
        w: {"encoder": "deepspectrum", "name": "deep", "weights": w, "corpora": []} for w in ("vgg16", "random")
    }
    network = make_run("network", conditions=("vgg16", "random"), sources=pictures)
    rows = {row["condition"]: row for row in group_of(make_board([network], n_resamples=100))["inductive"]}
    assert {name: row["pretrained"] for name, row in rows.items()} == {
        "vgg16": "deepspectrum (vgg16)",
        "random": "none",
    }
    assert rows["vgg16"]["model"] == "attentive_cnn on log_mel + deep"


def joined(*parts):
    """Return the source of stores that are joined, as `repkit.workflows.train_ser.joined.JoinedStore` writes it."""
    return {"encoder": "joined", "parts": [{"dim": 2, "dtype": "float32", "source": part} for part in parts]}


def test_joined_vectors_say_what_each_part_is(make_run):
    functionals = {"encoder": "functionals", "name": "functionals", "corpora": []}
    trained = {**heard("librispeech/1"), "encoder": "gru_encoder", "name": "mix"}
    run = make_run("svm", conditions=("both",), epoch="fit", sources={"both": joined(functionals, trained)})
    (row,) = group_of(make_board([run], n_resamples=50))["inductive"]
    assert row["epochs"] is None
    assert (row["heard"], row["pretrained"]) == (["emovo (1.50 h)"], "none")
    assert row["model"].endswith(" on functionals + mix")


def other_train(split):
    split["train"].append(split["test"][0])


REFUSED = {
    "selected": ({"recipe": {"training": {"select_by": "test"}}}, "selected on the test folds"),
    "selected_by_protocol": ({"parts": {"selection": "test"}}, "selected on the test folds"),
    "pretrained": (
        {"conditions": ("v",), "sources": {"v": {"encoder": "transformers", "model": "org/hubert"}}},
        "pretrained self-supervised weights (org/hubert)",
    ),
    "pretrained_part": (
        {"conditions": ("v",), "sources": {"v": joined(STATISTICS, {"encoder": "transformers", "model": "org/hubert"})}},
        "pretrained self-supervised weights (org/hubert)",
    ),
    "unknown": ({"recipe": {"conditions": [{"name": "BL", "embeddings": "x"}]}}, "does not say what made its vectors"),
    "silent": (
        {"conditions": ("v",), "sources": {"v": {"encoder": "toy", "name": "toy"}}},
        "its embeddings do not say whom their encoder has heard (toy)",
    ),
    "nameless": (
        {"conditions": ("v",), "sources": {"v": {**heard("x/y"), "corpora": [{"name": "mix", "utterances_of_unknown_speakers": 3}]}}},
        "may have heard test speakers in its own training (utterances of unknown speakers: 3 of corpus mix)",
    ),
    "initial": ({"recipe": {"phases": [{"name": "a", "initial": "other.safetensors"}]}}, "weights of another run"),
    "running": ({"state": "running"}, "not finished: running, 6 of 6 jobs"),
    "incomplete": ({"skip": ("BL/seed_0/speaker_f2",)}, "not finished: done, 5 of 6 jobs"),
    "kind": ({"parts": {"protocol": {"name": "leave_one_speaker_out"}}}, "leave_one_speaker_out (id-kind) is no published"),
    "version": ({"parts": {"protocol": {"name": "published_split", "split": "emovo-v9"}}}, "'emovo-v9' is not in this repkit"),
    "parts": ({"fold_change": other_train}, "job BL/seed_0/speaker_f1 has other parts than split emovo-v1"),
    "dev": ({"parts": {"protocol": {"name": "published_split", "dev": "none"}}}, "has other parts than split"),
    "predictions": ({"drop": 1}, "seed 0 does not predict every utterance of emovo-v1 once"),
}  # fmt: skip


@pytest.mark.parametrize("kind", REFUSED)
def test_what_cannot_be_ranked_is_listed_with_the_reason(make_run, kind, tmp_path):
    settings, reason = REFUSED[kind]
    board = make_board([make_run(kind, **settings)], n_resamples=50)
    assert board.groups == []
    (refusal,) = board.refused
    assert reason in refusal.reason
    assert refusal.run == f"{kind}/20260102T030405Z_0123abcd"
    text = board_markdown(board)
    assert "No finished run of a published split" in text
    assert f"- {refusal.run}" in text.split("## Not ranked")[1]
    assert str(tmp_path) not in text


def test_one_condition_can_be_refused_and_the_other_ranked(make_run):
    settings = [{"name": "tuned", "set": {"training": {"select_by": "test"}}}]
    run = make_run("two", conditions=("BL", "tuned"), recipe={"conditions": settings})
    board = make_board([run], n_resamples=50)
    assert [row["condition"] for row in group_of(board)["inductive"]] == ["BL"]
    assert [(r.condition, "test folds" in r.reason) for r in board.refused] == [("tuned", True)]
    # and the other way round: the recipe chooses on test, a condition of it does not
    run = make_run(
        "honest", conditions=("BL", "honest"), parts={"selection": "test", "selection_of": {"honest": "dev.uar"}},
        recipe={
            "training": {"select_by": "test"},
            "conditions": [{"name": "honest", "set": {"training": {"select_by": "dev.uar"}}}],
        },
    )  # fmt: skip
    board = make_board([run], n_resamples=50)
    assert [(row["condition"], row["selection"]) for row in group_of(board)["inductive"]] == [("honest", "dev UAR")]
    assert [r.condition for r in board.refused] == ["BL"]


def test_other_label_sets_and_protocols_are_not_mixed(make_run):
    seven, two = make_run("seven"), make_run("two", emotions=("anger", "sadness"))
    fixed = make_run("fixed", parts={"protocol": {"name": "fixed"}})
    board = make_board([seven, two, fixed], protocols=["id-fixed"], n_resamples=50)
    assert [(g["name"], len(g["classes"]), g["n_utterances"]) for g in board.groups] == [
        ("emovo-v1", 7, 588),
        ("emovo-v1", 2, 168),
        ("protocol id-fixed", 7, 588),
    ]
    assert board.groups[2]["split_sha256"] is None
    assert "Protocol id-fixed: 588 utterances" in board_markdown(board)
    assert make_board([fixed]).groups == []


def test_a_broken_run_does_not_stop_the_others(make_run, tmp_path):
    good, bad = make_run("good"), make_run("bad")
    (bad / "resolved.json").write_text("{")
    board = make_board([bad, good], n_resamples=50)
    assert len(board.groups) == 1
    assert board.refused[0].run.startswith("bad/")
    assert str(tmp_path) not in board.refused[0].reason


def test_commands_lose_the_folders_of_the_machine():
    text = "repkit train-ser --recipe /r/x.toml --corpus a=/data/x/A --hold-out='b=C:\\d\\B' --embeddings IS09=emb/os --embeddings /e/y"
    assert shown_command(text) == (
        "repkit train-ser --recipe PATH/x.toml --corpus a=DATA/A --hold-out=b=DATA/B --embeddings IS09=emb/os --embeddings PATH/y"
    )
    assert shown_command("repkit x --embeddings a=/e/one+/f/two --embeddings b=/e/1+2 --embeddings c=e/one+e/two") == (
        "repkit x --embeddings a=PATH/one+PATH/two --embeddings b=PATH/1+2 --embeddings c=e/one+e/two"
    )
    plain = (
        "repkit train-ser --recipe svm --set 'training.class_weights=\"balanced\"' --corpus c=hub:org/name --set a=1"
    )
    assert shown_command(plain) == plain
