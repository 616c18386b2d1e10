"""pretrain_ae and embed on generated speech: what they write, bad audio, all encoders."""

import json
from pathlib import Path

import numpy as np
import pytest

from repkit.audio.synthetic import SyntheticCorpus
from repkit.config import PretrainRecipe, load_recipe
from repkit.errors import BadAudioError, DataError, StoreError, UsageError
from repkit.stage_one.gru_autoencoder import GruAutoencoder
from repkit.stage_one.open import open_encoder
from repkit.stage_one.train import PretrainConfig
from repkit.store import open_store
from repkit.workflows.embed import embed
from repkit.workflows.pretrain_ae import pretrain_ae


def corpus(name="toy", **more):
    settings = {"name": name, "n_speakers": 4, "n_sentences": 2, "duration_s": 0.8} | more
    return SyntheticCorpus(SyntheticCorpus.Config(**settings))


def config(**more):
    small = {"hidden_size": 8, "batch_size": 8, "epochs": 2, "frontend_settings": {"bands": 16}, "device": "cpu"}
    return PretrainConfig(**small | more)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("stage-one")
    pretrain_ae(
        [corpus(), corpus("other", seed=1)], folder / "ae-toy", config(), cache=folder / "cache", progress="none"
    )
    return folder / "ae-toy"


def test_several_corpora_are_heard_and_recorded(trained):
    results = json.loads((trained / "results.json").read_text())
    heard = results["provenance"]
    assert [c["name"] for c in heard["corpora"]] == ["toy", "other"]
    assert len(heard["speakers"]) + len(heard["held_out_speakers"]) == 8
    assert heard["corpora"][0]["fingerprint"] == corpus().fingerprint()
    assert results["vector_use"].keys() >= {"own", "another", "zeros", "copy_previous"}
    frames = sorted((trained.parent / "cache" / "frames").iterdir())
    assert [f.name.rsplit("-", 1)[0] for f in frames] == ["other", "toy"]
    assert not list(trained.parent.rglob("*.wav"))


def test_embedding_with_every_encoder(trained, tmp_path):
    seen = []
    speech = corpus("new", n_sentences=3)
    for spec, folder, dim in (
        (str(trained), "ae-toy", 32),
        (f"untrained:{trained}", "untrained-ae-toy", 32),
        (f"statistics:{trained}", "statistics-ae-toy", 32),
    ):
        stores = embed(spec, [speech], tmp_path, window=10, progress=lambda *done: seen.append(done))
        found = stores["new"].load()
        assert stores["new"].path == tmp_path / folder / "new"
        assert found.values.shape == (len(speech.utterances()), dim)
        assert found.values.dtype == np.float32
        assert list(found.ids) == [u.id for u in speech.utterances()]  # the order of the corpus, not of the batches
        # each in its batch of similar lengths equals itself alone
        encoder = open_encoder(spec)
        for row in (0, 7, len(found.ids) - 1):
            alone = encoder.encode([speech.read(speech.utterances()[row])])[0]
            np.testing.assert_allclose(found.values[row], alone, atol=1e-5)
        assert stores["new"].spec.source["encoder"] in ("gru_autoencoder", "statistics")
    n = len(speech.utterances())
    assert seen[:n] == [("new", i + 1, n) for i in range(n)]
    heard = open_store(tmp_path / "ae-toy" / "new").spec.source
    assert heard["speakers"]
    assert {c["name"] for c in heard["corpora"]} == {"toy", "other"}


def test_frame_level_and_float16(trained, tmp_path):
    store = embed(str(trained), [corpus()], tmp_path, level="frame", dtype="float16")["toy"]
    assert store.spec.kind == "frames"
    assert store.spec.frame_shift_s == pytest.approx(0.04)
    first = corpus().utterances()[0]
    states = store.read(first.id)
    wanted = GruAutoencoder.from_pretrained(trained / "encoder").encode_waveforms([corpus().read(first)], "sequence")[0]
    np.testing.assert_allclose(states, wanted, atol=1e-3)


def test_embedding_again_decodes_nothing_and_another_encoder_is_refused(trained, tmp_path, monkeypatch):
    embed(str(trained), [corpus()], tmp_path)
    monkeypatch.setattr(SyntheticCorpus, "stream", lambda *a, **k: pytest.fail("decoded again"))
    embed(str(trained), [corpus()], tmp_path)
    monkeypatch.undo()
    encoder = open_encoder(f"untrained:{trained}", seed=3)
    encoder.name = "ae-toy"
    with pytest.raises(StoreError, match="fingerprint") as caught:
        embed(encoder, [corpus()], tmp_path)
    assert any("weights_sha256" in p for p in caught.value.problems)


class Faulty(SyntheticCorpus):
    """Two utterances cannot be read."""

    def stream(self, skip=0, max_duration_s=None):
        for position, (utterance, sound) in enumerate(super().stream(0, max_duration_s)):
            if position in (3, 9):
                sound = BadAudioError(f"{utterance.id}: all samples are zero; sound was expected")
            if position >= skip:
                yield utterance, sound


def test_bad_audio_stops_with_a_list_or_is_left_out(trained, tmp_path):
    faulty = Faulty(corpus("bad").config)
    with pytest.raises(DataError, match=r"'bad': 2 utterances.*--on-bad-audio skip") as caught:
        embed(str(trained), [faulty], tmp_path)
    assert len(caught.value.problems) == 2
    assert "all samples are zero" in caught.value.problems[0]
    with pytest.raises(DataError):  # and again, without decoding all anew
        embed(str(trained), [faulty], tmp_path)
    store = embed(str(trained), [faulty], tmp_path, on_bad_audio="skip")["bad"]
    assert len(store) == len(faulty.utterances()) - 2
    assert len(store.left_out) == 2

    worse = Faulty(corpus("worse").config)
    with pytest.raises(DataError, match="corpus 'bad': 2 utterances.*corpus 'worse': 2 utterances") as caught:
        pretrain_ae([faulty, worse], tmp_path / "ae", config(), cache=tmp_path / "cache", progress="none")
    assert len(caught.value.problems) == 4
    assert not (tmp_path / "ae" / "checkpoints").exists()  # before the training starts
    results = pretrain_ae(
        [faulty], tmp_path / "ae", config(), cache=tmp_path / "cache", on_bad_audio="skip", progress="none"
    )
    assert results["updates"] > 0


def test_the_papers_preset_hears_7_5_seconds_of_each(tmp_path):
    settings = {
        **load_recipe(PretrainRecipe, "autoencoder_paper").training,
        "hidden_size": 4,
        "epochs": 1,
        "frontend_settings": {"bands": 16},
        "device": "cpu",
    }
    speech = corpus(n_sentences=1)
    pretrain_ae([speech], tmp_path / "ae", PretrainConfig(**settings), cache=tmp_path / "cache", progress="none")
    (folder,) = (tmp_path / "cache" / "frames").iterdir()
    assert set(open_store(folder).lengths.tolist()) == {186}
    encoder = open_encoder(str(tmp_path / "ae"), level="frame")
    assert encoder.encode([speech.read(speech.utterances()[0])])[0].shape == (186, 4)


def test_done_needs_neither_frames_nor_audio_and_other_settings_are_refused_first(trained, tmp_path, monkeypatch):
    monkeypatch.setattr(SyntheticCorpus, "stream", lambda *a, **k: pytest.fail("audio was read"))
    both = [corpus(), corpus("other", seed=1)]
    done = pretrain_ae(both, trained, config(), cache=tmp_path / "empty")
    assert done == json.loads((trained / "results.json").read_text())
    with pytest.raises(UsageError, match="other settings") as caught:
        pretrain_ae(both[:1], trained, config(cell="lstm"), cache=tmp_path / "empty")
    assert [p.split(":")[0] for p in caught.value.problems] == ["settings.cell", "frames.other"]


def test_corpora_must_be_named_once(tmp_path):
    with pytest.raises(UsageError, match="each once"):
        pretrain_ae([corpus(), corpus()], tmp_path / "ae", config(), cache=tmp_path)
    with pytest.raises(UsageError, match="expected one or more"):
        pretrain_ae([], tmp_path / "ae", config(), cache=tmp_path)


def test_no_path_of_this_machine_in_what_is_shared(trained):
    for path in (trained / "encoder" / "config.json", trained / "results.json", trained / "config.json"):
        assert str(Path.home()) not in path.read_text()
        assert str(trained.parent) not in path.read_text()
