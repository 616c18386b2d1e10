"""What the audit says of fixed batches of a single class; counted by hand."""

import csv

import numpy as np
import soundfile
import torch

from repkit.audio.open import open_corpus
from repkit.config import SerRecipe, load_recipe
from repkit.workflows.train_ser.batch_notes import batch_notes
from repkit.workflows.train_ser.plan import make_plan

EMOTIONS = ("anger", "fear", "joy")


def corpus(folder, emotions):
    """Three speakers, each with four utterances of every emotion; rows in the order given, by which they are ordered."""
    folder.mkdir()
    rows = []
    for number, (emotion, speaker) in enumerate(emotions):
        name = f"{number:02}.wav"
        soundfile.write(folder / name, 0.1 * np.random.default_rng(number).standard_normal(2000), 8000)
        rows.append((name, speaker, emotion))
    with (folder / "metadata.csv").open("w", newline="") as file:
        csv.writer(file).writerows([("file_name", "speaker_id", "emotion"), *rows])
    return open_corpus(folder.name, str(folder))


def notes(opened, lengths, *settings):
    more = [
        "protocol.name=leave_one_speaker_out",
        "protocol.dev=none",
        "training.select_by=last",
        "training.batch_size=4",
    ]
    made = make_plan(load_recipe(SerRecipe, "attentive_cnn", [*more, *settings]), {opened.name: opened})
    return batch_notes(made, torch.tensor(lengths))


def test_batches_of_one_class_are_counted(tmp_path):
    by_class = [(emotion, speaker) for emotion in EMOTIONS for speaker in "abc" for _ in range(4)]
    opened = corpus(tmp_path / "sorted", by_class)
    # of each fold 24 utterances are trained on, 8 of an emotion one after the other: six batches of four, all of one class
    (note,) = notes(opened, [50] * 36, "training.sampler=length_sorted")
    assert note.startswith("condition BL: 100 % of its batches hold a single class of emotion")
    assert notes(opened, [50] * 36) == ()
    assert notes(opened, [50] * 36, "training.sampler=length_binned") == ()
    # the k-th utterance of an emotion by a speaker is k frames longer: batches hold the same k of all emotions
    mixed = [50 + i % 4 for i in range(36)]
    assert notes(opened, mixed, "training.sampler=length_sorted", "training.batch_size=6") == ()
    rounded = notes(opened, mixed, "training.sampler=length_sorted", "training.length_step_frames=64")
    assert len(rounded) == 1


def test_few_of_them_are_not_spoken_of(tmp_path):
    by_speaker = [(EMOTIONS[k % 3], speaker) for speaker in "abc" for k in range(12)]
    assert notes(corpus(tmp_path / "mixed", by_speaker), [50] * 36, "training.sampler=length_sorted") == ()
