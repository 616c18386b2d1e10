"""Predicting new speech in parts: sounds, statistics, the table by hand, encoders by identity."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import soundfile
import torch

import repkit.workflows.predict.run as predicting
from repkit.api import BadAudioError
from repkit.errors import DataError, RepkitWarning, UsageError
from repkit.workflows.predict.encoders import Part, open_parts
from repkit.workflows.predict.saved_jobs import Chosen, SavedJob
from repkit.workflows.predict.sounds import Prepared, collect, normalise, prepare
from repkit.workflows.train_ser.saved import frontend_table, load_statistics


def tone(seconds=0.5, rate=16000):
    return (0.1 * np.sin(np.arange(round(seconds * rate)) * 0.3)).astype(np.float32)


def test_files_folders_and_arrays_become_sounds_once_each(tmp_path):
    (tmp_path / "in").mkdir()
    for name in ("b.WAV", "in/a.flac", "in/notes.txt"):
        (tmp_path / name).write_bytes(b"x")
    named = [str(tmp_path / "b.WAV"), str(tmp_path / "in" / "a.flac")]
    found = collect([tmp_path, tmp_path / "in" / "a.flac", tone(), tmp_path / "gone.wav"], 16000)
    assert [one.name for one in found] == [*named, "sound_2", str(tmp_path / "gone.wav")]
    assert [one.name for one in collect(str(tmp_path / "in"), 16000)] == named[1:]  # a path alone, in no list
    (tmp_path / "empty").mkdir()
    for sounds, said in (([tmp_path / "empty"], "a folder without audio files"), ([], "no sound")):
        with pytest.raises(UsageError, match=said):
            collect(sounds, 16000)


def test_a_file_is_called_as_it_was_given(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    Path("in").mkdir()
    Path("in/a.wav").write_bytes(b"x")
    given = ["./in/a.wav", "in/a.wav", "./in", "in/../new.wav", "~/in/a.wav"]
    found = collect(given, 16000)  # the second and third are the first again, the last by its whole path
    assert [one.name for one in found] == ["./in/a.wav", "in/../new.wav", "~/in/a.wav"]
    assert found[2].source == tmp_path / "in" / "a.wav"
    assert [one.name for one in collect("./in/", 16000)] == ["./in/a.wav"]


def test_one_or_several_in_whatever_holds_them(tmp_path):
    sound, path = tone(), tmp_path / "a.wav"
    series = pd.Series(sound, index=range(5, 5 + len(sound)))
    for one in (sound, torch.from_numpy(sound), series, [sound], [sound.tolist()]):
        (found,) = collect(one, 16000.0)
        np.testing.assert_array_equal(found.read(None), sound)
    for several in (np.stack([sound, sound / 2]), torch.from_numpy(sound).repeat(2, 1), (sound for _ in range(2))):
        assert [one.name for one in collect(several, 16000)] == ["sound_0", "sound_1"]
    for names in (path, str(path), np.array([str(path)]), pd.Series([str(path)], index=[3]), (path,)):
        assert [one.name for one in collect(names, 16000)] == [str(path)]


def test_folders_are_searched_as_those_of_corpora_are(tmp_path, recwarn):
    for name in ("root", "elsewhere"):
        (tmp_path / name).mkdir()
    (tmp_path / "root" / "in").symlink_to(tmp_path / "elsewhere")
    for name in ("root/a.WAV", "root/._a.WAV", "elsewhere/b.flac"):
        (tmp_path / name).write_bytes(b"x")
    root = tmp_path / "root"
    assert [one.name for one in collect([root], 16000)] == [str(root / "a.WAV"), str(root / "in" / "b.flac")]
    assert not recwarn
    (tmp_path / "elsewhere" / "c.m4a").write_bytes(b"x")
    with pytest.warns(
        RepkitWarning, match=r"root: 1 file ending in \.m4a was left alone: expected \.wav, .*; convert it"
    ):
        assert len(collect([root], 16000)) == 2
    (tmp_path / "elsewhere" / "b.flac").unlink()
    with pytest.raises(UsageError, match=r"without audio files; 1 file ending in \.m4a was left alone"):
        collect([tmp_path / "elsewhere"], 16000)


@pytest.mark.parametrize(
    ("array", "said"),
    [
        (np.zeros((100, 2), np.float32), r"sound 0: an array of shape \(100, 2\).*mean over its channels"),
        (np.zeros(100, np.int16), "divide 16-bit samples by 32768"),
        (tone() * 32768, r"sound 0: samples beyond 100; expected .*full scale 1; divide .*32768"),
        (0.25, "sound 0: got float; .*samples are given as an array"),
        (b"RIFF", "sound 0: got bytes"),
        ([[0.1, 0.2], [0.1]], "sound 0: got list, of which numpy makes no array"),
        (torch.zeros(100, dtype=torch.bfloat16), r"sound 0: got Tensor, .*float\(\)\.cpu\(\)"),
    ],
)
def test_arrays_that_are_no_mono_waveform_are_refused(array, said):
    with pytest.raises(UsageError, match=said):
        collect([array], 16000)


@pytest.mark.parametrize("given", [b"a.wav", {"a.wav": 1}, 7, None, np.zeros((100, 2))])
def test_what_holds_no_sounds_is_refused(given):
    with pytest.raises(UsageError, match=r"^sounds: (got (bytes|dict|int|NoneType);|an array of shape \(100, 2\))"):
        collect(given, 16000)


@pytest.mark.parametrize("rate", [0, 16000.5, "16000", None, float("inf")])
def test_a_sample_rate_is_a_rate(rate):
    with pytest.raises(UsageError, match="sample_rate"):
        collect([tone()], rate)


def test_an_array_is_heard_as_it_is():
    values = tone()
    (sound,) = collect([values.astype(np.float64)], 16000)
    np.testing.assert_array_equal(sound.read(None), values)
    np.testing.assert_array_equal(sound.read(0.25), values[:4000])
    assert [one.name for one in collect(values, 16000)] == ["sound_0"]
    assert len(collect([tone(1.0, 8000)], 8000)[0].read(None)) == 16000


class Widths:
    """An encoder that says how many samples it was given, and cannot encode fewer than 5000."""

    name, level, dim = "widths", "utterance", 1

    def __init__(self, version=1):
        self.version = version

    def encode(self, waveforms):
        return [
            np.array([len(w)]) if len(w) > 5000 else BadAudioError(f"{len(w)} samples are too few") for w in waveforms
        ]

    def provenance(self):
        return {"encoder": "widths", "version": self.version, "corpora": [], "speakers": []}


def test_what_models_and_encoders_hear_is_cut_apart():
    frontend, table = frontend_table("log_mel", {"bands": 8})
    late = tone(1.0)
    late[-100] = np.nan  # behind what the models hear, but not the encoder
    sounds = collect([tone(1.0), tone(0.3), np.zeros(8000, np.float32), late], 16000)
    part = Part(Widths(), "float16", None, "fp32")
    made = prepare(sounds, frontend, table["dtype"], 0.5, [part])
    assert made.names == ["sound_0"]
    assert made.bad["sound_1"] == "4800 samples are too few"
    assert "silent" in made.bad["sound_2"]
    assert "NaN" in made.bad["sound_3"]
    assert made.cut == {"sound_0": pytest.approx(1.0)}
    assert made.vectors.tolist() == [[16000.0]]  # the whole, though the models hear half of it
    half = prepare(sounds[:1], frontend, table["dtype"], 0.5, [Part(Widths(), "float16", 0.5, "fp32")])
    assert half.vectors.tolist() == [[8000.0]]
    assert len(made.frames[0]) == frontend.n_frames(8000)
    assert np.array_equal(
        made.frames[0], made.frames[0].astype(np.float16)
    )  # as the cache has rounded those of training


class Stages(Widths):
    """An encoder of two stages that says whether each ran in bfloat16."""

    def frames(self, waveform):
        return np.full((1, 1), torch.is_autocast_enabled("cpu"), np.float32)

    def encode_frames(self, frames):
        return [np.append(one[0], np.float32(torch.is_autocast_enabled("cpu"))) for one in frames]


@pytest.mark.parametrize(("precision", "expected"), [("bf16", [0, 1]), ("fp32", [0, 0])])
def test_frames_are_of_full_precision_as_embed_makes_them(precision, expected):
    frontend, table = frontend_table("log_mel", {"bands": 8})
    part = Part(Stages(), "float32", 0.5, precision)
    made = prepare(collect([tone()], 16000), frontend, table["dtype"], 0.5, [part])
    assert made.vectors.tolist() == [expected]


def test_one_seed_fold_or_encoder_needs_no_list(monkeypatch, tmp_path):
    asked = []

    def apply(run, sounds, choice, sample_rate):
        asked.append((choice.seeds, choice.folds, choice.encoders))
        return predicting.Predictions(pd.DataFrame(), "c", 1, (), {})

    monkeypatch.setattr(predicting, "apply_run", apply)
    for encoder in ("functionals", tmp_path, Widths()):
        predicting.predict("r", "a.wav", seeds=np.int64(3), folds="group_1", encoders=encoder)
        predicting.predict("r", "a.wav", seeds=[3], folds=("group_1",), encoders=[encoder])
        assert asked[-1] == asked[-2] == ((3,), ("group_1",), (encoder,))
    predicting.predict("r", "a.wav")
    assert asked[-1] == ((), (), ())


def test_statistics_of_one_speaker_by_hand():
    made = Prepared(names=["a", "b"], frames=[np.array([[0.0], [2.0]]), np.array([[4.0], [6.0]])],
                    vectors=np.array([[1.0, 7.0], [3.0, 7.0]], np.float32))  # fmt: skip
    frames = normalise(made, "per_speaker", "per_speaker")
    # mean 3, variance (9 + 1 + 1 + 9) / 4 = 5; vectors: mean 2, deviation 1; a constant column becomes 0
    np.testing.assert_allclose(frames.values[:, 0], (np.array([0, 2, 4, 6]) - 3) / 5**0.5, rtol=1e-6)
    assert made.vectors.tolist() == [[-1, 0], [1, 0]]
    alone = normalise(Prepared(names=["a"], frames=[np.array([[0.0], [2.0]])]), "per_utterance", None)
    assert alone.values[:, 0].tolist() == [-1, 1]
    raw = normalise(Prepared(names=["a"], frames=[np.array([[5.0]])]), "global_train", None)
    assert raw.values.tolist() == [[5]]


def test_the_table_by_hand():
    made = Prepared(names=["x", "z"], bad={"y": "y: silent"})
    views = {"emotion": ["anger", "joy", "fear"], "arousal": ["low", "high"]}
    models = [
        {"emotion": np.array([[0.6, 0.3, 0.1], [0.2, 0.5, 0.3]]), "arousal": np.array([[0.9, 0.1], [0.4, 0.6]])},
        {"emotion": np.array([[0.1, 0.8, 0.1], [0.1, 0.6, 0.3]]), "arousal": np.array([[0.7, 0.3], [0.7, 0.3]])},
        {"emotion": np.array([[0.5, 0.4, 0.1], [0.6, 0.1, 0.3]]), "arousal": np.array([[0.8, 0.2], [0.7, 0.3]])},
    ]
    table = pd.DataFrame(predicting._rows(["x", "y", "z"], made, views, models))
    assert table["file"].tolist() == ["x", "x", "y", "y", "z", "z"]
    assert table["view"].tolist() == ["emotion", "arousal"] * 3
    # the mean over models decides: joy 0.5 against anger 0.4, though two of three models say anger
    assert table["prediction"].fillna("-").tolist() == ["joy", "low", "-", "-", "joy", "low"]
    np.testing.assert_allclose(table["agreement"], [1 / 3, 1, np.nan, np.nan, 2 / 3, 2 / 3])
    np.testing.assert_allclose(table.loc[0, ["p_anger", "p_joy", "p_fear"]].astype(float), [0.4, 0.5, 0.1])
    assert table.loc[0, ["p_low", "p_high"]].isna().all()
    np.testing.assert_allclose(table.loc[5, ["p_low", "p_high"]].astype(float), [0.6, 0.4])
    assert table["n_models"].tolist() == [3, 3, 0, 0, 3, 3]
    assert table["error"].fillna("-").tolist() == ["-", "-", "y: silent", "y: silent", "-", "-"]


def test_sounds_are_judged_in_blocks_unless_statistics_are_of_all_of_them(monkeypatch):
    monkeypatch.setattr(predicting, "AT_ONCE", 2)
    utterance, frame = {"level": "utterance"}, {"level": "frame"}
    by_speaker, raw = {"by": "per_speaker", "standardise": True}, {"by": "per_speaker", "standardise": False}
    expected = [
        ("global_train", by_speaker, None, 3),
        ("none", by_speaker, frame, 3),
        ("none", raw, utterance, 3),
        ("none", by_speaker, utterance, 1),
        ("per_speaker", raw, None, 1),
    ]
    for mode, vector, embeddings, n in expected:
        description = {"normalisation": {"mode": mode}, "vector": vector, "embeddings": embeddings}
        blocks = predicting._blocks(list("abcde"), description)
        assert [one for block in blocks for one in block] == list("abcde")
        assert len(blocks) == n


def part_of(version, dim=1, **more):
    source = {"encoder": "widths", "version": version, "name": "elsewhere", "max_duration_s": 2.0, **more}
    return {"dim": dim, "dtype": "float32", "source": source}


def test_encoders_are_matched_by_what_they_compute_in_any_order():
    one, two = Widths(1), Widths(2)
    parts = open_parts({"parts": [part_of(2), part_of(1, precision="bf16")]}, [one, two], "c", "cpu")
    assert [part.encoder for part in parts] == [two, one]
    assert [(part.max_duration_s, part.precision) for part in parts] == [(2.0, "fp32"), (2.0, "bf16")]
    for given, parts, said in (
        ([one], [part_of(3)], r"version \(1; 3 in the run\)"),
        ([one], [part_of(1, dim=2)], r"dim \(1; 2 in the run\)"),
        ([one, two], [part_of(1)], "no embedding of condition 'c' was made by it"),
        ([], [part_of(1)], r"embeddings of elsewhere \(widths, 1 numbers\)"),
    ):
        with pytest.raises(UsageError, match=said):
            open_parts({"parts": parts}, given, "c", "cpu")
    with pytest.raises(UsageError, match="reads no embeddings"):
        open_parts(None, [one], "c", "cpu")
    assert open_parts(None, [], "c", "cpu") == []


def described(mode="global_train", by="train", level="utterance", **more):
    vector = {"standardise": True, "by": by, "min_clips": 10}
    return {"normalisation": {"mode": mode, "min_clips": 10}, "vector": vector, "embeddings": {"level": level}, **more}


@pytest.mark.parametrize(
    ("description", "flag"),
    [
        (described(mode="per_speaker"), "same_speaker"),
        (described(mode="per_corpus"), "same_corpus"),
        (described(by="per_speaker"), "same_speaker"),
        (described(by="per_corpus"), "same_corpus"),
    ],
)
def test_statistics_of_a_group_need_the_word_that_there_is_one(description, flag):
    told = {"same_speaker": False, "same_corpus": False}
    with pytest.raises(UsageError, match=f"--{flag.replace('_', '-')}"):
        predicting._check_groups(description, **{**told, ({*told} - {flag}).pop(): True})
    predicting._check_groups(description, **{**told, flag: True})
    predicting._check_groups(described(by="per_speaker", level="frame"), **told)


def test_only_models_that_have_heard_the_corpus_are_used(tmp_path):
    weights = [{"one": "a", "two": "b"}, {"one": "a"}]
    jobs = [
        SavedJob(tmp_path, 0, name, {"weights": {"selected": files}, "per_corpus": True, "task": {"corpora": {"one": {}, "two": {}}}})
        for name, files in zip("fg", weights)
    ]  # fmt: skip
    corpus, kept, notes = predicting._of_corpus(Chosen("c", tuple(jobs), ()), "two")
    assert (corpus, list(kept)) == ("two", jobs[:1])
    assert notes == ["1 models are left out, which were not trained on two"]
    with pytest.raises(UsageError, match="did you mean 'one'"):
        predicting._of_corpus(Chosen("c", tuple(jobs), ()), "onee")
    with pytest.raises(UsageError, match="none of the 1 models was trained on it"):
        predicting._of_corpus(Chosen("c", tuple(jobs[1:]), ()), "two")


def test_statistics_that_are_not_there_are_named(tmp_path):
    with pytest.raises(DataError, match="normalisation.safetensors: not there"):
        load_statistics(tmp_path / "normalisation.safetensors", 1)
    soundfile.write(tmp_path / "x.wav", tone(), 16000)
    with pytest.raises(DataError, match="no run directory of `repkit train-ser`"):
        predicting.predict(tmp_path, [tmp_path / "x.wav"])
