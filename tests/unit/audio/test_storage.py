"""What the system says of a file is never told of its sound: rights, disks, networks, too many open files."""

import errno
import io
import os
from contextlib import contextmanager

import numpy as np
import pytest
import soundfile

from repkit.audio import base, kept_marks, system_file
from repkit.audio.base import audio_files, file_mark
from repkit.audio.below import files_below
from repkit.audio.decode import decode
from repkit.audio.folder import FolderCorpus
from repkit.audio.inspect import check_corpus
from repkit.audio.system_file import _SystemFile
from repkit.errors import BadAudioError, DataError
from repkit.runs.directory import cache_root


@contextmanager
def no_more_open_files():
    resource = pytest.importorskip("resource")
    old = resource.getrlimit(resource.RLIMIT_NOFILE)
    handle = os.dup(0)
    os.close(handle)
    resource.setrlimit(resource.RLIMIT_NOFILE, (handle, old[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, old)


class FailsLate(io.FileIO):
    """A disk that reads the first 8192 bytes of a file only."""

    def readinto(self, buffer):
        if self.tell() >= 8192:
            raise OSError(errno.EIO, "Input/output error")
        return super().readinto(memoryview(buffer)[:8192])


class OnThatDisk(_SystemFile, FailsLate):
    pass


@pytest.mark.parametrize("form", ["WAV", "FLAC", "OGG", "MP3"])
def test_a_disk_that_fails_in_the_middle_is_no_truncated_file(tmp_path, monkeypatch, form):
    path = tmp_path / "a.bin"
    noise = (0.1 * np.random.default_rng(0).standard_normal(64000)).astype("float32")
    soundfile.write(path, noise, 16000, format=form)
    assert len(decode(path, where="a.bin")) >= 64000
    monkeypatch.setattr(system_file, "_SystemFile", OnThatDisk)
    with pytest.raises(DataError, match=r"a\.bin: could not be read \(Input/output error\)") as caught:
        decode(path, where="a.bin")
    assert not isinstance(caught.value, BadAudioError)


def test_too_many_open_files_are_no_fault_of_the_audio(write_sound, tmp_path):
    path = write_sound(tmp_path / "a.wav")
    for ask in (lambda: decode(path, where="a.wav"), lambda: file_mark(path)):
        with (
            no_more_open_files(),
            pytest.raises(DataError, match=r"a\.wav: could not be read \(Too many open") as caught,
        ):
            ask()
        assert not isinstance(caught.value, BadAudioError)


def test_a_check_lists_what_cannot_be_read_and_goes_on(make_folder):
    root = make_folder("file_name,speaker_id", ["a.wav,1", "b.wav,2"], ["a.wav", "b.wav"])
    corpus = FolderCorpus(FolderCorpus.Config(name="mine", path=root))
    corpus.utterances()
    corpus.fingerprint = lambda: "0"
    (root / "a.wav").unlink()
    report = check_corpus(corpus, n_jobs=1)
    assert list(report.problems) == ["mine/a"]
    assert report.usable == 1


def test_a_folder_that_cannot_be_listed_is_named(write_sound, tmp_path, monkeypatch):
    for name in ("a/x.wav", "b/y.wav"):
        write_sound(tmp_path / name)
    real = os.scandir

    def scandir(path):
        if os.fspath(path).endswith("/b"):
            raise PermissionError(errno.EACCES, "Permission denied", os.fspath(path))
        return real(path)

    monkeypatch.setattr(os, "scandir", scandir)
    with pytest.raises(DataError, match=r"/b: could not be looked into \(Permission denied\)"):
        files_below(tmp_path)


@pytest.mark.skipif(os.name != "posix", reason="names of files are bytes")
def test_recordings_with_names_of_another_encoding_are_listed(write_sound, tmp_path):
    write_sound(tmp_path / "a.wav")
    folder = os.fsencode(tmp_path)
    try:
        os.link(folder + b"/a.wav", folder + b"/M\xfcller.wav")
    except OSError:
        pytest.skip("a file system of UTF-8 names")
    os.link(folder + b"/a.wav", folder + b"/\xdcbersicht.pdf")  # nobody asks for it
    with pytest.raises(DataError, match="1 file name") as caught:
        audio_files(tmp_path)
    assert caught.value.problems == ("M\\xfcller.wav",)
    os.unlink(folder + b"/M\xfcller.wav")
    assert [path.name for path in audio_files(tmp_path)] == ["a.wav"]


def test_files_are_looked_at_once_and_a_changed_one_is_always_seen(make_folder, monkeypatch):
    names = [f"{i}.wav" for i in range(3)]
    root = make_folder("file_name,speaker_id", [f"{name},1" for name in names], names)
    looked, real = [], base._hash_of_pieces.__wrapped__

    def look(path, *more):
        looked.append(path.name)
        return real(path, *more)

    monkeypatch.setattr(base, "_hash_of_pieces", look)

    def fingerprint():  # as of a new process
        looked.clear()
        kept_marks._of_file.cache_clear()
        return FolderCorpus(FolderCorpus.Config(name="mine", path=root)).fingerprint()

    first = fingerprint()
    assert fingerprint() == first
    assert looked == names  # they are too young: a second change could have the same time
    monkeypatch.setattr(kept_marks, "_YOUNG_NS", 0)
    monkeypatch.setattr(kept_marks, "_WORTH_IT", 3)
    assert fingerprint() == first
    assert looked == names
    assert fingerprint() == first
    assert looked == []
    before = (root / "1.wav").stat()
    content = bytearray((root / "1.wav").read_bytes())
    content[-1] ^= 1
    (root / "1.wav").write_bytes(content)
    os.utime(root / "1.wav", ns=(before.st_atime_ns, before.st_mtime_ns))  # of the same size and time
    assert fingerprint() != first
    assert looked == ["1.wav"]
    (kept,) = (cache_root() / "marks").iterdir()
    second, told = fingerprint(), kept.read_text()
    kept.write_text(told.replace(real(root / "0.wav", before.st_size, 0), "0" * 16))
    assert fingerprint() == second
    assert looked == names
