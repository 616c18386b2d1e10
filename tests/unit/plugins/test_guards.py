"""What strangers' corpora, frontends and encoders raise or return wrongly is blamed on their distribution, code 3."""

import pickle

import numpy as np
import pytest
import torch

from repkit.audio.open import open_corpus
from repkit.errors import BadAudioError, PluginError
from repkit.plugins.blaming import blaming, blaming_the_one, place_in
from repkit.plugins.guards import make_encoder, make_frontend
from repkit.stage_one.naming import changed_settings

CODE = """
import numpy as np
import torch
from repkit import api


class Frames:
    '''Blocks of 160 samples: their mean and largest size.'''

    class Config(api.Config):
        fault: str = ''

    n_bands, sample_rate, frame_shift_s = 2, 16000, 0.01

    def __init__(self, config):
        self.config = config
        if config.fault == 'build':
            raise OSError('no weights')

    def n_frames(self, n_samples):
        return n_samples // 160 + (self.config.fault == 'n_frames')

    def __call__(self, waveforms, lengths):
        fault = self.config.fault
        if fault == 'raise':
            raise ValueError('odd')  # LINE
        blocks = waveforms[:, : waveforms.shape[1] // 160 * 160].unfold(1, 160, 160)
        frames = torch.stack([blocks.mean(-1), blocks.abs().amax(-1)], -1)
        if fault == 'bands':
            frames = frames[..., :1]
        if fault == 'double':
            frames = frames.double()
        if fault == 'nan':
            frames = frames / 0
        return (frames.numpy() if fault == 'numpy' else frames), lengths // 160

    def convention(self):
        return None if self.config.fault == 'convention' else {'blocks': 160}


class NoMethod(Frames):
    convention = None


class Moments:
    class Config(api.Config):
        fault: str = ''
        level: str = 'utterance'

    name, dim = 'moments', 2

    def __init__(self, config):
        self.config, self.level = config, config.level
        self.frame_shift_s = 0.01

    def encode(self, waveforms):
        fault = self.config.fault
        if fault == 'raise':
            raise KeyError('weights')
        found = [np.array([w.mean(), w.std()], np.float32) for w in waveforms]
        if fault == 'fewer':
            return found[:-1]
        if fault == 'double':
            return [one.astype(np.float64) for one in found]
        if fault == 'shape':
            return [one[:1] for one in found]
        if fault == 'nan':
            return [one / np.float32(0) * 0 for one in found]
        if fault == 'list':
            return [list(one) for one in found]
        if fault == 'bad':
            return [api.BadAudioError('too short'), *found[1:]]
        return found

    def provenance(self):
        heard = {
            'text': {'speakers': 'x/0'},
            'number': {'speakers': ['x/0', 7]},
            'nothing': {'speakers': ['x/0', None]},
            'corpus': {'corpora': 'librispeech'},
            'set': {'speakers': {'x/1', 'x/0'}, 'corpora': ({'name': 'x'}, 'y')},
            'unknown': {'speakers': None, 'corpora': None},
        }
        return {'encoder': 'moments', **heard.get(self.config.fault, {})}

    def start_s(self, waveform):
        raise IndexError('no start')


class NoProvenance(api.Encoder, Moments):
    pass


class Staged(Moments):
    def frames(self, waveform):
        return waveform[:2]

    def encode_frames(self, frames):
        return frames[:-1]


class Voices:
    class Config(api.Config):
        name: str = 'kit'
        fault: str = ''

    def __init__(self, config):
        self.config, self.name = config, 'fixed' if config.fault == 'deaf' else config.name

    def utterances(self):
        fault, n = self.config.fault, self.name
        if fault == 'names':
            return [api.Utterance(id='0', corpus=n, speaker='1', emotion='angry!'),
                    api.Utterance(id='0', corpus='other', gender='f', arousal=7.0)]
        return [api.Utterance(id=f'{n}/{i}', corpus=n, speaker=f'{n}/{i}', emotion='anger') for i in range(3)]

    def read(self, utterance, max_duration_s=None):
        fault = self.config.fault
        if fault == 'gone':
            raise FileNotFoundError('x.wav')
        sound = np.full(1600, 0.5, np.float32)
        return {'stereo': np.stack([sound, sound], 1), 'double': sound.astype(np.float64), 'empty': sound[:0],
                'nan': sound * np.float32('nan')}.get(fault, sound)

    def stream(self, skip=0, max_duration_s=None):
        listed = self.utterances()[skip:]
        if self.config.fault == 'order':
            listed = listed[::-1]
        if self.config.fault == 'short':
            listed = listed[:-1]
        for utterance in listed:
            if self.config.fault == 'handed':
                yield utterance, OSError('disk')
            else:
                yield utterance, self.read(utterance, max_duration_s)

    def fingerprint(self):
        return 'ab' * 16


class NoFingerprint(api.Corpus, Voices):
    pass
"""

WAVES = torch.linspace(-0.5, 0.5, 480)[None]
N = torch.tensor([480])
SOUNDS = [np.linspace(-1, 1, n, dtype=np.float32) for n in (40, 60)]


@pytest.fixture
def stranger(distribution):
    points = {
        "repkit.frontends": {"frames": "{module}:Frames", "no_method": "{module}:NoMethod"},
        "repkit.encoders": {
            "moments": "{module}:Moments",
            "no_provenance": "{module}:NoProvenance",
            "staged": "{module}:Staged",
        },
        "repkit.corpora": {"voices": "{module}:Voices", "no_fingerprint": "{module}:NoFingerprint"},
    }
    return distribution("stranger", points, CODE)


def refused(work, *said):
    """Run what must fail by the fault of the stranger; return its message."""
    with pytest.raises(PluginError) as caught:
        work()
    assert caught.value.message.startswith("plugin stranger 1.2 (repkit.")
    for words in said:
        assert words in str(caught.value)
    assert caught.value.exit_code == 3


def test_what_is_sound_passes_unchanged(stranger):
    frames, counts = make_frontend("frames", {}, "frontend")(WAVES, N)
    assert (tuple(frames.shape), counts.tolist()) == ((1, 3, 2), [3])
    encoder = pickle.loads(pickle.dumps(make_encoder("moments", {}, "encoder")))
    assert [one.tolist() for one in encoder.encode(SOUNDS)] == [
        [pytest.approx(0.0, abs=1e-6), pytest.approx(float(s.std()))] for s in SOUNDS
    ]
    assert (encoder.name, encoder.dim, encoder.level, encoder.config.fault) == ("moments", 2, "utterance", "")
    assert not hasattr(encoder, "encode_frames")
    assert changed_settings(encoder, {"fault": ""}) == {}
    bad, good = make_encoder("moments", {"fault": "bad"}, "encoder").encode(SOUNDS)
    assert isinstance(bad, BadAudioError)
    assert good.shape == (2,)
    corpus = pickle.loads(pickle.dumps(open_corpus("mine", "plugin:voices")))
    assert [u.id for u in corpus.utterances()] == ["mine/0", "mine/1", "mine/2"]
    assert [(u.id, len(sound)) for u, sound in corpus.stream(skip=1)] == [("mine/1", 1600), ("mine/2", 1600)]
    assert (corpus.fingerprint(), corpus.config.name) == ("ab" * 16, "mine")


def test_repkits_own_components_are_handed_out_as_they_are():
    assert type(make_frontend("log_mel", {}, "frontend")).__name__ == "LogMel"


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        ("raise", ": ValueError in "),
        ("bands", "frames are torch.float32 of shape (1, 3, 1), not torch.float32 of shape (1, T, 2)"),
        ("double", "frames are torch.float64"),
        ("numpy", "frames are a ndarray, not a tensor (1, T, 2)"),
        ("n_frames", "[3] frames come out of [480] samples, and n_frames() says [4]"),
        ("nan", "NaN or infinity for sound that is finite"),
    ],
)
def test_frontends(stranger, fault, said):
    refused(lambda: make_frontend("frames", {"fault": fault}, "frontend")(WAVES, N), said)


def test_frontends_that_cannot_be_used_at_all(stranger):
    refused(lambda: make_frontend("frames", {"fault": "build"}, "frontend"), "OSError in ", "no weights")
    refused(lambda: make_frontend("no_method", {}, "frontend"), "has no convention()")
    refused(lambda: make_frontend("frames", {"fault": "convention"}, "x").convention(), "gives a NoneType")


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        ("raise", ": KeyError in "),
        ("fewer", "1 embeddings for 2 sounds"),
        ("double", "an embedding is float64 of shape (2,), not float32 of shape (2,)"),
        ("shape", "an embedding is float32 of shape (1,), not float32 of shape (2,)"),
        ("nan", "NaN or infinity for sound that is finite"),
        ("list", "an embedding is a list"),
    ],
)
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_encoders(stranger, fault, said):
    refused(lambda: make_encoder("moments", {"fault": fault}, "encoder").encode(SOUNDS), said)


def test_encoders_beside_encode(stranger):
    # a method that is inherited from the Protocol alone returns None
    refused(lambda: make_encoder("no_provenance", {}, "x").provenance(), "provenance() gives a NoneType, not a mapping")
    refused(lambda: make_encoder("moments", {"level": "word"}, "x"), "level is 'word', not one of utterance, frame")
    refused(lambda: make_encoder("moments", {}, "x").start_s(SOUNDS[0]), "IndexError in ", "no start")
    staged = make_encoder("staged", {}, "x")
    refused(lambda: staged.encode_frames([staged.frames(sound) for sound in SOUNDS]), "1 embeddings for 2 sounds")


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        ("text", "gives speakers = 'x/0', not a list of names"),
        ("number", "gives speakers with 7 among them, not a list"),
        ("nothing", "gives speakers with None among them"),
        ("corpus", "gives corpora = 'librispeech', not a list of names: [] where nothing was heard"),
    ],
)
def test_encoders_that_name_badly_whom_they_heard(stranger, fault, said):
    refused(make_encoder("moments", {"fault": fault}, "x").provenance, f"provenance() {said}")


def test_encoders_may_list_whom_they_heard_in_any_order_or_not_know_it(stranger):
    def heard(fault):
        found = make_encoder("moments", {"fault": fault}, "x").provenance()
        return {key: value for key, value in found.items() if key != "encoder"}

    assert heard("set") == {"speakers": ["x/0", "x/1"], "corpora": [{"name": "x"}, "y"]}
    assert heard("unknown") == {"speakers": None, "corpora": None}
    assert heard("") == {}


def test_utterances_are_looked_at_once_and_all_faults_told(stranger):
    corpus = open_corpus("mine", "plugin:voices", options={"fault": "names"})
    wanted = ("the id '0'", "corpus 'other'", "'0' 2 times", "speaker '1'", "gender 'f'", "arousal 7.0", "'angry!'")
    refused(corpus.utterances, "corpus 'mine' breaks 8 rules", *wanted)


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        ("gone", "FileNotFoundError in "),
        ("stereo", "mine/0: the sound is ndarray float32 (1600, 2), not mono"),
        ("double", "mine/0: the sound is ndarray float64 (1600,), not mono"),
    ],
)
def test_sound_of_another_kind_is_refused_read_or_streamed(stranger, fault, said):
    corpus = open_corpus("mine", "plugin:voices", options={"fault": fault})
    refused(lambda: corpus.read(corpus.utterances()[0]), said)
    refused(lambda: list(corpus.stream()), said)


@pytest.mark.parametrize(("fault", "said"), [("empty", "no sample"), ("nan", "samples that are not finite")])
def test_sound_that_may_be_the_files_fault_is_bad_audio(stranger, fault, said):
    corpus = open_corpus("mine", "plugin:voices", options={"fault": fault})
    with pytest.raises(BadAudioError, match=f"mine/1: {said}"):
        corpus.read(corpus.utterances()[1])
    assert [str(error).partition(";")[0] for _, error in corpus.stream(skip=2)] == [f"mine/2: {said}"]


def test_a_corpus_that_does_not_take_its_name_is_refused_when_opened(stranger):
    refused(
        lambda: open_corpus("mine", "plugin:voices", options={"fault": "deaf"}),
        "opened as 'mine', it calls itself 'fixed'; take `name` from the settings",
    )


def test_streams_that_are_not_the_list(stranger):
    def streamed(fault):
        return lambda: list(open_corpus("mine", "plugin:voices", options={"fault": fault}).stream())

    refused(streamed("order"), "stream gives 'mine/2' at place 0, where utterances() has 'mine/0'")
    refused(streamed("short"), "stream ends after 2 of 3 utterances")
    refused(streamed("handed"), "OSError: disk")
    refused(lambda: open_corpus("mine", "plugin:no_fingerprint").fingerprint(), "fingerprint() gives None")


def test_the_deepest_line_of_the_plugins_own_code_is_named(stranger):
    line = 1 + CODE.split("\n").index(next(row for row in CODE.split("\n") if "# LINE" in row))
    refused(
        lambda: make_frontend("frames", {"fault": "raise"}, "frontend")(WAVES, N),
        f"ValueError in {stranger}.py, line {line}: odd; a component that keeps the contract",
    )
    with pytest.raises(ZeroDivisionError) as caught:
        print(1 / 0)
    assert place_in("torch.nn", caught.value) == ""
    assert place_in(__name__, caught.value).startswith(" in test_guards.py, line ")


def test_of_several_components_the_one_is_blamed_whose_code_it_was(stranger):
    used = [("repkit.models", "attentive_cnn"), ("repkit.frontends", "frames")]
    broken = make_frontend("frames", {"fault": "raise"}, "x")._inner

    def work(function, *arguments):
        with blaming_the_one(used, passing=(TimeoutError,)):
            function(*arguments)

    refused(lambda: work(broken, WAVES, N), "repkit.frontends: frames", "ValueError in ")
    with pytest.raises(TypeError):  # a bug of repkit stays one
        work(lambda: 1 + "")


def test_what_is_nobodys_fault_passes():
    with pytest.raises(BadAudioError), blaming("repkit.models", "attentive_cnn"):
        raise BadAudioError("empty")
    with pytest.raises(TimeoutError), blaming("repkit.models", "attentive_cnn", passing=(TimeoutError,)):
        raise TimeoutError
    for exhausted in (MemoryError, torch.OutOfMemoryError):
        with pytest.raises(exhausted), blaming("repkit.models", "attentive_cnn"):
            raise exhausted
