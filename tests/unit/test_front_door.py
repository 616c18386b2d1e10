"""The names at the top of the package, and the page about them, which runs as printed."""

import ast
import glob
import importlib
import inspect
import os
import re
import shlex
import shutil
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import soundfile

import repkit
from repkit.cli import main
from repkit.errors import DataError, PluginError, RecipeError, RepkitWarning, SpeakerLeakError, UsageError
from repkit.evaluation.protocols import SpeakerKFold
from repkit.workflows.front_door import LoadedRun

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs/python.md"
DOORS = ("load_encoder", "load_run", "make_folds", "open_corpus", "open_store", "predict")


def run_command(line):
    words = [found for word in shlex.split(line) for found in sorted(glob.glob(word)) or [word]]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", words)
        with pytest.raises(SystemExit) as ended:
            main()
    assert not ended.value.code, line


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    """The folder in which everything on the page was typed, and the names that the Python blocks left."""
    folder, names = tmp_path_factory.mktemp("page"), {}
    blocks = re.findall(r"^```(python|console)\n(.*?)^```", PAGE.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("REPKIT_CACHE", str(folder / "cache"))
        if hasattr(os, "sched_getaffinity"):
            patch.setattr(os, "sched_getaffinity", lambda pid: {0})  # one core: no further processes
        for language, text in blocks:
            if language == "python":
                exec(compile(text, str(PAGE), "exec"), names)
            else:
                for line in text.splitlines():
                    run_command(line.removeprefix("$ "))
    names["folder"] = folder
    return names


# ---------------------------------------------------------------- the names


def test_importing_repkit_loads_nothing_and_asking_for_a_corpus_no_torch():
    code = (
        "import sys, repkit\n"
        "assert not {'numpy', 'torch', 'pandas', 'pydantic'} & set(sys.modules), 'import repkit'\n"
        "repkit.open_corpus('synthetic_a').utterances(); dir(repkit)\n"
        "assert 'torch' not in sys.modules, 'open_corpus'\n"
        "print(repkit.load_encoder.__module__, 'torch' in sys.modules)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["repkit.stage_one.open", "True"]


def test_every_name_is_offered_listed_documented_and_typed():
    assert sorted(repkit.__all__) == sorted([*DOORS, "__version__"])
    assert set(DOORS) <= set(dir(repkit))
    text = PAGE.read_text(encoding="utf-8")
    for name in DOORS:
        found = getattr(repkit, name)
        assert callable(found)
        assert found.__doc__
        assert f"| `repkit.{name}` |" in text
    stub = ast.parse(Path(repkit.__file__).with_suffix(".pyi").read_text(encoding="utf-8"))
    typed = {a.asname: (n.module, a.name) for n in stub.body if isinstance(n, ast.ImportFrom) for a in n.names}
    assert set(typed) == set(DOORS)
    for name, (module, original) in typed.items():
        assert getattr(importlib.import_module(module), original) is getattr(repkit, name)


def test_an_unknown_name_lists_the_names():
    with pytest.raises(AttributeError, match=r"no attribute 'open_corpora'; it has load_encoder.*docs/python.md"):
        repkit.open_corpora  # noqa: B018


def test_predict_of_a_run_takes_what_predict_takes(monkeypatch):
    own, other = (inspect.signature(f).parameters for f in (LoadedRun.predict, repkit.predict))
    assert list(own)[2:] == list(other)[2:]
    assert [p.default for p in own.values()][2:] == [p.default for p in other.values()][2:]
    given = []
    module = importlib.import_module("repkit.workflows.predict")
    monkeypatch.setattr(module, "predict", lambda *a, **k: given.append((a, k)))
    options, sounds = {name: object() for name in list(own)[2:]}, object()
    LoadedRun(Path("r")).predict(sounds, **options)
    assert given == [((Path("r"), sounds), options)]


# ---------------------------------------------------------------- corpora and folds


def test_a_corpus_as_on_the_command_line(tmp_path):
    soundfile.write(tmp_path / "1.wav", 0.1 * np.sin(np.arange(4000)), 16000)
    (tmp_path / "metadata.csv").write_text("Clip,Actor,Code\n1.wav,7,W\n")
    settings = {"columns": {"audio": "Clip", "speaker": "Actor", "emotion": "Code"}, "emotions": {"W": "anger"}}
    for corpus in (
        repkit.open_corpus("mine", tmp_path, **settings),
        repkit.open_corpus(f"mine={tmp_path}", **settings),
    ):
        (utterance,) = corpus.utterances()
        assert (utterance.id, utterance.speaker, utterance.emotion) == ("mine/1", "mine/7", "anger")
        assert corpus.read(utterance).shape == (4000,)
    with pytest.raises(UsageError):
        repkit.open_corpus("no_such_corpus")


def test_what_was_opened_is_found_from_another_folder_too(tmp_path, monkeypatch):
    for name in ("here", "elsewhere"):
        (tmp_path / name).mkdir()
    soundfile.write(tmp_path / "here" / "1.wav", 0.1 * np.sin(np.arange(4000)), 16000)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    early, late, home = (repkit.open_corpus("mine", place, pattern="(?P<id>.)") for place in ("here", "here", "~/here"))
    before = early.fingerprint()
    as_command = importlib.import_module("repkit.audio.open").open_corpus(
        "mine", "here", options={"pattern": "(?P<id>.)"}
    )
    assert as_command.fingerprint() == before
    monkeypatch.chdir(tmp_path / "elsewhere")
    with pytest.raises(
        DataError, match=r"1\.wav: the file of mine/1 .* and is not from .*elsewhere, where this program is"
    ):
        as_command.fingerprint()
    assert early.fingerprint() == late.fingerprint() == home.fingerprint() == before
    assert early.read(early.utterances()[0]).shape == (4000,)
    (tmp_path / "here" / "1.wav").unlink()
    with pytest.raises(DataError, match=r"1\.wav: the file of mine/1 was there .* and is not"):
        early.fingerprint()


def test_a_program_is_told_of_arguments_and_not_of_options(tmp_path):
    for give, said in (
        (lambda: repkit.open_corpus("emodbb"), "^emodbb: is not known"),
        (lambda: repkit.open_corpus("mine", tmp_path, colums={}), "given as arguments, KEY=VALUE"),
        (lambda: repkit.open_corpus("synthetic_a", split="train"), "leave out split='train'"),
    ):
        with pytest.raises(UsageError, match=said) as caught:
            give()
        assert "--" not in caught.value.message


def test_folds_are_those_of_the_protocol_and_of_disjoint_speakers():
    utterances = repkit.open_corpus("synthetic_a").utterances()
    speaker = {u.id: u.speaker for u in utterances}
    folds = repkit.make_folds(utterances, "speaker_k_fold", k=4, seed=3)
    assert folds == SpeakerKFold(SpeakerKFold.Config(k=4, seed=3)).folds(utterances)
    for fold in folds:
        train, dev, test = ({speaker[i] for i in part} for part in (fold.train, fold.dev, fold.test))
        assert train
        assert dev
        assert len(test) == 2
        assert not (train | dev) & test
        assert not train & dev
    assert len(repkit.make_folds(utterances)) == 8  # a speaker each
    assert repkit.make_folds(utterances, "speaker_k_fold", k=2, dev="utterances")[0].dev
    with pytest.raises(RecipeError, match="protocol speaker_k_fold"):
        repkit.make_folds(utterances, "speaker_k_fold", folds=4)
    with pytest.raises(PluginError, match="did you mean 'speaker_k_fold'"):
        repkit.make_folds(utterances, "speaker_kfold")


def test_folds_are_made_of_utterances():
    corpus = repkit.open_corpus("synthetic_a")
    of_list = repkit.make_folds(corpus.utterances(), "speaker_k_fold", k=2)
    assert repkit.make_folds(iter(corpus.utterances()), "speaker_k_fold", k=2) == of_list
    for given, what in ((corpus, "SyntheticCorpus"), ([{"id": "a"}], "dict"), (None, "NoneType"), ("ab", "str")):
        with pytest.raises(UsageError, match=f"make_folds: got {what}; utterances .* expected"):
            repkit.make_folds(given)


def test_a_protocol_that_mixes_speakers_is_refused(monkeypatch):
    utterances = repkit.open_corpus("synthetic_a").utterances()
    halves = repkit.api.Fold("f", tuple(u.id for u in utterances[::2]), (), tuple(u.id for u in utterances[1::2]))
    monkeypatch.setattr(SpeakerKFold, "folds", lambda self, utterances: [halves])
    with pytest.raises(SpeakerLeakError):
        repkit.make_folds(utterances, "speaker_k_fold", dev="none")


# ---------------------------------------------------------------- the page


def test_the_page_works_as_printed(page):
    assert page["table"]["emotion"].value_counts().to_dict() == dict.fromkeys(
        ("anger", "happiness", "neutral", "sadness"), 48
    )
    assert page["named"].shape == page["vectors"].shape == (4, 744)
    # encoded here and read from the store: the same numbers under the same ids
    stored = page["frame"].loc[page["named"].index].to_numpy()
    np.testing.assert_allclose(stored, page["vectors"], rtol=1e-3, atol=1e-3)
    np.testing.assert_array_equal(page["some"], page["frame"].loc[[page["utterances"][i].id for i in (2, 0)]])
    np.testing.assert_array_equal(page["one"], page["some"][1])
    assert len(page["truth"]) == 192
    assert 0.3 < page["uar"] <= 1.0  # four classes, unseen speakers: a classifier on shuffled rows would be at 0.25


def test_the_prediction_of_the_page_is_a_table(page):
    said = page["said"]
    assert len(said) == 1
    assert set(said["prediction"]) <= set(page["run"].views["emotion"])
    assert said["n_models"].tolist() == [2]


# ---------------------------------------------------------------- a run


@pytest.fixture
def copied(page, tmp_path):
    """A copy of the page's run, to be spoilt."""
    return Path(shutil.copytree(page["run"].path, tmp_path / "runs" / "r" / "one"))


def test_scores_are_those_of_the_predictions(page):
    run, rows = page["run"], page["rows"]
    (score,) = run.scores.query("checkpoint == 'selected'").to_dict("records")
    assert (score["condition"], score["view"], score["role"], score["n_utterances"]) == (
        "BL",
        "emotion",
        "baseline",
        192,
    )
    pooled = (rows["label"] == rows["prediction"]).groupby(rows["label"]).mean().mean()
    assert score["uar_pooled"] == pytest.approx(pooled)
    assert score["wa"] == pytest.approx((rows["label"] == rows["prediction"]).mean())
    by_fold = [
        (part["label"] == part["prediction"]).groupby(part["label"]).mean().mean() for _, part in rows.groupby("fold")
    ]
    assert score["uar"] == pytest.approx(np.mean(by_fold))
    assert score["uar_pooled_low"] <= score["uar_pooled"] <= score["uar_pooled_high"]
    assert np.isnan(score["uar_sd"])  # one seed
    assert page["probabilities"].idxmax(axis=1).tolist() == rows["prediction"].tolist()


def test_what_a_run_says_of_itself(page):
    run = page["run"]
    assert (run.conditions, run.seeds, run.folds, run.complete) == (("BL",), (0,), ("group_1", "group_2"), True)
    assert run.protocol["id"] == run.protocol_id == run.results["protocol_id"]
    assert run.recipe["training"]["epochs"] == 2
    assert run.utterances.loc["synthetic_a/000_anger_00_0", "speaker"] == "synthetic_a/000"
    assert run.utterances.index.name == "id"
    assert "id" not in run.utterances
    assert len(page["rows"].merge(run.utterances.reset_index(), on="id")) == len(page["rows"]) == 192
    with pytest.raises(AttributeError):
        run.path = Path("other")


def test_the_folds_of_a_run_are_those_it_was_trained_on(page):
    run, rows = page["run"], page["rows"]
    assert [fold.name for fold in run.splits] == list(run.folds)
    for fold in run.splits:
        assert sorted(fold.test) == sorted(rows.loc[rows["fold"] == fold.name, "id"])
        assert len({*fold.train, *fold.dev, *fold.test}) == len(fold.train) + len(fold.dev) + len(fold.test) == 192
    # every utterance has a label that the recipe uses, and the command sets the protocol as it is set here
    assert run.splits == repkit.make_folds(page["utterances"], "speaker_k_fold", k=2)


def test_reading_writes_nothing_and_a_killed_run_is_read_as_far_as_it_came(copied):
    shutil.rmtree(copied / "jobs/BL/seed_0/group_2")
    before = {p: p.read_bytes() for p in copied.rglob("*") if p.is_file()}
    run = repkit.load_run(copied)
    (score,) = run.scores.query("checkpoint == 'selected'").to_dict("records")
    assert not run.complete, "results.json is of before"
    assert not score["complete"]
    assert score["n_folds"] == 1
    assert set(run.predictions["fold"]) == {"group_1"}
    assert {p: p.read_bytes() for p in copied.rglob("*") if p.is_file()} == before
    (copied / "results.json").unlink()
    pd.testing.assert_frame_equal(repkit.load_run(copied).scores, run.scores)
    assert [fold.name for fold in run.splits] == ["group_1"]
    (copied / "jobs/BL/seed_0/group_1/done.json").unlink()
    none = repkit.load_run(copied)
    assert none.scores.empty
    assert none.scores.columns.tolist() == run.scores.columns.tolist()
    assert none.splits == []


def test_warnings_of_both_doors_are_of_the_line_that_asked(page, copied):
    (copied / "jobs/BL/seed_0/group_2/done.json").unlink()
    sound, run = page["waveform"], repkit.load_run(copied)
    ask = (lambda: repkit.predict(copied, sound), lambda: run.predict(sound))
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        for one in ask:
            one()
    assert [w.filename for w in told if w.category is RepkitWarning] == [__file__] * 2


def test_predicting_leaves_the_arithmetic_of_the_caller_as_it_was(page):
    import torch

    smallest = np.float64(5e-324)
    was = bool(smallest * 1.0 == 0.0)
    try:
        for flushed in (False, True):
            torch.set_flush_denormal(flushed)
            page["run"].predict(page["waveform"])
            assert bool(smallest * 1.0 == 0.0) is flushed
    finally:
        torch.set_flush_denormal(was)


def test_which_run_is_meant(copied, tmp_path):
    assert repkit.load_run(tmp_path / "runs").path == repkit.load_run(str(copied)).path == copied
    shutil.copytree(copied, copied.with_name("two"))
    with pytest.raises(DataError, match="holds 2 runs; one was expected") as caught:
        repkit.load_run(tmp_path / "runs")
    assert caught.value.problems == (str(copied), str(copied.with_name("two")))


def test_what_is_no_run(tmp_path):
    with pytest.raises(DataError, match="no such folder"):
        repkit.load_run(tmp_path / "absent")
    with pytest.raises(DataError, match=r"no run directory of `repkit train-ser`"):
        repkit.load_run(tmp_path)
    (tmp_path / "encoder").mkdir()
    (tmp_path / "encoder/config.json").write_text("{}")
    with pytest.raises(DataError, match=r"an encoder: give it as --encoder"):
        repkit.load_run(tmp_path)
    (tmp_path / "protocol.json").write_text("{}")
    with pytest.raises(DataError, match="no 'id'"):
        repkit.load_run(tmp_path)
