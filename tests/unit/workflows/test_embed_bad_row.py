"""An encoder that cannot encode an utterance says so in its place; the store is told like of audio that cannot be read."""

import numpy as np
import pytest

from repkit.api import BadAudioError, Utterance
from repkit.errors import DataError
from repkit.workflows.embed import embed

LENGTHS = (400, 30, 500, 0, 600, 20)
"""Samples; 0 stands for a file that cannot be read."""


class Corpus:
    name = "toy"

    def utterances(self):
        return [Utterance(id=f"u{i}", corpus="toy", speaker=None) for i in range(len(LENGTHS))]

    def stream(self, skip=0, max_duration_s=None):
        for utterance, n in list(zip(self.utterances(), LENGTHS, strict=True))[skip:]:
            yield utterance, np.full(n, n / 1000, np.float32) if n else BadAudioError(f"{utterance.id}: unreadable")

    def fingerprint(self):
        return "f"


class Encoder:
    name, dim, level = "picky", 2, "utterance"

    def __init__(self):
        self.asked = []

    def encode(self, waveforms):
        self.asked += [len(sound) for sound in waveforms]
        return [
            np.array([len(sound), sound[0]], np.float32) if len(sound) > 100 else BadAudioError(f"{len(sound)} samples")
            for sound in waveforms
        ]

    def provenance(self):
        return {"corpora": [], "speakers": []}


@pytest.mark.parametrize("window", [1, 2, 256])
def test_it_is_left_out_with_the_reason(tmp_path, window):
    encoder = Encoder()
    store = embed(encoder, [Corpus()], tmp_path, on_bad_audio="skip", window=window)["toy"]
    assert list(store.ids) == ["u0", "u2", "u4"]
    np.testing.assert_allclose([store.read(id) for id in store.ids], [[400, 0.4], [500, 0.5], [600, 0.6]], rtol=1e-6)
    assert dict(store.left_out) == {"u1": "30 samples", "u3": "u3: unreadable", "u5": "20 samples"}
    assert encoder.asked == [400, 30, 500, 600, 20]  # never the one without sound


def test_by_default_all_are_listed_and_nothing_is_finished(tmp_path):
    with pytest.raises(DataError) as caught:
        embed(Encoder(), [Corpus()], tmp_path)
    assert caught.value.problems == ("u1: 30 samples", "u3: unreadable", "u5: 20 samples")
    other = Corpus()
    other.name = "other"
    with pytest.raises(DataError, match="corpus 'toy': 3 .*; corpus 'other': 3 ") as caught:
        embed(Encoder(), [Corpus(), other], tmp_path)
    assert len(caught.value.problems) == 6
    # the good ones are kept: told to skip, nothing is encoded again
    again = Encoder()
    assert len(embed(again, [Corpus()], tmp_path, on_bad_audio="skip")["toy"]) == 3
    assert again.asked == []
