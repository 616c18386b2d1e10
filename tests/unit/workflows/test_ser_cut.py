"""What the audit says of test utterances longer than a recipe lets the models hear; counted by hand."""

import csv

import numpy as np
import pytest
import soundfile
import torch

from repkit.audio.open import open_corpus
from repkit.config import SerRecipe, load_recipe
from repkit.config.schema import Condition
from repkit.store import StoreSpec
from repkit.workflows.train_ser.cost import ExpectedStore
from repkit.workflows.train_ser.cut import cut_notes
from repkit.workflows.train_ser.data import build_frontend
from repkit.workflows.train_ser.plan import make_plan

SECONDS = (0.5, 1.0, 1.25, 2.5)
"""Of the four utterances of each of three speakers; two are longer than one second."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    place = tmp_path_factory.mktemp("cut") / "mine"
    place.mkdir()
    rows = []
    for speaker in "abc":
        for number, seconds in enumerate(SECONDS):
            name = f"{speaker}{number}.wav"
            draw = np.random.default_rng(number)
            soundfile.write(place / name, 0.1 * draw.standard_normal(round(8000 * seconds)), 8000)
            rows.append((name, speaker, ("anger", "sadness")[number % 2]))
    with (place / "metadata.csv").open("w", newline="") as file:
        csv.writer(file).writerows([("file_name", "speaker_id", "emotion"), *rows])
    return place


def plan(corpus, *settings, source=None, model="attentive_cnn"):
    more = ["max_duration_s=1", "protocol.name=leave_one_speaker_out", f"model.name={model}", *settings]
    recipe = load_recipe(SerRecipe, "attentive_cnn", more)
    if source is not None:
        recipe = recipe.model_copy(update={"conditions": (Condition(name="C", embeddings="emb"),)})
    if model == "svm":
        recipe = recipe.model_copy(update={"baseline": False, "reference": "C"})

    def find(folder, condition, corpora):
        kind = {"kind": "vectors", "dim": 3, "dtype": "float32", "source": source}
        return {
            name: ExpectedStore(StoreSpec(**kind, corpus=name, corpus_fingerprint=fingerprint))
            for name, fingerprint in corpora.items()
        }

    return make_plan(recipe, {corpus.name: corpus}, find=find)


def frames(made, corpus):
    """The frames of each utterance after it is cut at a second, from its length alone."""
    frontend = build_frontend(made)
    seconds = {f"{corpus.name}/{s}{k}": min(n, 1.0) for s in "abc" for k, n in enumerate(SECONDS)}
    return torch.tensor([frontend.n_frames(round(16000 * seconds[u.id.removesuffix(".wav")])) for u in made.utterances])


@pytest.fixture(scope="module")
def corpus(folder):
    return open_corpus("mine", str(folder))


NOTE = "6 of 12 test utterances are longer than 1 s and are heard only up to there (max_duration_s); the longest lasts 2.5 s"


def test_a_note_counts_what_is_cut_and_the_protocol_stays(corpus):
    made = plan(corpus)
    before = made.protocol["id"]
    assert cut_notes(made) == (NOTE,)
    assert cut_notes(made, frames(made, corpus)) == (NOTE,)
    assert made.protocol["id"] == before == plan(corpus, "max_duration_s=2").protocol["id"]
    assert cut_notes(plan(corpus, "max_duration_s=2"))[0].startswith("3 of 12 test utterances are longer than 2 s")
    assert cut_notes(plan(corpus, "max_duration_s=2.5")) == ()


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ({"max_duration_s": None}, "; the embeddings of C were made of the whole utterance"),
        ({"max_duration_s": 2.0}, "; the embeddings of C were made of its first 2 s"),
        ({"max_duration_s": 1.0}, ""),
        ({"max_duration_s": None, "frontend": {"settings": {"fixed_length_s": 1.0}}}, ""),
        ({"max_duration_s": None, "frontend": {"settings": {"fixed_length_s": None}}}, "; the embeddings of C were made of the whole utterance"),
        ({"encoder": "somebody's, who does not say"}, ""),
        ({"encoder": "joined", "parts": [{"source": {"max_duration_s": 1}}, {"source": {"max_duration_s": 1.5}}]},
         "; the embeddings of C were made of its first 1.5 s"),
    ],
)  # fmt: skip
def test_vectors_that_hear_more_are_told(corpus, source, said):
    assert cut_notes(plan(corpus, source=source)) == (NOTE + said,)


def test_models_that_hear_no_frames_are_not_cut(corpus):
    made = plan(corpus, "training.select_by=nested", source={"max_duration_s": None}, model="svm")
    assert cut_notes(made) == ()


def test_without_files_what_fills_the_limit_is_counted():
    corpus = open_corpus("synthetic_a", options={"n_speakers": 4, "n_sentences": 2, "n_repetitions": 1})
    made = plan(corpus)
    assert cut_notes(made) == ()  # nothing is known before the frames are made
    lengths = torch.full((len(made.utterances),), 10)
    lengths[:3] = build_frontend(made).n_frames(16000)
    (note,) = cut_notes(made, lengths)
    assert note == (
        f"3 of {len(made.utterances)} test utterances last 1 s or longer and are heard only up to there (max_duration_s); "
        "how much longer is not known"
    )
