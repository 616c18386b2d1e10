"""How long files are, without decoding them."""

import dataclasses

import pytest

from repkit.api import Audio, Utterance
from repkit.audio.lengths import file_seconds, utterance_seconds


class Files:
    """A corpus of some utterances."""

    name = "toy"

    def __init__(self, audio):
        self._found = [Utterance(id=f"toy/{i}", corpus="toy", audio=one) for i, one in enumerate(audio)]

    def utterances(self):
        return self._found


def test_lengths_are_those_of_files_and_stretches(tmp_path, write_sound):
    path = write_sound(tmp_path / "a.wav", seconds=2.0)
    half = Audio(path=path, start_s=0.25, end_s=0.75)
    found = file_seconds(Files([Audio(path=path), half, dataclasses.replace(half, end_s=None)]))
    assert found.seconds == pytest.approx((2.0, 0.5, 1.75))
    assert (found.n, found.hours) == (3, pytest.approx(4.25 / 3600))


def test_some_files_stand_for_all_and_bad_ones_are_passed_over(tmp_path, write_sound):
    short, long = (write_sound(tmp_path / f"{s}.wav", seconds=s) for s in (0.5, 1.5))
    (tmp_path / "bad.wav").write_bytes(b"no sound")
    audio = [Audio(path=p) for p in (short, tmp_path / "bad.wav", long, tmp_path / "gone.wav")] * 5
    found = file_seconds(Files(audio), 10)
    assert (len(found.seconds), found.n) == (10, 20)
    assert found.hours == pytest.approx(20 * 1.0 / 3600)
    assert len(file_seconds(Files(audio)).seconds) == 10  # of all 20, the bad ones left out


def test_the_length_of_a_flac_from_a_pipe_is_that_of_its_sound(tmp_path, write_sound):
    path = write_sound(tmp_path / "a.flac", seconds=0.5)
    data = bytearray(path.read_bytes())
    data[21:26] = bytes([data[21] & 0xF0, 0, 0, 0, 0])  # the number of samples in STREAMINFO
    path.write_bytes(data)
    one = Utterance(id="c/a", corpus="c", audio=Audio(path=path, start_s=0.2))
    assert dict(utterance_seconds([one])) == {"c/a": pytest.approx(0.3)}


def test_what_is_no_file_has_no_length(tmp_path):
    assert file_seconds(Files([Audio()])) is None
    assert file_seconds(Files([])) is None
    assert file_seconds(Files([Audio(path=tmp_path / "gone.wav")])) is None
