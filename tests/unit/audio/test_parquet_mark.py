"""The fingerprint of a parquet corpus follows every label, class name and sound, also where the file's size stays."""

import io
import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import soundfile

from repkit.audio import parquet_mark as module
from repkit.audio.open import open_corpus

N = 60
NAMES = ("anger", "neutral", "sadness")


def wav(seed, n=16000):
    stream = io.BytesIO()
    soundfile.write(stream, np.random.default_rng(seed).normal(0, 0.1, n), 16000, format="WAV")
    return stream.getvalue()


def cells():
    """2 MB of sound: a file of which nine pieces of 4 KB are next to nothing."""
    return [{"bytes": wav(i, 16000 + 400 * (i % 7)), "path": f"{i}.wav"} for i in range(N)]


def write(path, audio=None, labels=None, names=NAMES, compression="none"):
    features = {"emotion": {"_type": "ClassLabel", "names": list(names)}}
    table = pa.table(
        {
            "audio": audio or cells(),
            "emotion": pa.array(labels or [i % 3 for i in range(N)], pa.int64()),
            "speaker_id": [f"s{i % 5}" for i in range(N)],
            "note": ["plain"] * N,
        }
    ).replace_schema_metadata({b"huggingface": json.dumps({"info": {"features": features}}).encode()})
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(table, path, row_group_size=20, compression=compression)
    return path


def fingerprint(path):
    return open_corpus("mine", str(path)).fingerprint()


@pytest.mark.parametrize("compression", ["none", "snappy"])
def test_one_label_changes_it(tmp_path, compression):
    labels = [i % 3 for i in range(N)]
    first = write(tmp_path / "a" / "x.parquet", compression=compression)
    labels[30] = 1
    other = write(tmp_path / "b" / "x.parquet", labels=labels, compression=compression)
    assert open_corpus("mine", str(other)).utterances()[30].emotion == "neutral"
    assert first.stat().st_size == other.stat().st_size  # else this test holds nothing
    assert fingerprint(first) != fingerprint(other)


def test_a_class_name_changes_it(tmp_path):
    first = write(tmp_path / "a" / "x.parquet")
    other = write(tmp_path / "b" / "x.parquet", names=("anger", "sadness", "neutral"))
    assert first.stat().st_size == other.stat().st_size
    assert fingerprint(first) != fingerprint(other)


@pytest.mark.parametrize("row", [1, 20, 33, N - 2])
def test_sound_of_the_same_length_changes_it(tmp_path, row):
    audio = cells()
    first = write(tmp_path / "a" / "x.parquet", audio)
    audio[row] = {"bytes": wav(1000, 16000 + 400 * (row % 7)), "path": f"{row}.wav"}
    other = write(tmp_path / "b" / "x.parquet", audio)
    assert first.stat().st_size == other.stat().st_size
    assert fingerprint(first) != fingerprint(other)


def test_the_same_content_elsewhere_has_the_same(tmp_path):
    assert fingerprint(write(tmp_path / "a" / "x.parquet")) == fingerprint(write(tmp_path / "b" / "x.parquet"))


def test_a_file_changed_in_place_is_looked_at_again(tmp_path):
    path = write(tmp_path / "x.parquet")
    before = fingerprint(path)
    write(path, labels=[(i + 1) % 3 for i in range(N)])
    assert fingerprint(path) != before


def test_a_column_of_bytes_alone_and_one_of_another_name(tmp_path):
    def made(name, row, **more):
        sounds = [one["bytes"] for one in cells()]
        sounds[row] = wav(row + 1000 * (name != "a"), 16000 + 400 * (row % 7))
        path = tmp_path / name / "x.parquet"
        path.parent.mkdir()
        pq.write_table(pa.table({"voice": sounds, "voice.gain": [1.0] * N}), path, compression="none")
        return open_corpus("mine", str(path), options={"columns": {"audio": "voice"}}).fingerprint()

    assert len({made("a", 11), made("b", 11), made("c", 12)}) == 3


def test_sound_that_cells_only_name_is_looked_at(tmp_path):
    sound = tmp_path / "out.wav"
    sound.write_bytes(wav(1))
    audio = cells()
    audio[25] = {"bytes": None, "path": str(sound)}
    path = write(tmp_path / "x.parquet", audio)
    before = fingerprint(path)
    assert module._files_outside(path, "audio", path.stat().st_mtime_ns) == (str(sound),)
    sound.write_bytes(wav(2))
    assert fingerprint(path) != before


def test_of_sound_only_pieces_are_read(tmp_path, monkeypatch):
    """60 rows in 3 blocks: 240 pieces of 512 bytes, and what is no sound, of 2 MB."""
    path = write(tmp_path / "x.parquet")
    read = []
    whole = module._hash_whole

    class Counted:
        def __init__(self, file):
            self.file = file

        def seek(self, place):
            self.file.seek(place)

        def read(self, n):
            read.append(n)
            return self.file.read(n)

    monkeypatch.setattr(
        module, "_hash_pieces", lambda d, file, *rest, real=module._hash_pieces: real(d, Counted(file), *rest)
    )
    monkeypatch.setattr(
        module, "_hash_whole", lambda d, file, start, stop: (read.append(stop - start), whole(d, file, start, stop))
    )
    fingerprint(path)
    assert read.count(512) == 4 * N
    assert sum(read) < 0.1 * path.stat().st_size
