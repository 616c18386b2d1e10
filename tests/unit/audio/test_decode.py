import io
import struct

import numpy as np
import pytest
import soundfile

from repkit.audio.decode import SAMPLE_RATE, SHORTEST_S, decode, duration_s
from repkit.config import SerRecipe
from repkit.errors import BadAudioError, DataError, UsageError


def encoded(signal, rate=16000, form="WAV", subtype="PCM_16") -> bytes:
    stream = io.BytesIO()
    soundfile.write(stream, signal, rate, format=form, subtype=subtype)
    return stream.getvalue()


def sine(seconds=1.0, rate=16000, hz=440.0):
    return (0.5 * np.sin(2 * np.pi * hz * np.arange(round(seconds * rate)) / rate)).astype("float32")


def test_16_khz_float_is_returned_bit_for_bit():
    signal = sine()
    got = decode(encoded(signal, subtype="FLOAT"), where="x")
    assert got.dtype == np.float32
    np.testing.assert_array_equal(got, signal)


@pytest.mark.parametrize(
    ("form", "subtype", "tolerance"),
    [
        ("WAV", "PCM_16", 1e-4),
        ("WAV", "PCM_U8", 1e-2),
        ("FLAC", "PCM_16", 1e-4),
        ("NIST", "PCM_16", 1e-4),
        ("AIFF", "PCM_16", 1e-4),
        ("OGG", "VORBIS", 0.1),
        ("MP3", "MPEG_LAYER_III", 0.1),
    ],
)
def test_every_container_gives_the_same_sound(form, subtype, tolerance):
    got = decode(encoded(sine(), form=form, subtype=subtype), where="x")
    assert got.shape == (16000,)
    assert np.abs(got - sine())[800:-800].max() < tolerance


def test_44100_stereo_is_resampled_and_averaged():
    left, right = sine(rate=44100), np.zeros(44100, dtype="float32")
    got = decode(encoded(np.stack([left, right], axis=1), 44100, subtype="FLOAT"), where="x")
    assert got.shape == (16000,)
    assert np.abs(got - 0.5 * sine())[400:-400].max() < 1e-3


def test_channel_is_taken_alone_and_must_exist():
    stereo = np.stack([sine(hz=300), sine(hz=500)], axis=1)
    got = decode(encoded(stereo, subtype="FLOAT"), where="x", channel=1)
    np.testing.assert_array_equal(got, sine(hz=500))
    with pytest.raises(BadAudioError, match="has 2 channel"):
        decode(encoded(stereo), where="x", channel=2)


def test_only_the_wanted_part_is_returned():
    signal = sine(2.0, hz=37)
    data = encoded(signal, subtype="FLOAT")
    np.testing.assert_array_equal(decode(data, where="x", start_s=0.5, end_s=1.25), signal[8000:20000])
    np.testing.assert_array_equal(decode(data, where="x", start_s=0.5, max_duration_s=0.25), signal[8000:12000])


def test_a_two_hour_file_is_read_only_as_far_as_wanted(tmp_path, monkeypatch):
    path = tmp_path / "long.wav"
    head = encoded(np.zeros(0, dtype="float32"), 8000)  # 44 bytes, made to promise two hours; the file is sparse
    size = 2 * 7200 * 8000
    head = head[:4] + struct.pack("<I", 36 + size) + head[8:40] + struct.pack("<I", size)
    ten = (sine(10, 8000) * 32767).astype("<i2").tobytes()
    with path.open("wb") as file:
        file.write(head + ten)
        file.truncate(44 + size - len(ten))
        file.seek(0, 2)
        file.write(ten)
    read = []
    original = soundfile.SoundFile.read
    monkeypatch.setattr(
        soundfile.SoundFile, "read", lambda self, frames=-1, **kw: read.append(frames) or original(self, frames, **kw)
    )
    assert decode(path, where="long", max_duration_s=10.0).shape == (160000,)
    assert decode(path, where="long", start_s=7190.0, end_s=7200.0).shape == (160000,)
    assert read == [80000, 80000]
    assert duration_s(path, where="long") == 7200.0


def test_long_parts_are_read_in_blocks_and_agree_with_one_pass(tmp_path, monkeypatch):
    random = np.random.default_rng(0)
    signal = (0.1 * random.standard_normal(44100)).astype("float32")
    data = encoded(signal, 44100, subtype="FLOAT")
    whole = decode(data, where="x")
    monkeypatch.setattr("repkit.audio.decode._BLOCK", 5000)
    blocks = decode(data, where="x")
    assert blocks.shape == whole.shape == (SAMPLE_RATE,)
    np.testing.assert_allclose(blocks, whole, atol=1e-4)


@pytest.mark.parametrize("form", [("WAV", "PCM_16"), ("WAV", "PCM_U8"), ("NIST", "PCM_16"), ("FLAC", "PCM_16"),
                                  ("OGG", "VORBIS"), ("OGG", "OPUS"), ("MP3", "MPEG_LAYER_III"), ("AIFF", "PCM_16"),
                                  ("AU", "PCM_16"), ("W64", "PCM_16"), ("RF64", "PCM_16")])  # fmt: skip
def test_a_truncated_file_is_an_error(tmp_path, form):
    data = encoded(
        (0.1 * np.random.default_rng(0).standard_normal(48000)).astype("float32"), form=form[0], subtype=form[1]
    )
    path = tmp_path / "cut.bin"
    assert len(decode(data, where="whole")) >= 48000
    # half of it, and its end alone: the last page of an Ogg file says at its begin that it is the last one
    for kept in (len(data) // 2, len(data) - (2000 if form[0] == "MP3" else 300)):
        path.write_bytes(data[:kept])
        with pytest.raises(BadAudioError, match=r"cut\.bin: (is truncated|could not be decoded)"):
            decode(path, where=str(path))


@pytest.mark.parametrize("data", [b"FORM", b"FORM\0\0", b".snd", b".snd\0\0\0\x18"])
def test_a_fragment_of_a_header_is_bad_audio(data):
    with pytest.raises(BadAudioError, match=r"x: could not be decoded \(its header is cut\)"):
        decode(data, where="x")
    with pytest.raises(BadAudioError, match="x: its header could not be read"):
        duration_s(data, where="x")


def test_a_flac_from_a_pipe_does_not_state_its_length():
    stated = encoded(sine(2.5), form="FLAC")
    # STREAMINFO lies behind "fLaC" and a block header of 4 bytes; its bits 108 to 143 are the number of samples
    piped = bytearray(stated)
    piped[21] &= 0xF0
    piped[22:26] = bytes(4)
    assert duration_s(bytes(piped), where="x") == 2.5
    for part in ({}, {"start_s": 1.0}, {"start_s": 0.5, "end_s": 2.0}, {"max_duration_s": 1.0}):
        np.testing.assert_array_equal(decode(bytes(piped), where="x", **part), decode(stated, where="x", **part))
    with pytest.raises(BadAudioError, match=r"lasts 2\.500 s"):
        decode(bytes(piped), where="x", end_s=4.0)


def test_speech_that_begins_behind_what_is_heard():
    late = np.concatenate([np.zeros(16000, dtype="float32"), sine()])
    assert len(decode(encoded(late), where="x")) == 32000
    with pytest.raises(
        BadAudioError, match=r"x: is silent in the 0\.5 s that are heard of it \(max_duration_s\), every sample is 0"
    ):
        decode(encoded(late), where="x", max_duration_s=0.5)
    with pytest.raises(BadAudioError, match="x: is silent, every sample is 0"):
        decode(encoded(late[:8000]), where="x", max_duration_s=0.5)


def test_a_wav_written_to_a_pipe_is_no_truncated_one():
    data = bytearray(encoded(sine()))
    place = data.index(b"data") + 4
    data[place : place + 4] = b"\xff\xff\xff\xff"
    data[4:8] = b"\xff\xff\xff\xff"
    assert decode(bytes(data), where="x").shape == (16000,)


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "has 0 bytes"),
        (b"this is no audio at all, just text" * 10, "could not be decoded"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "git lfs pull"),
        (encoded(np.zeros(16000, dtype="float32")), "is silent"),
        (encoded(np.full(16000, 0.25, dtype="float32")), "is silent"),
        (encoded(np.where(np.arange(16000) == 5, np.nan, sine()), subtype="FLOAT"), r"1 sample\(s\) that are NaN"),
        (encoded(np.where(np.arange(16000) < 2, np.inf, sine()), subtype="FLOAT"), r"2 sample\(s\) that are NaN"),
        (encoded(sine(0.02)), "is 0.020 s long; expected at least 0.1 s"),
        (encoded(np.zeros(0, dtype="float32")), "is 0.000 s long"),
    ],
)
def test_bad_audio_names_file_value_and_remedy(data, words):
    with pytest.raises(BadAudioError, match=words) as caught:
        decode(data, where="clips/a.wav")
    assert caught.value.message.startswith("clips/a.wav: ")


def test_missing_files_and_segments_outside_the_file(tmp_path):
    with pytest.raises(DataError, match="there is no such file") as caught:
        decode(tmp_path / "no.wav", where="no.wav")
    assert not isinstance(
        caught.value, BadAudioError
    )  # it may be back in a minute: nothing to be recorded of the audio
    with pytest.raises(BadAudioError, match="lasts 1.000 s; expected 3 s to 4 s"):
        decode(encoded(sine()), where="x", start_s=3.0, end_s=4.0)
    with pytest.raises(BadAudioError, match=r"lasts 1\.000 s"):
        decode(encoded(sine()), where="x", start_s=0.5, end_s=2.0)
    # segment lists may end a little late
    assert decode(encoded(sine()), where="x", start_s=0.5, end_s=1.2).shape == (8000,)


def test_a_cut_below_the_least_length_is_no_fault_of_the_file():
    (least,) = (one.ge for one in SerRecipe.model_fields["max_duration_s"].metadata)
    assert least == SHORTEST_S == 0.1
    assert decode(encoded(sine()), where="x", max_duration_s=0.1).shape == (1600,)
    with pytest.raises(UsageError, match=r"max_duration_s: got 0\.05; at least 0\.1 s was expected") as caught:
        decode(encoded(sine()), where="x", max_duration_s=0.05)
    assert "x:" not in str(caught.value)
    # what is too short itself still is, whatever it would be cut to
    with pytest.raises(BadAudioError, match=r"x: is 0\.050 s long; expected at least 0\.1 s"):
        decode(encoded(sine(0.05)), where="x", max_duration_s=2.0)
