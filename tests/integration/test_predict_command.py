"""A run applied to new files: the numbers of its own prediction tables, without the corpus, through every kind of model."""

import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import soundfile
import soxr
from cli_helpers import RECIPE, cli, ok, speech, write_corpus
from safetensors.torch import load_file

import repkit.workflows.predict.run as predicting
import repkit.workflows.train_ser.run
from repkit.audio.open import open_corpus
from repkit.config import SerRecipe, load_recipe
from repkit.config.schema import Condition
from repkit.errors import RepkitWarning
from repkit.runs.directory import read_json
from repkit.workflows.predict import predict
from repkit.workflows.train_ser.run import train_ser

SVM = ("model={name='svm'}", "baseline=false", "training.select_by=nested")


@pytest.fixture(scope="module")
def material(stage_one, tmp_path_factory):
    """A folder with toy/ (WAV files), and runs of it by name: the corpus of the runs themselves is deleted."""
    root = tmp_path_factory.mktemp("predict")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("REPKIT_CACHE", str(root / "cache"))
        patch.chdir(root)
        no_report(patch)
        Path("tiny.toml").write_text(RECIPE, encoding="utf-8")
        shutil.copytree(stage_one / "toy", "toy")
        toy = {"toy": "toy"}
        ok("embed", "--encoder", "functionals", "--corpus", "toy=toy", "--out", "emb")
        ok("embed", "--encoder", stage_one / "ae", "--corpus", "toy=toy", "--out", "emb", "--dtype", "float16")
        frames = ("--level", "frame", "--layers", "all", "--out", "states")
        ok("embed", "--encoder", stage_one / "ae", "--corpus", "toy=toy", *frames)
        (states,) = Path("states").iterdir()
        by_speaker = ("normalisation={mode='per_speaker', min_clips=2}", "segments={length_s=0.25, step_s=0.1}")
        ae, functionals = "emb/ae", "emb/functionals"
        found = {
            "plain": train(toy, {"late": ae, "early": str(states)}),
            "svm": train(toy, {"both": [ae, functionals]}, *SVM),
            "svm_speaker": train(toy, {"f": functionals}, *SVM, "vector={by='per_speaker', min_clips=2}"),
            "speaker": train(toy, {}, *by_speaker, executor="batched"),
        }
        shutil.move("toy", "sounds")  # the corpus is gone; its files lie elsewhere
        shutil.rmtree("emb")
        shutil.rmtree("cache")
    return root, found


def no_report(patch):
    """Leave the report out: it takes most of the time of a small run."""
    patch.setattr(repkit.workflows.train_ser.run, "render", lambda run: None)


def train(corpora, embeddings, *settings, recipe="tiny.toml", executor="processes"):
    """Return the run directory of a training of one seed."""
    resolved = load_recipe(SerRecipe, recipe, ["seeds=[0]", *settings])
    if embeddings:
        resolved = resolved.with_embeddings([Condition(name=n, embeddings=e) for n, e in embeddings.items()])
    opened = {name: open_corpus(name, folder) for name, folder in corpora.items()}
    return train_ser(resolved, opened, root=Path("runs"), workers=1, executor=executor, device="cpu").resolve()


def of_run(run, condition, fold="group_1", view="emotion"):
    """Return utterance names and probabilities of the selected weights on the test part of a fold."""
    table = pd.read_parquet(run / "jobs" / condition / "seed_0" / fold / "predictions.parquet")
    rows = table[(table.part == "test") & (table.checkpoint == "selected") & (table["view"] == view)]
    return [i.partition("/")[2] for i in rows["id"]], np.stack(rows["probabilities"])


def predicted(table, classes=("anger", "sadness")):
    return table[[f"p_{c}" for c in classes]].to_numpy()


@pytest.mark.parametrize("condition", ["BL", "late", "early"])
def test_a_model_says_of_its_test_fold_what_its_run_has_written(material, stage_one, condition):
    root, runs = material
    for fold in ("group_1", "group_2"):
        names, expected = of_run(runs["plain"], condition, fold)
        files = [root / "sounds" / f"{name}.wav" for name in names]
        encoders = () if condition == "BL" else (stage_one / "ae",)
        table = predict(runs["plain"], files, condition=condition, folds=[fold], encoders=encoders)
        np.testing.assert_allclose(predicted(table), expected, atol=1e-6)
        assert set(table["agreement"]) == {1.0}
        assert set(table["n_models"]) == {1}
        assert np.ptp(expected[:, 0]) > 1e-4  # else a model that says the same of all would pass


def test_an_svm_on_joined_vectors(material, stage_one):
    root, runs = material
    names, expected = of_run(runs["svm"], "both")
    files = [root / "sounds" / f"{name}.wav" for name in names]
    # functionals need nothing beside the run, so that one encoder is enough
    table = predict(runs["svm"], files, folds=["group_1"], encoders=[stage_one / "ae"])
    np.testing.assert_allclose(predicted(table), expected, atol=1e-6)
    again = predict(runs["svm"], files, folds=["group_1"], encoders=["functionals", stage_one / "ae"])
    pd.testing.assert_frame_equal(table, again)


@pytest.mark.parametrize(("run", "condition"), [("speaker", "BL"), ("svm_speaker", "f")])
def test_a_run_that_standardises_by_speaker_needs_sounds_of_one(material, run, condition):
    root, runs = material
    names, expected = of_run(runs[run], condition)
    speaker = names[0].split("_")[0]
    files = {name: root / "sounds" / f"{name}.wav" for name in names if name.split("_")[0] == speaker}
    assert 1 < len(files) < len(names)
    refused = cli("predict", runs[run], *files.values())
    assert refused.code == 2
    assert "--same-speaker" in refused.err
    assert "all utterances of a speaker" in refused.err
    assert cli("predict", runs[run], *files.values(), "--same-corpus").code == 2
    table = predict(runs[run], list(files.values()), folds=["group_1"], same_speaker=True)
    own = np.array([row for name, row in zip(names, expected) if name in files])
    np.testing.assert_allclose(predicted(table), own, atol=1e-6)


def test_folds_are_averaged_and_agreement_is_counted(material):
    root, runs = material
    files = sorted((root / "sounds").glob("*.wav"))
    each = [predict(runs["plain"], files, condition="BL", folds=[f]) for f in ("group_1", "group_2")]
    both = predict(runs["plain"], files, condition="BL")
    mean = (predicted(each[0]) + predicted(each[1])) / 2
    np.testing.assert_allclose(predicted(both), mean, atol=1e-12)
    assert both["prediction"].tolist() == [("anger", "sadness")[i] for i in mean.argmax(1)]
    same = [(a == p) + (b == p) for a, b, p in zip(each[0]["prediction"], each[1]["prediction"], both["prediction"])]
    assert both["agreement"].tolist() == [n / 2 for n in same]
    assert set(both["n_models"]) == {2}


def test_many_sounds_are_judged_in_blocks(material, tmp_path, monkeypatch, stage_one):
    """Memory holds one block; a block without any usable sound is no end, and what is said is said of all sounds."""
    root, runs = material
    files = sorted((root / "sounds").glob("*.wav"))[:6]
    sound, _ = soundfile.read(files[0], dtype="float32")
    long = tmp_path / "long.wav"
    soundfile.write(long, np.concatenate([sound] * 8), 16000)
    sounds = [*files[:2], long, *files[2:], tmp_path / "none_1.wav", tmp_path / "none_2.wav", tmp_path / "none_3.wav"]
    choice = predicting.Choice(condition="late", encoders=(stage_one / "ae",))
    whole = predicting.apply_run(runs["plain"], sounds, choice)
    seen, told = [], []
    prepare = predicting.prepare

    def counted(some, *others):
        seen.append(len(some))
        return prepare(some, *others)

    monkeypatch.setattr(predicting, "prepare", counted)
    monkeypatch.setattr(predicting, "AT_ONCE", 3)
    parts = predicting.apply_run(runs["plain"], sounds, choice, progress=lambda n, hours: told.append((n, hours)))
    assert seen == [3, 3, 3, 1]
    pd.testing.assert_frame_equal(parts.table, whole.table, rtol=1e-5)
    assert (parts.notes, parts.bad) == (whole.notes, whole.bad)
    assert len(parts.bad) == 3
    assert [n for n, _ in told] == [3, 6, 9, 10]
    heard = sum(min(soundfile.info(path).duration, 2.0) for path in (*files, long)) / 3600
    assert told[-1][1] == pytest.approx(heard)


def test_files_as_they_come(material, tmp_path, stage_one):
    """Stereo at 44.1 kHz is what its mean at 16 kHz is; NaN, empty and missing files are listed, the others predicted."""
    root, runs = material
    folder = tmp_path / "new" / "deeper"
    folder.mkdir(parents=True)
    plain = min((root / "sounds").glob("*.wav"))
    sound, _ = soundfile.read(plain, dtype="float32")
    high = soxr.resample(sound, 16000, 44100, quality="VHQ")
    soundfile.write(folder / "a.wav", np.stack([high * 1.5, high * 0.5], 1), 44100, subtype="FLOAT")
    broken = sound.copy()
    broken[100] = np.nan
    soundfile.write(folder / "b.wav", broken, 16000, subtype="FLOAT")
    (folder / "c.wav").write_bytes(b"")
    (folder / "notes.txt").write_text("no sound")
    long = np.concatenate([sound] * 8)
    soundfile.write(folder / "d.flac", long, 16000)
    out = tmp_path / "table.csv"
    done = cli("predict", runs["plain"], tmp_path / "new", tmp_path / "none.wav", plain, "--out", out)
    assert done.code == 4
    assert "3 of 6 files cannot be used" in done.err
    for name, reason in (("b.wav", "1 sample(s) that are NaN"), ("c.wav", "0 bytes"), ("none.wav", "no such file")):
        assert any(name in line and reason in line for line in done.err.splitlines())
    assert "1 of 6 sounds are longer than 2 s" in done.err
    assert "condition BL is used, the run's reference; name another with --condition: late, early" in done.err
    table = pd.read_csv(out).set_index("file")
    assert [Path(name).name for name in table.index] == ["a.wav", "b.wav", "c.wav", "d.flac", "none.wav", plain.name]
    good = table[table["error"].isna()]
    assert len(good) == 3
    assert table["prediction"].isna().sum() == 3
    stereo, mono = (good.loc[str(path), ["p_anger", "p_sadness"]].to_numpy(float) for path in (folder / "a.wav", plain))
    np.testing.assert_allclose(stereo, mono, atol=0.02)
    skipped = ok("predict", runs["plain"], tmp_path / "new", "--on-bad-audio", "skip", "--condition", "BL")
    assert "2 of 4 files cannot be used" in skipped.err
    lines = skipped.out.splitlines()
    assert lines[0].split() == ["file", "prediction", "anger", "sadness", "agreement"]
    assert len(lines) == 3
    none = cli("predict", runs["plain"], folder / "c.wav")
    assert none.code == 4
    assert "none of 1 sounds can be used" in none.err


def test_waveforms_are_what_files_are(material):
    root, runs = material
    path = max((root / "sounds").glob("*.wav"))
    sound, _ = soundfile.read(path, dtype="float32")
    assert len(sound) / 16000 < 2
    of_file = predict(runs["plain"], [path], condition="BL")
    of_array = predict(runs["plain"], [sound], condition="BL")
    np.testing.assert_array_equal(predicted(of_array), predicted(of_file))
    assert of_array["file"].tolist() == ["sound_0"]
    with pytest.warns(RepkitWarning, match="1 sounds cannot be used, first: sound_1: holds 1 sample"):
        table = predict(runs["plain"], [sound, np.append(sound, np.inf)], condition="BL")
    assert table["error"].isna().tolist() == [True, False]
    # half of the samples at half the rate: twice as long as they last at 16 kHz
    slow = predict(runs["plain"], [sound[::2].copy()], sample_rate=8000, condition="BL")
    assert not np.allclose(predicted(slow), predicted(of_file), atol=1e-7)


def test_formats_of_the_table(material, tmp_path):
    root, runs = material
    path = min((root / "sounds").glob("*.wav"))
    for suffix, read in (("csv", pd.read_csv), ("parquet", pd.read_parquet), ("json", pd.read_json)):
        out = tmp_path / "tables" / f"t.{suffix}"
        ok("predict", runs["plain"], path, "--condition", "BL", "--out", out)
        table = read(out)
        assert table["file"].tolist() == [str(path)]
        assert table.columns.tolist() == [
            "file", "view", "prediction", "p_anger", "p_sadness", "agreement", "n_models", "error",
        ]  # fmt: skip
        assert table["p_anger"][0] + table["p_sadness"][0] == pytest.approx(1, abs=1e-6)
    refused = cli("predict", runs["plain"], path, "--out", tmp_path / "t.xlsx")
    assert refused.code == 2
    assert ".csv, .parquet, .json" in refused.err


def test_the_encoder_must_be_the_one_of_the_run(material, stage_one, tmp_path):
    root, runs = material
    path = min((root / "sounds").glob("*.wav"))
    missing = cli("predict", runs["plain"], path, "--condition", "late")
    assert missing.code == 2
    assert "embeddings of ae (gru_autoencoder, 32 numbers, weights " in missing.err
    other = cli("predict", runs["plain"], path, "--condition", "late", "--encoder", f"untrained:{stage_one / 'ae'}")
    assert other.code == 2
    assert "weights_sha256 (nothing; " in other.err
    kind = cli("predict", runs["plain"], path, "--condition", "late", "--encoder", "functionals")
    assert kind.code == 2
    assert "functionals: is functionals; gru_autoencoder was expected" in kind.err
    needless = cli("predict", runs["plain"], path, "--condition", "BL", "--encoder", stage_one / "ae")
    assert needless.code == 2
    assert "reads no embeddings" in needless.err
    # the name of the folder is no part of what an encoder is
    shutil.copytree(stage_one / "ae", tmp_path / "renamed")
    ok("predict", runs["plain"], path, "--condition", "late", "--encoder", tmp_path / "renamed")


def test_runs_that_cannot_be_applied(material, stage_one, tmp_path):
    root, runs = material
    path = min((root / "sounds").glob("*.wav"))
    copy = tmp_path / "runs" / "run"
    shutil.copytree(runs["speaker"], copy)
    jobs = copy / "jobs" / "BL" / "seed_0"

    def refused(*options, place=copy):
        done = cli("predict", place, path, "--same-speaker", *options)
        assert done.code in (2, 4)
        assert "Traceback" not in done.err
        return done.err

    # killed before its second job was published
    (jobs / "group_2").rename(jobs / "group_2.tmp.1-a")
    (copy / "status.json").write_text(json.dumps({"state": "running"}))
    assert "1 of 2 models of condition BL are used" in ok("predict", copy, path, "--same-speaker").err
    assert "is finished" in refused("--fold", "group_2")
    assert "the run has no such fold; one of group_1, group_2" in refused("--fold", "group_3")
    assert "no such seed" in refused("--seed", "7")
    assert "the run has no such condition; one of BL was expected" in refused("--condition", "ae")
    assert "have no parts of single corpora" in refused("--as-corpus", "toy")
    weights = jobs / "group_1" / "selected.safetensors"
    whole = weights.read_bytes()
    weights.write_bytes(whole[:100])
    assert "selected.safetensors: damaged" in refused()
    weights.write_bytes(whole)
    model = jobs / "group_1" / "model.json"
    described = read_json(model)
    model.write_text(json.dumps({**described, "schema": 99}))
    assert "schema 99; 1 was expected" in refused()
    changed = {**described, "frontend": {**described["frontend"], "convention_sha256": "0"}}
    model.write_text(json.dumps(changed))
    assert "made other frames" in refused()
    model.unlink()
    (copy / "command.txt").write_text("repkit train-ser --recipe tiny\n")
    old = refused()
    assert "no model.json (in 1 of 1 jobs)" in old
    assert "train it again with this version" in old
    assert "repkit train-ser --recipe tiny" in old
    assert "a run of repkit pretrain-ae" in refused(place=stage_one / "ae")
    assert "no model.json" in refused(place=copy.parent), "a folder with a single run names that run"
    shutil.copytree(copy, copy.with_name("other"))
    assert "holds 2 runs; one was expected" in refused(place=copy.parent)


def test_what_a_job_keeps(material):
    _, runs = material
    job = runs["plain"] / "jobs" / "late" / "seed_0" / "group_1"
    kept = read_json(job / "model.json")
    assert kept["views"] == {"emotion": ["anger", "sadness"]}
    assert kept["model"]["settings"]["fusion"] == "late"
    assert kept["model"]["settings"]["n_filters"] == 6
    assert kept["task"]["vector_dim"] == 32
    assert (kept["max_duration_s"], kept["frontend"]["dtype"]) == (2.0, "float16")
    (part,) = kept["embeddings"]["parts"]
    assert (part["dtype"], part["dim"], part["source"]["encoder"]) == ("float16", 32, "gru_autoencoder")
    assert len(part["source"]["weights_sha256"]) == 64
    assert not {"speakers", "corpora"} & set(part["source"])
    statistics = load_file(job / "normalisation.safetensors")
    assert {name: tuple(v.shape) for name, v in statistics.items()} == {
        "frames.mean": (1, 12), "frames.scale": (1, 12), "vectors.mean": (1, 32), "vectors.scale": (1, 32),
    }  # fmt: skip
    # by the definition of standardising, from the vectors that the run keeps and the train part of the split
    vectors = load_file(runs["plain"] / "vectors" / "late.safetensors")["values"].float().numpy()
    ids = read_json(runs["plain"] / "vectors" / "late.json")
    train = vectors[[ids.index(i) for i in read_json(job / "split.json")["train"]]]
    np.testing.assert_allclose(statistics["vectors.mean"][0], train.mean(0), atol=1e-6)
    np.testing.assert_allclose(1 / statistics["vectors.scale"][0], train.std(0), rtol=1e-4)
    both = read_json(runs["svm"] / "jobs" / "both" / "seed_0" / "group_1" / "model.json")["embeddings"]
    dims = [part["dim"] for part in both["parts"]]
    assert both["block_weights"] == pytest.approx([(np.mean(dims) / dim) ** 0.5 for dim in dims])


def test_parts_of_a_corpus_and_two_views(material, tmp_path, monkeypatch):
    """Weights and adapters of single corpora, and crops: the corpus whose parts are used must be named."""
    monkeypatch.chdir(tmp_path)
    no_report(monkeypatch)
    for name, seed in (("one", 1), ("two", 2)):
        write_corpus(tmp_path / name, speech(name, seed=seed))
    extra = """
[[conditions]]
name = "adapted"
set.model = {adapters = true}

[[conditions]]
name = "alone"
set.phases = [{name = "alone", each = "corpus", initial = "fresh"}]
"""
    Path("parts.toml").write_text(
        RECIPE.replace("[labels]", 'reference = "adapted"\n\n[labels]') + extra, encoding="utf-8"
    )
    more = ("baseline=false", 'labels.views=["emotion", "arousal"]', "training.crop_s=0.4")
    run = train({"one": "one", "two": "two"}, {}, *more, recipe="parts.toml")
    for condition in ("adapted", "alone"):
        refused = cli("predict", run, "one", "--condition", condition)
        assert refused.code == 2
        assert "one of one, two was expected" in refused.err
        for view in ("emotion", "arousal"):
            table = pd.read_parquet(run / "jobs" / condition / "seed_0" / "group_1" / "predictions.parquet")
            rows = table[(table.part == "test") & (table.checkpoint == "selected") & (table["view"] == view)]
            rows = rows[rows["id"].str.startswith("two/")]
            assert len(rows)
            files = [f"{i}.wav" for i in rows["id"]]
            own = predict(run, files, condition=condition, folds=["group_1"], as_corpus="two")
            own = own[own["view"] == view]
            expected = np.stack(rows["probabilities"])
            order = read_json(run / "protocol.json")["parts"]["views"][view]
            np.testing.assert_allclose(predicted(own, order), expected, atol=1e-6)
    other = predict(run, files, condition="alone", folds=["group_1"], as_corpus="one")
    assert not np.allclose(predicted(other[other["view"] == "arousal"], order), expected, atol=1e-4)
