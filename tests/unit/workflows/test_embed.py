"""Embedding in stages and in shards: the same numbers in the same order, whoever makes them."""

import json
import pickle
import re
import threading

import numpy as np
import pytest

import repkit.workflows.embed
from repkit.api import BadAudioError, Config, Utterance
from repkit.errors import DataError, RecipeError, StoreError, UsageError
from repkit.plugins import build_config
from repkit.runs.executors import Event, processes
from repkit.stage_one.gru_autoencoder import GruAutoencoder, GruAutoencoderConfig
from repkit.store import Item, StoreWriter, open_store
from repkit.workflows.embed import EmbeddingsSource, EncoderHolder, embed, embeddings_spec, windows

N = 600
BAD = (3, 511, 512, 599)


class Corpus:
    """Utterances of 20 to 60 ms of noise."""

    def __init__(self, n=N, bad=BAD, name="toy"):
        self.n, self.bad, self.name = n, bad, name
        self.threads = set()

    def __getstate__(self):
        return {**self.__dict__, "threads": set()}

    def utterances(self):
        return [Utterance(id=f"{self.name}/{i}", corpus=self.name) for i in range(self.n)]

    def stream(self, skip=0, max_duration_s=None):
        for i, utterance in list(enumerate(self.utterances()))[skip:]:
            self.threads.add(threading.current_thread().name)
            random = np.random.default_rng(i)
            sound = random.normal(size=320 + int(random.integers(640))).astype(np.float32)
            yield utterance, BadAudioError(f"{utterance.id}: unreadable") if i in self.bad else sound

    def fingerprint(self):
        return "f"


class Encoder:
    """Number of samples, their mean, and the process that saw them is of no account."""

    name, dim, level = "plain", 2, "utterance"

    def encode(self, waveforms):
        return [np.array([len(sound), sound.mean()], np.float32) for sound in waveforms]

    def provenance(self):
        return {"corpora": [], "speakers": []}


class InStages(Encoder):
    """The same by frames of ten samples."""

    name = "stages"

    def __init__(self):
        self.threads, self.asked = set(), []

    def frames(self, waveform):
        self.threads.add(threading.current_thread().name)
        return waveform[: len(waveform) // 10 * 10].reshape(-1, 10)

    def encode_frames(self, frames):
        self.asked.append(len(frames))
        return [np.array([f.size, f.mean()], np.float32) for f in frames]

    def encode(self, waveforms):
        raise AssertionError("has stages")


def apart(order):
    def execute(function, context, jobs, on_event):
        for at in order:
            copy = pickle.loads(pickle.dumps(context))
            on_event(Event("done", jobs[at], 0, function(copy, jobs[at], lambda n: None)))

    return execute


def expected(i, step=1):
    random = np.random.default_rng(i)
    sound = random.normal(size=320 + int(random.integers(640))).astype(np.float32)
    sound = sound[: len(sound) // step * step]
    return len(sound), sound.mean()


def shards(folder):
    return {path.name: path.read_bytes() for path in sorted(folder.glob("shard*"))}


def test_stages_run_in_threads_of_their_own(tmp_path):
    corpus, encoder, calls = Corpus(), InStages(), []
    store = embed(encoder, [corpus], tmp_path, on_bad_audio="skip", progress=lambda *call: calls.append(call))["toy"]
    assert store.ids == tuple(f"toy/{i}" for i in range(N) if i not in BAD)
    assert store.left_out == {f"toy/{i}": f"toy/{i}: unreadable" for i in BAD}
    np.testing.assert_allclose(store.read("toy/300"), expected(300, 10), rtol=1e-5, atol=1e-7)
    assert (corpus.threads, encoder.threads) == ({"decode"}, {"frames"})
    assert encoder.asked == [255, 255, 86]  # 256 each without the bad ones; a window ends with its shard
    assert calls == [("toy", n, N) for n in range(1, N + 1)]


def test_a_frame_level_encoder_without_stages(tmp_path):
    class States(Encoder):
        name, dim, level, frame_shift_s = "states", 5, "frame", 0.5

        def encode(self, waveforms):
            return [sound[: len(sound) // 5 * 5].reshape(-1, 5) for sound in waveforms]

    store = embed(States(), [Corpus(n=20, bad=())], tmp_path)["toy"]
    assert (store.spec.kind, store.spec.frame_shift_s) == ("frames", 0.5)
    assert store.lengths.tolist() == [expected(i)[0] // 5 for i in range(20)]
    assert store.starts is None


def test_where_states_start_is_kept(tmp_path):
    class Late(InStages):
        name, dim, level, frame_shift_s = "late", 10, "frame", 0.5

        def start_s(self, waveform):
            return len(waveform) / 1000

        def encode_frames(self, frames):
            return frames

    store = embed(Late(), [Corpus(n=20, bad=(3,))], tmp_path, on_bad_audio="skip")["toy"]
    # to the bit, so that new speech is rounded to the same state
    assert store.starts == {f"toy/{i}": expected(i)[0] / 1000 for i in range(20) if i != 3}


@pytest.mark.parametrize("encoder", [Encoder, InStages])
def test_shards_made_apart_are_the_same_to_the_last_byte(tmp_path, encoder):
    options = {"on_bad_audio": "skip", "window": 100}
    whole = embed(encoder(), [Corpus()], tmp_path / "a", **options)["toy"]
    parts = embed(encoder(), [Corpus()], tmp_path / "b", executor=apart([1, 0]), **options)["toy"]
    assert shards(parts.path) == shards(whole.path)
    assert len(shards(whole.path)) == 2
    ours, theirs = (json.loads((s.path / "manifest.json").read_text()) for s in (parts, whole))
    assert ours["left_out"] == theirs["left_out"]


def test_the_autoencoder_too(tmp_path):
    """Batches of it end with their shard, so that even the last bits do not tell who made it."""
    frontend = {"name": "log_mel", "settings": {"bands": 8}}
    GruAutoencoder(GruAutoencoderConfig(n_bands=8, hidden_size=16, frontend=frontend)).save_pretrained(tmp_path / "ae")
    corpus = Corpus(bad=[i for i in range(N) if len(list(range(400, int(expected(i)[0]) + 1))) == 0])
    options = {"on_bad_audio": "skip"}
    whole = embed(str(tmp_path / "ae"), [corpus], tmp_path / "a", **options)["toy"]
    parts = embed(str(tmp_path / "ae"), [corpus], tmp_path / "b", executor=apart([1, 0]), **options)["toy"]
    assert shards(parts.path) == shards(whole.path)
    assert whole.spec.dim == 64
    # bf16 has 8 bits: numbers below 1 are off by 0.004 at most, and the network does not add much to that
    rough = embed(str(tmp_path / "ae"), [corpus], tmp_path / "c", precision="bf16", **options)["toy"]
    error = np.abs(rough.load().values - whole.load().values).max()
    assert 1e-5 < error < 0.02
    assert rough.spec.source == {**whole.spec.source, "precision": "bf16"}


def test_processes_and_several_corpora_and_a_restart(tmp_path):
    """Two real processes; the second corpus is finished already, of the first a part of one shard is there."""
    corpora = [Corpus(), Corpus(n=30, bad=(), name="done")]
    whole = embed(Encoder(), corpora, tmp_path / "a", on_bad_audio="skip")
    embed(Encoder(), corpora[1:], tmp_path / "b")
    spec = embeddings_spec(corpora[0], Encoder(), "float32", None)
    with StoreWriter(tmp_path / "b" / "plain" / "toy", spec) as writer:
        source = EmbeddingsSource(corpora[0], EncoderHolder(None, {}, Encoder()), None, 256, 512)
        for item in source.items(0, 5):
            bad = isinstance(item.values, BadAudioError)
            writer.leave_out(item.id, item.values.message) if bad else writer.add(item.id, item.values)
    said, calls = [], []
    stores = embed(
        Encoder(),
        corpora,
        tmp_path / "b",
        on_bad_audio="skip",
        workers=2,
        notice=said.append,
        progress=lambda *call: calls.append(call),
    )
    assert said == ["embeddings: 2 shards by 2 processes"]
    assert calls[-1] == ("toy", N, N)
    for name, store in stores.items():
        assert shards(store.path) == shards(whole[name].path)
        assert store.left_out == whole[name].left_out


class Faulty(Encoder):
    def encode(self, waveforms):
        raise DataError("the encoder: got speech; silence was expected; be quiet", ["one", "two"])


def test_an_error_of_another_process_keeps_type_and_text(tmp_path):
    with pytest.raises(DataError, match="silence was expected") as caught:
        embed(Faulty(), [Corpus()], tmp_path, executor=processes(1))
    assert caught.value.problems == ("one", "two")


def test_another_encoders_store_is_refused_before_anything_is_read(tmp_path):
    class Other(Encoder):
        def provenance(self):
            return {"corpora": ["x"], "speakers": []}

    corpus = Corpus(n=3, bad=())
    embed(Encoder(), [Corpus(n=3, bad=(), name="second")], tmp_path)
    with pytest.raises(StoreError, match="fingerprint"):
        embed(Other(), [corpus, Corpus(n=3, bad=(), name="second")], tmp_path)
    assert corpus.threads == set()


def test_windows_end_by_number_by_bytes_and_with_the_shard(monkeypatch):
    monkeypatch.setattr(repkit.workflows.embed, "AHEAD_BYTES", 80)
    items = [Item(str(i), np.zeros(size, np.float32)) for i, size in enumerate([1] * 7 + [30, 1, 1, 5, 1, 1, 1])]
    cut = [[int(item.id) for item in block] for block in windows(iter(items), 0, 4, 11)]
    # 4 at most; 80 bytes reached by item 7; the shard ends after item 10
    assert cut == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9, 10], [11, 12, 13]]
    assert [len(b) for b in windows(iter(items[9:]), 9, 4, 11)] == [2, 3]
    assert [len(b) for b in windows(iter(items[6:9]), 6, 4, 100)] == [2, 1]


def test_an_encoder_by_name_is_opened_anew_in_each_process():
    holder = EncoderHolder("runs/ae", {"seed": 1}, Encoder())
    assert pickle.loads(pickle.dumps(holder)) == EncoderHolder("runs/ae", {"seed": 1}, None)
    assert isinstance(pickle.loads(pickle.dumps(EncoderHolder(None, {}, Encoder()))).opened, Encoder)


def test_the_store_is_the_one_of_before(tmp_path):
    """Bad audio stops the command at its end, and then only has to be allowed."""
    with pytest.raises(DataError) as caught:
        embed(Encoder(), [Corpus()], tmp_path)
    assert caught.value.problems == tuple(f"toy/{i}: unreadable" for i in BAD)
    store = embed(Encoder(), [Corpus()], tmp_path, on_bad_audio="skip")["toy"]
    np.testing.assert_allclose(
        [store.read(f"toy/{i}") for i in (0, 510, 513)], [expected(i) for i in (0, 510, 513)], rtol=1e-5, atol=1e-7
    )
    assert open_store(store.path).spec.source == {"corpora": [], "speakers": [], "max_duration_s": None}


# ---------------------------------------------------------------------- settings of the encoder


def test_settings_stand_in_name_and_provenance_where_they_are_not_the_defaults(tmp_path):
    corpora = [Corpus(n=3, bad=())]
    plain = embed("functionals", corpora, tmp_path)["toy"]
    same = embed("functionals", corpora, tmp_path, settings={"trim_db": 40, "parts": "all"})["toy"]
    assert (plain.path, plain.spec) == (same.path, same.spec)
    assert "encoder_settings" not in plain.spec.source
    other = embed("functionals", corpora, tmp_path, settings={"trim_db": 30, "level": "removed", "bands": 8})["toy"]
    assert other.path == tmp_path / "functionals-level-free-bands_8-trim_db_30" / "toy"
    assert other.spec.source["name"] == "functionals-level-free-bands_8-trim_db_30"
    assert {"trim_db": 30.0, "level": "removed", "bands": 8}.items() <= other.spec.source["settings"].items()
    assert (plain.spec.dim, other.spec.dim) == (40 * 15 + 144, 8 * 15 + 144)
    assert embed("functionals:mel", corpora, tmp_path, settings={"bands": 8})["toy"].path.parent.name == (
        "functionals-mel-bands_8"
    )


class Blocks(Encoder):
    """A stranger's, whose name says nothing of its settings."""

    name = "blocks"

    class Config(Config):
        length: int = 10
        window: str = "hann"
        level: str = "utterance"
        steps: tuple[int, ...] = (1, 2)
        device: str = "auto"

    def __init__(self, config):
        self.config = config


def test_the_name_of_any_encoder_tells_what_its_own_does_not(tmp_path, monkeypatch):
    def opened(spec, **options):
        return Blocks(build_config(Blocks, options, spec))

    monkeypatch.setattr(repkit.workflows.embed, "open_encoder", opened)
    corpora = [Corpus(n=3, bad=())]

    def store(**settings):
        return embed("plugin:blocks", corpora, tmp_path, settings=settings)["toy"]

    assert store().path.parent.name == store(length=10, device="cpu", steps=[1, 2]).path.parent.name == "blocks"
    found = store(length=20, window="a/b", level="removed", device="cpu")
    name = found.path.parent.name
    # level has an option of its own, so that the encoder's name is to tell it; what no folder may be called is hashed
    assert re.fullmatch(r"blocks-length_20-window_[0-9a-f]{8}", name)
    assert found.spec.source["encoder_settings"] == {"length": 20, "window": "a/b", "level": "removed"}
    assert found.spec.source["name"] == name
    monkeypatch.setattr(Blocks, "name", "blocks-hamming")
    assert store(window="hamming").path.parent.name == "blocks-hamming"


@pytest.mark.parametrize(
    ("encoder", "settings", "options", "kind", "said"),
    [
        ("functionals:mel", {"parts": "prosody"}, {}, UsageError, "'functionals:mel' decides parts by itself"),
        (
            "functionals",
            {"level": "removed"},
            {"level": "frame"},
            UsageError,
            "level given as an option and as a setting",
        ),
        ("functionals", {"trm_db": 30, "bands": 0}, {}, RecipeError, "encoder functionals: not valid"),
        (Encoder(), {"bands": 3}, {}, UsageError, "plain, which is built already"),
    ],
)
def test_settings_that_do_not_fit_are_refused_before_anything_is_read(tmp_path, encoder, settings, options, kind, said):
    corpus = Corpus(n=3, bad=())
    with pytest.raises(kind, match=said) as caught:
        embed(encoder, [corpus], tmp_path, settings=settings, **options)
    assert corpus.threads == set()
    if kind is RecipeError:
        assert "encoder functionals.trm_db: unknown key; did you mean 'trim_db'?" in caught.value.problems
        assert len(caught.value.problems) == 2
