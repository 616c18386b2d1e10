import hashlib
import os
import shutil

import numpy as np
import pytest
import soundfile
from pydantic import ValidationError

from repkit.api import Audio, Corpus, Utterance
from repkit.audio.base import fingerprint_of
from repkit.audio.folder import FolderCorpus
from repkit.errors import BadAudioError, DataError, RepkitWarning


def folder(path, **settings):
    return FolderCorpus(FolderCorpus.Config(name="mine", path=path, **settings))


def test_metadata_csv_is_found_and_read(make_folder):
    root = make_folder(
        "file_name,speaker_id,gender,language,emotion,original_label,text",
        ["data/a.wav,s1,F,de,anger,Wut,Guten Tag", 'data/b.wav,s2,male,,Trauer,Trauer,"Ja, gut"'],
        ["data/a.wav", "data/b.wav"],
    )
    corpus = folder(root, language="en")
    a, b = corpus.utterances()
    assert isinstance(corpus, Corpus)
    assert (a.id, a.speaker, a.gender, a.language, a.emotion, a.text) == (
        "mine/a",
        "mine/s1",
        "female",
        "de",
        "anger",
        "Guten Tag",
    )
    assert (b.gender, b.language, b.emotion, b.text) == ("male", "en", "sadness", "Ja, gut")
    assert a.extra == {"original_label": "Wut"}
    assert corpus.read(a).shape == (4800,)
    assert [u.id for u, sound in corpus.stream(skip=1)] == ["mine/b"]


def test_any_other_table_with_a_column_map(make_folder):
    root = make_folder(
        "Clip;Who;Mood;A;V;from;to",
        ["x.wav;7;W;0.5;-1;0.0;0.15", "x.wav;7;L;;1;0.15;0.3"],
        ["x.wav"],
        name="labels.csv",
    )
    columns = {"audio": "Clip", "speaker": "Who", "emotion": "Mood", "arousal": "A", "valence": "V", "start": "from"}
    corpus = folder(
        root, columns={**columns, "end": "to"}, emotions={"W": "anger", "L": "boredom"}, rating_range=(-1, 1)
    )
    first, second = corpus.utterances()
    assert (first.id, first.emotion, first.arousal, first.valence) == ("mine/x_0000000-0000150", "anger", 4.0, 1.0)
    assert (second.arousal, second.valence) == (None, 5.0)
    assert corpus.read(second).shape == (2400,)


def test_unlabelled_folders_need_no_speaker(make_folder):
    (one,) = folder(make_folder("file_name,text", ["a.wav,hello"], ["a.wav"])).utterances()
    assert (one.emotion, one.speaker, one.text) == (None, None, "hello")


def test_all_problems_at_once_with_their_lines(make_folder):
    root = make_folder(
        "file_name,speaker_id,gender,emotion,arousal",
        [
            "a.wav,s1,female,angr,3",
            "b.wav,,male,sadness,3",
            "c.wav,s1,robot,sadness,9",
            "a.wav,s1,female,anger,3",
            ",s1,male,anger,3",
            "a.wav,s1,male,anger,3,surplus",
        ],
        ["a.wav", "b.wav"],
    )
    with pytest.raises(DataError) as caught:
        folder(root).utterances()
    text = str(caught.value)
    for words in (
        "metadata.csv line 2: emotion 'angr' is not known; did you mean 'anger'",
        "metadata.csv line 3: speaker_id is empty for 'b.wav'",
        "metadata.csv line 4: there is no file 'c.wav'",
        "metadata.csv line 4: gender 'robot' is not known",
        "metadata.csv line 4: arousal is '9'; expected a rating from 1 to 5",
        "metadata.csv line 5: id 'a' stands already in line 2",
        "metadata.csv line 6: file_name is empty",
        "metadata.csv line 7: has more cells than the header has",
    ):
        assert words in text
    assert len(caught.value.problems) == 8


def test_missing_columns_list_the_columns_found_and_how_to_map(make_folder):
    root = make_folder("clip,emotion", ["a.wav,anger"], ["a.wav"])
    with pytest.raises(DataError) as caught:
        folder(root).utterances()
    text = str(caught.value)
    assert "the columns found are: clip, emotion" in text
    assert "--corpus-set mine.columns.audio=COLUMN" in text
    assert "--corpus-set mine.columns.speaker=COLUMN" in text
    with pytest.raises(DataError, match="columns.audio = 'clips': no such column; did you mean 'clip'"):
        folder(root, columns={"audio": "clips", "speaker": ""}).utterances()
    (one,) = folder(root, columns={"audio": "clip", "speaker": ""}).utterances()
    assert one.speaker is None
    with pytest.raises(ValidationError, match="no such role 'sound'"):
        folder(root, columns={"sound": "clip"})


def test_file_names_in_another_case_are_found(make_folder):
    root = make_folder("file_name,speaker_id,emotion", ["A.wav,1,anger"], ["a.WAV"])
    assert folder(root).utterances()[0].audio.path.name == "a.WAV"


def test_pattern(tmp_path, write_sound):
    for name in ("x/anna_ang_1.WAV", "x/ben_hap_2.wav"):
        write_sound(tmp_path / name)
    corpus = folder(tmp_path, pattern=r"(?P<speaker>[a-z]+)_(?P<emotion>[a-z]+)_(?P<take>\d)$", language="en")
    a, b = corpus.utterances()
    assert (a.id, a.speaker, a.emotion, a.extra["take"]) == ("mine/x/anna_ang_1", "mine/anna", "anger", "1")
    assert b.emotion == "happiness"
    write_sound(tmp_path / "noise.wav")
    with pytest.warns(RepkitWarning, match=r"1 of 3 audio files do not fit .* for example noise\.wav"):
        folder(tmp_path, pattern=r"(?P<speaker>[a-z]+)_(?P<emotion>[a-z]+)").utterances()
    with pytest.raises(DataError, match=r"found 3 audio file\(s\), 0 matched because no name \(such as noise\.wav"):
        folder(tmp_path, pattern=r"(?P<speaker>[A-Z]+)").utterances()
    with pytest.raises(DataError, match=r"emotion 'anna' is not known"):
        folder(tmp_path / "x", pattern=r"^(?P<emotion>[a-z]+)").utterances()
    with pytest.raises(ValidationError, match="not a regular expression"):
        folder(tmp_path, pattern="(?P<speaker")


def test_folders_without_anything_usable(tmp_path, write_sound, make_folder):
    with pytest.raises(DataError, match="there is no such folder"):
        folder(tmp_path / "none").utterances()
    write_sound(tmp_path / "a.wav")
    with pytest.raises(DataError, match=r"1 audio file\(s\) and no CSV table found; expected a metadata\.csv"):
        folder(tmp_path).utterances()
    (tmp_path / "text").mkdir()
    (tmp_path / "text" / "a.txt").write_text("x")
    with pytest.raises(DataError, match=r"found 1 file\(s\), 0 matched because none ends in \.wav"):
        folder(tmp_path / "text", pattern="(?P<id>.+)").utterances()
    (tmp_path / "one.csv").write_text("file_name\na.wav\n")
    assert len(folder(tmp_path).utterances()) == 1
    (tmp_path / "two.csv").write_bytes("file_name\nä.wav\n".encode("latin-1"))
    with pytest.raises(DataError, match=r"several tables \(one\.csv, two\.csv\)"):
        folder(tmp_path).utterances()
    with pytest.raises(DataError, match="is not UTF-8"):
        folder(tmp_path, table="two.csv").utterances()


def test_fingerprint_follows_content_and_not_place(make_folder, tmp_path):
    root = make_folder("file_name,speaker_id,emotion", ["a.wav,1,anger"], ["a.wav"])
    first = folder(root).fingerprint()
    shutil.copytree(root, tmp_path / "moved")
    assert folder(tmp_path / "moved").fingerprint() == first
    (root / "metadata.csv").write_text("file_name,speaker_id,emotion\na.wav,1,fear\n")
    assert folder(root).fingerprint() != first


def test_fingerprint_notices_other_sound_of_the_same_length(make_folder, write_sound, tmp_path):
    root = make_folder("file_name,speaker_id,emotion", ["a.wav,1,anger"], ["a.wav"])
    path = write_sound(root / "a.wav", seconds=10)
    first, (before, rate) = folder(root).fingerprint(), soundfile.read(path, dtype="int16")
    # one of its 10 s is silenced, in place, then put back
    changed = before.copy()
    changed[80000:96000] = 0
    soundfile.write(path, changed, rate)
    assert folder(root).fingerprint() != first
    soundfile.write(path, before, rate)
    assert folder(root).fingerprint() == first
    os.utime(path, (1, 1))  # when it was written does not matter
    assert folder(root).fingerprint() == first


def test_fingerprint_of_flac_goes_by_its_size(tmp_path):
    # the identity of all published results: sha256 of "{}" and of the rows, written by hand
    (tmp_path / "a.flac").write_bytes(bytes(1234))
    row = '["c/a", "c/s", null, null, null, "anger", null, null, "a.flac", 1234, 0.0, null, null]\n'
    one = Utterance(id="c/a", corpus="c", speaker="c/s", emotion="anger", audio=Audio(path=tmp_path / "a.flac"))
    assert fingerprint_of([one], tmp_path) == hashlib.sha256(("{}" + row).encode()).hexdigest()


def test_bad_files_are_handed_out_with_their_error(make_folder):
    root = make_folder("file_name,speaker_id,emotion", ["a.wav,1,anger", "b.wav,1,fear"], ["a.wav", "b.wav"])
    (root / "a.wav").write_bytes((root / "a.wav").read_bytes()[:200])
    (bad, error), (_, sound) = folder(root).stream()
    assert isinstance(error, BadAudioError)
    assert "a.wav: is truncated" in str(error)
    assert isinstance(sound, np.ndarray)
    with pytest.raises(BadAudioError):
        folder(root).read(bad)
