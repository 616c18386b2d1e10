"""Faulty tables, recipes, names and folds through the real commands: where, what and the remedy, before anything runs."""

from pathlib import Path

import pytest
from cli_helpers import RECIPE, cli, files_of, read_table, write_corpus, write_table

from repkit.plugins import discover


@pytest.mark.parametrize(
    ("header", "change", "said"),
    [
        (
            ("name", "speaker_id", "gender", "emotion"),
            lambda rows: rows,
            ["no column with the audio files", "--corpus-set"],
        ),
        (("file_name", "talker?", "gender", "emotion"), lambda rows: rows, ["speaker", "--corpus-set"]),
        (
            None,
            lambda rows: [(*rows[0][:3], "angr"), *rows[1:]],
            ["angr", "did you mean 'anger'", "metadata.csv line 2"],
        ),
        (None, lambda rows: [(rows[0][0], "", *rows[0][2:]), *rows[1:]], ["metadata.csv line 2", "speaker"]),
        (None, lambda rows: [("gone.wav", *rows[0][1:]), *rows[1:]], ["gone.wav"]),
        (None, lambda rows: [*rows, rows[0]], ["line 18", "already in line 2"]),
        (None, lambda rows: [(rows[0][0], "NA", *rows[0][2:]), *rows[1:]], ["metadata.csv line 2", "counts as empty"]),
        (None, lambda rows: [rows[0][:3], *rows[1:]], ["metadata.csv line 2", "fewer cells", "none for emotion"]),
        (
            ("file_name", "speaker_id", "Emotion", "emotion"),
            lambda rows: rows,
            ["2 columns are called Emotion or emotion", "--corpus-set mine.columns.emotion=COLUMN"],
        ),
    ],
    ids=[
        *("no audio column", "no speaker column", "label typo", "speaker missing", "file missing", "id twice"),
        *("speaker NA", "cells missing", "two emotions"),
    ],
)
def test_faulty_tables_are_refused_with_line_and_remedy(here, header, change, said):
    folder = write_corpus(here / "mine")
    write_table(folder, change(read_table(folder)), header or ("file_name", "speaker_id", "gender", "emotion"))
    done = cli("train-ser", "--recipe", "tiny.toml", "--corpus", "mine=mine", "--workers", 1)
    assert done.code == 4, done.err
    for text in said:
        assert text in done.err
    assert not (here / "runs").exists()


def test_wrong_recipes_tell_all_problems_at_once(here, stage_one):
    Path("wrong.toml").write_text(RECIPE.replace("epochs = 2", 'epochs = "two"\nepoch = 3').replace("seeds", "seds"))
    done = cli("train-ser", "--recipe", "wrong.toml", "--corpus", f"toy={stage_one / 'toy'}")
    assert done.code == 2
    for text in (
        "seds: unknown key; did you mean 'seeds'",
        "training.epochs: got 'two'",
        "training.epoch: unknown key",
    ):
        assert text in done.err
    settings = ("model.dropuot=0.1", "frontend.bands=many", "protocol.n_groups=1", "objectives.0.alpha=-1")
    options = [option for setting in settings for option in ("--set", setting)]
    for command in (("train-ser", "--corpus", f"toy={stage_one / 'toy'}", "--recipe"), ("recipes", "check")):
        done = cli(*command, "tiny.toml", *options)
        assert done.code == 2
        assert "model.dropuot: unknown key; did you mean 'dropout'" in done.err
        assert "frontend.bands: got 'many'" in done.err
        assert "protocol.n_groups: got 1" in done.err
        assert "objectives.0.alpha: got -1" in done.err
    assert files_of(here) == ["tiny.toml", "wrong.toml"]  # said before any frames are made


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["train-ser", "--recipe", "dann", "--corpus", "synthetic_a"], 2, "it comes with repkit-dann"),
        (
            ["train-ser", "--recipe", "tiny.toml", "--corpus", "synthetic_a", "--set", 'model={name="lstmm"}'],
            3,
            "no component named 'lstmm'",
        ),
        (
            ["train-ser", "--recipe", "tiny.toml", "--corpus", "synthetic_a", "--set", 'objectives=[{name="dann"}]'],
            3,
            "no component named 'dann' in repkit.objectives; it comes with repkit-dann (in a clone of repkit: pip install ./plugins/repkit-dann)",
        ),
        (
            ["train-ser", "--recipe", "neuman2019", "--corpus", "synthetic_a"],
            2,
            "recipe 'neuman2019': not found; did you mean 'neumann2019'",
        ),
        (["train-ser", "--recipe", "tiny.toml"], 2, "--corpus: none given"),
        (["train-ser", "--recipe", "tiny.toml", "--corpus", "emodb"], 2, "emodb=PATH"),
        (["train-ser", "--recipe", "tiny.toml", "--corpus", "mine=nowhere"], 4, "no such folder"),
        (
            ["train-ser", "--recipe", "tiny.toml", "--corpus", "synthetic_a", "--embeddings", "nowhere"],
            2,
            "no such folder",
        ),
        (["embed", "--encoder", "nowhere", "--corpus", "synthetic_a", "--out", "emb"], 2, "nowhere"),
        (
            ["pretrain-ae", "--corpus", "synthetic_a", "--out", "ae", "--set", "training.epoch=3"],
            2,
            "did you mean 'epochs'",
        ),
        (["report", "."], 2, "protocol.json is missing"),
    ],
)
def test_wrong_names_are_explained(here, arguments, code, said, monkeypatch):
    monkeypatch.setenv("REPKIT_PLUGINS", "none")
    done = cli(*arguments)
    assert (done.code, said in done.err) == (code, True), done.err
    assert files_of(here) == ["tiny.toml"]


class Leaky:
    """Folds whose first test speaker is also in train."""

    from repkit.api import Config

    def __init__(self, config):
        pass

    def folds(self, utterances):
        from repkit.api import Fold

        ids = [u.id for u in utterances]
        return [Fold("all", train=tuple(ids[:-3]), dev=(), test=tuple(ids[-3:]))]


def test_a_speaker_in_train_and_test_stops_the_run_by_name(here, stage_one, monkeypatch):
    from importlib.metadata import EntryPoint

    real = discover.entry_points
    leaky = EntryPoint("leaky", f"{__name__}:Leaky", "repkit.protocols")
    monkeypatch.setattr(
        discover, "entry_points", lambda group: [*real(group=group), *([leaky] if group == leaky.group else [])]
    )
    done = cli(
        "train-ser", "--recipe", "tiny.toml", "--corpus", f"toy={stage_one / 'toy'}", "--set", 'protocol={name="leaky"}'
    )
    assert done.code == 4
    speaker = sorted({row[1] for row in read_table(stage_one / "toy")})[-1]
    assert f"fold 'all': toy/{speaker} in train and in test" in done.err
    assert "expected speaker-disjoint train, dev and test; correct the split" in done.err
    assert not (here / "runs").exists()
