"""Folders as they are: links to folders, loops, companions of macOS, recordings that are not read."""

import pytest

from repkit.audio.base import audio_files
from repkit.audio.below import files_below, left_alone
from repkit.audio.decode import AUDIO_SUFFIXES
from repkit.audio.folder import FolderCorpus
from repkit.errors import DataError, RepkitWarning


def names(root, paths):
    return [path.relative_to(root).as_posix() for path in paths]


@pytest.fixture
def linked(tmp_path, write_sound):
    """A folder with a file, a folder, a link to a folder elsewhere, links that lead back, and one that leads nowhere."""
    root = tmp_path / "root"
    write_sound(root / "z.wav")
    write_sound(root / "a" / "anna_ang.wav")
    write_sound(tmp_path / "elsewhere" / "deep" / "ben_hap.wav")
    (root / "linked").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "elsewhere" / "deep" / "back").symlink_to(tmp_path / "elsewhere")
    (root / "a" / "up").symlink_to(root)
    (root / "a" / "self").symlink_to(root / "a")
    (root / "gone.wav").symlink_to(tmp_path / "nothing.wav")
    return root


def test_links_to_folders_are_followed_and_loops_are_not(linked):
    assert names(linked, files_below(linked)) == ["a/anna_ang.wav", "linked/deep/ben_hap.wav", "z.wav"]
    assert files_below(linked / "nothing") == []


def test_a_link_to_a_folder_above_comes_to_an_end(tmp_path, write_sound):
    write_sound(tmp_path / "other.wav")
    write_sound(tmp_path / "root" / "x.wav")
    (tmp_path / "root" / "up").symlink_to(tmp_path)
    assert names(tmp_path / "root", files_below(tmp_path / "root")) == ["up/other.wav", "x.wav"]


def test_two_links_to_one_folder_are_two_places(tmp_path, write_sound):
    write_sound(tmp_path / "root" / "store" / "x.wav")
    for name in ("one", "two"):
        (tmp_path / "root" / name).symlink_to(tmp_path / "root" / "store")
    assert names(tmp_path / "root", audio_files(tmp_path / "root")) == ["one/x.wav", "store/x.wav", "two/x.wav"]


def test_corpora_read_through_links(linked):
    (linked / "z.wav").unlink()
    pattern = r"(?P<speaker>[a-z]+)_(?P<emotion>[a-z]+)$"
    found = FolderCorpus(FolderCorpus.Config(name="mine", path=linked, pattern=pattern)).utterances()
    assert [u.id for u in found] == ["mine/a/anna_ang", "mine/linked/deep/ben_hap"]
    # a table finds a file in another case there
    (linked / "metadata.csv").write_text("file_name\nLinked/deep/Ben_Hap.WAV\n")
    (one,) = FolderCorpus(FolderCorpus.Config(name="mine", path=linked)).utterances()
    assert one.audio.path == linked / "linked" / "deep" / "ben_hap.wav"


def test_recordings_that_are_not_read_are_told(tmp_path, write_sound):
    write_sound(tmp_path / "anna_ang.wav")
    assert left_alone(tmp_path, AUDIO_SUFFIXES) == ""
    (tmp_path / "in").mkdir()
    for name in ("in/b.M4A", "._c.m4a", "notes.txt"):
        (tmp_path / name).write_bytes(b"x")
    assert left_alone(tmp_path, (".wav", ".flac")) == (
        "1 file ending in .m4a was left alone: expected .wav, .flac; convert it to WAV or FLAC"
    )
    (tmp_path / "d.amr").write_bytes(b"x")
    said = "2 files ending in .amr, .m4a were left alone: expected .wav"
    pattern = r"(?P<speaker>[a-z]+)_(?P<emotion>[a-z]+)$"
    with pytest.warns(RepkitWarning, match=f"corpus mine: {said}"):
        FolderCorpus(FolderCorpus.Config(name="mine", path=tmp_path, pattern=pattern)).utterances()
    # an ending that is asked for is none that is left alone
    assert left_alone(tmp_path, (".wav", ".M4A", ".amr")) == ""


def test_files_behind_links_are_counted_where_none_is_read(tmp_path):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "x.txt").write_text("x")
    (tmp_path / "root").mkdir()
    (tmp_path / "root" / "linked").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(DataError, match=r"found 1 file\(s\), 0 matched"):
        FolderCorpus(FolderCorpus.Config(name="mine", path=tmp_path / "root", pattern="(?P<id>.+)")).utterances()
