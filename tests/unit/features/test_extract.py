import pickle

import numpy as np
import pytest
import soundfile
import torch

from repkit.api import Corpus, Utterance
from repkit.audio.folder import FolderCorpus
from repkit.errors import BadAudioError, DataError, StoreError
from repkit.features import extract
from repkit.features.extract import cached_frames, extract_frames, frames_spec
from repkit.features.log_mel import LogMel
from repkit.features.spectrogram import Spectrogram
from repkit.runs.executors import Event
from repkit.store import StoreWriter, open_store


class FakeCorpus:
    """A corpus in memory; `bad` ids cannot be read, at `fail_at` the process is interrupted."""

    def __init__(self, n=12, bad=(), lengths=None, name="fake", fail_at=None):
        self.name = name
        self.bad = set(bad)
        self.fail_at = fail_at
        self.lengths = lengths or [2000 + 700 * (i % 5) for i in range(n)]
        self.given = []

    def utterances(self):
        return [Utterance(id=f"{self.name}/{i}", corpus=self.name) for i in range(len(self.lengths))]

    def read(self, utterance, max_duration_s=None):
        i = int(utterance.id.split("/")[1])
        if i in self.bad:
            raise BadAudioError(f"/somewhere/{utterance.id}.wav: all samples are 0; speech was expected; mend it")
        sound = 0.1 * np.random.default_rng(i).normal(size=self.lengths[i]).astype(np.float32)
        return sound if max_duration_s is None else sound[: int(max_duration_s * 16000)]

    def stream(self, skip=0, max_duration_s=None):
        for i, utterance in enumerate(self.utterances()[skip:], skip):
            if i == self.fail_at:
                raise KeyboardInterrupt
            self.given.append(i)
            try:
                yield utterance, self.read(utterance, max_duration_s)
            except BadAudioError as error:
                yield utterance, error

    def fingerprint(self):
        return "0123"


def test_extract(tmp_path):
    corpus, frontend, calls = FakeCorpus(), LogMel(), []
    assert isinstance(corpus, Corpus)
    store = extract_frames(
        corpus, frontend, tmp_path / "s", dtype="float32", shard_size=5, progress=lambda *call: calls.append(call)
    )
    assert store.ids == tuple(u.id for u in corpus.utterances())
    for utterance in corpus.utterances():
        sound = torch.from_numpy(corpus.read(utterance))
        frames, _ = frontend(sound[None], torch.tensor([len(sound)]))
        np.testing.assert_array_equal(store.read(utterance.id), frames[0].numpy())
    assert store.spec == frames_spec(corpus, frontend, dtype="float32")
    assert store.spec.source["bands"] == 26
    assert store.spec.frame_shift_s == 0.01
    assert [done for done, _ in calls] == list(range(1, 13))
    assert calls[-1][1] == pytest.approx(sum(corpus.lengths) / 16000 / 3600)


def test_a_finished_store_reads_no_audio(tmp_path):
    extract_frames(FakeCorpus(), LogMel(), tmp_path / "s")
    again = FakeCorpus()
    assert len(extract_frames(again, LogMel(), tmp_path / "s")) == 12
    assert again.given == []
    with pytest.raises(StoreError) as caught:
        extract_frames(again, LogMel(LogMel.Config(bands=20)), tmp_path / "s")
    assert "source.bands: 26 in the store, 20 asked for" in caught.value.problems
    with pytest.raises(StoreError) as caught:
        extract_frames(again, LogMel(), tmp_path / "s", max_duration_s=7.5)
    assert caught.value.problems == ("source.max_duration_s: None in the store, 7.5 asked for",)


def test_a_finished_store_is_opened_while_another_command_holds_it(tmp_path):
    extract_frames(FakeCorpus(bad=[1]), LogMel(), tmp_path / "s", on_bad_audio="skip")
    with StoreWriter(tmp_path / "s", frames_spec(FakeCorpus(), LogMel())):
        assert len(extract_frames(FakeCorpus(), LogMel(), tmp_path / "s", on_bad_audio="skip")) == 11
        with pytest.raises(DataError, match="1 utterances have audio that cannot be used"):
            extract_frames(FakeCorpus(), LogMel(), tmp_path / "s")


def test_goes_on_after_an_interruption(tmp_path):
    with pytest.raises(KeyboardInterrupt):
        extract_frames(FakeCorpus(fail_at=8, bad=[2]), LogMel(), tmp_path / "s", shard_size=5, on_bad_audio="skip")
    second = FakeCorpus(bad=[2])
    store = extract_frames(second, LogMel(), tmp_path / "s", shard_size=5, on_bad_audio="skip")
    assert second.given == [8, 9, 10, 11]
    whole = extract_frames(FakeCorpus(bad=[2]), LogMel(), tmp_path / "whole", on_bad_audio="skip")
    assert store.ids == whole.ids
    np.testing.assert_array_equal(store.load().values, whole.load().values)
    assert store.left_out == whole.left_out


def test_stop_lists_every_bad_file_and_keeps_the_good_ones(tmp_path):
    bad = list(range(1, 60, 2))
    corpus = FakeCorpus(n=60, bad=bad)
    with pytest.raises(DataError) as caught:
        extract_frames(corpus, LogMel(), tmp_path / "s", shard_size=7)
    assert "30 utterances have audio that cannot be used" in caught.value.message
    assert "--on-bad-audio skip" in caught.value.message
    assert len(caught.value.problems) == 21
    assert caught.value.problems[0] == "/somewhere/fake/1.wav: all samples are 0; speech was expected; mend it"
    assert caught.value.problems[-1] == "and 10 more"
    assert corpus.given == list(range(60))
    # unchanged, it says the same again without reading a file; skip makes the store complete at once
    again = FakeCorpus(n=60, bad=bad)
    with pytest.raises(DataError, match="30 utterances"):
        extract_frames(again, LogMel(), tmp_path / "s", shard_size=7)
    store = extract_frames(again, LogMel(), tmp_path / "s", on_bad_audio="skip", shard_size=7)
    assert again.given == []
    assert len(store) == 30
    assert len(store.left_out) == 30
    assert "samples are 0" in store.left_out["fake/3"]
    with pytest.raises(DataError, match="30 utterances"):
        extract_frames(again, LogMel(), tmp_path / "s", shard_size=7)


def in_pieces(order):
    """Return an executor that runs the jobs here, on copies that went through pickle, in some order."""

    def execute(function, context, jobs, on_event):
        for at in order:
            copy = pickle.loads(pickle.dumps(context))
            on_event(
                Event(
                    "done",
                    jobs[at],
                    0,
                    function(copy, jobs[at], lambda n, at=at: on_event(Event("epoch", jobs[at], 0, n))),
                )
            )

    return execute


def test_shards_made_apart_are_the_same_to_the_last_byte(tmp_path):
    calls = []
    options = {"shard_size": 40, "on_bad_audio": "skip"}
    extract_frames(FakeCorpus(n=130, bad=[2, 41, 42]), LogMel(), tmp_path / "whole", **options)
    store = extract_frames(
        FakeCorpus(n=130, bad=[2, 41, 42]),
        LogMel(),
        tmp_path / "s",
        executor=in_pieces([3, 1, 0, 2]),
        progress=lambda *call: calls.append(call),
        **options,
    )
    assert len(store) == 127
    assert list(store.left_out) == ["fake/2", "fake/41", "fake/42"]
    for k in range(4):
        name = f"shard-{k:05d}.h5"
        assert (tmp_path / "s" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
    # 10 of the last shard, then 40 each; within a shard every 32
    assert [n for n, _ in calls] == [10, 42, 50, 82, 90, 122, 130]
    heard = sum(length for i, length in enumerate(FakeCorpus(n=130).lengths) if i not in (2, 41, 42))
    assert calls[-1][1] == pytest.approx(heard / 16000 / 3600)


def test_shards_made_apart_list_bad_audio_in_the_order_of_the_stream(tmp_path):
    corpus = FakeCorpus(n=60, bad=range(1, 60, 2))
    with pytest.raises(DataError) as one:
        extract_frames(corpus, LogMel(), tmp_path / "a", shard_size=7)
    with pytest.raises(DataError) as many:
        extract_frames(corpus, LogMel(), tmp_path / "b", shard_size=7, executor=in_pieces([8, 3, 1, 0, 2, 5, 4, 7, 6]))
    assert many.value.problems == one.value.problems
    assert many.value.message.replace("/b", "/a") == one.value.message


def test_an_error_elsewhere_keeps_its_type_and_what_is_done(tmp_path):
    with pytest.raises(ZeroDivisionError, match="of the file"):
        extract_frames(Failing(n=20), LogMel(), tmp_path / "s", shard_size=5, executor=in_pieces([0, 2, 1, 3]))
    with StoreWriter(tmp_path / "s", frames_spec(Failing(n=20), LogMel()), 5) as writer:
        assert writer.missing(20) == [1, 3]


class Failing(FakeCorpus):
    """A corpus in which something else than bad audio happens."""

    def read(self, utterance, max_duration_s=None):
        if utterance.id == "fake/7":
            raise ZeroDivisionError("of the file")
        return super().read(utterance, max_duration_s)


def test_a_stream_from_the_hub_is_read_once(tmp_path):
    corpus = FakeCorpus(n=12)
    corpus.one_pass = True
    store = extract_frames(corpus, LogMel(), tmp_path / "s", shard_size=5, workers=4)
    assert len(store) == 12
    assert corpus.given == list(range(12))


def test_torch_has_its_threads_back(tmp_path):
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        extract_frames(FakeCorpus(), LogMel(), tmp_path / "s")
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


def test_too_short_for_a_frame(tmp_path):
    corpus = FakeCorpus(lengths=[399, 400, 5000])
    store = extract_frames(corpus, LogMel(), tmp_path / "s", on_bad_audio="skip")
    assert store.ids == ("fake/1", "fake/2")
    assert "0.025 s is too short for one frame" in store.left_out["fake/0"]


def test_nothing_usable(tmp_path):
    with pytest.raises(StoreError, match="no utterance was kept"):
        extract_frames(FakeCorpus(n=2, bad=[0, 1]), LogMel(), tmp_path / "s", on_bad_audio="skip")


def test_other_errors_are_not_swallowed(tmp_path):
    class Broken(FakeCorpus):
        def stream(self, skip=0, max_duration_s=None):
            yield self.utterances()[0], self.read(self.utterances()[0])
            yield self.utterances()[1], RuntimeError("a bug")

    with pytest.raises(RuntimeError, match="a bug"):
        extract_frames(Broken(), LogMel(), tmp_path / "s", on_bad_audio="skip")
    with StoreWriter(tmp_path / "s", frames_spec(Broken(), LogMel())) as writer:
        assert writer.n_done == 1


def test_float16_keeps_enough_of_a_spectrogram(tmp_path):
    frontend = Spectrogram(Spectrogram.Config(fixed_length_s=None))
    exact = extract_frames(FakeCorpus(), frontend, tmp_path / "a", dtype="float32")
    rounded = extract_frames(FakeCorpus(), frontend, tmp_path / "b")
    assert rounded.spec.dtype == "float16"
    np.testing.assert_allclose(rounded.load().values, exact.load().values, atol=5e-4)
    assert open_store(tmp_path / "b").spec.frame_shift_s == 0.04


def test_of_two_that_want_frames_of_the_cache_one_waits_for_the_other(tmp_path, monkeypatch):
    corpus, frontend, said = FakeCorpus(), LogMel(), []
    spec = frames_spec(corpus, frontend)
    folder = tmp_path / "frames" / f"fake-{spec.fingerprint[:16]}"
    other, looks = StoreWriter(folder, spec), []

    def sleep(seconds):  # the other is done by the second look
        looks.append(seconds)
        if len(looks) == 2:
            other.close()

    monkeypatch.setattr(extract.time, "sleep", sleep)
    store = cached_frames(corpus, frontend, cache=tmp_path, notice=said.append)
    assert len(store) == 12
    assert len(looks) == 2
    assert said == ["frames of fake: another process is making them; waiting for it"]
    with StoreWriter(tmp_path / "own", spec), pytest.raises(StoreError, match="another process is writing this store"):
        extract_frames(corpus, frontend, tmp_path / "own")  # a folder that was named is not waited for


@pytest.mark.parametrize("workers", [1, 2])
def test_a_corpus_that_goes_away_meanwhile_is_not_recorded_as_bad_audio(tmp_path, monkeypatch, workers):
    root, frontend = tmp_path / "corpus", LogMel()
    root.mkdir()
    lines = ["file_name,speaker_id"]
    for i in range(6):
        soundfile.write(root / f"{i}.wav", 0.1 * np.random.default_rng(i).normal(size=4000), 16000)
        lines.append(f"{i}.wav,{i % 2}")
    (root / "metadata.csv").write_text("\n".join(lines))
    corpus = FolderCorpus(FolderCorpus.Config(name="mine", path=root))
    corpus.utterances()
    monkeypatch.setattr(FolderCorpus, "fingerprint", lambda self: "as it was when all was there")
    root.rename(tmp_path / "away")
    make = {"on_bad_audio": "skip", "shard_size": 3, "executor": _here if workers == 2 else None}
    with pytest.raises(DataError, match="there is no such file"):
        extract_frames(corpus, frontend, tmp_path / "s", **make)
    (tmp_path / "away").rename(root)
    store = extract_frames(corpus, frontend, tmp_path / "s", **make)
    assert (len(store), store.left_out) == (6, {})


def _here(work, context, jobs, on_event):
    for job in jobs:
        on_event(Event("done", job, 0, work(context, job, lambda n: None)))
