"""Corpora, frontends and encoders that break one rule each."""

import io
import itertools
import time

import numpy as np
import soundfile
import torch
from faults import fault
from pydantic import Field
from reference_sound import BlockMoments, Hums, Levels, Moments

CORPORA, FRONTENDS, ENCODERS = "repkit.corpora", "repkit.frontends", "repkit.encoders"


@fault(CORPORA, "the_name_is_the_users")
class Stubborn(Hums):
    def __init__(self, config):
        super().__init__(config)
        self.name = "mine"


@fault(CORPORA, "ids_are_unique_and_begin_with_the_name")
class Bare(Hums):
    def utterance(self, number, **changes):
        return super().utterance(number, id=f"{number:02d}")

    def read(self, utterance, max_duration_s=None):
        return super().read(Hums.utterance(self, int(utterance.id)), max_duration_s)


@fault(CORPORA, "ids_are_unique_and_begin_with_the_name")
class Doubles(Hums):
    def utterance(self, number, **changes):
        return super().utterance(number // 2)


@fault(CORPORA, "speakers_and_sessions_begin_with_the_name")
class BareSpeakers(Hums):
    def utterance(self, number, **changes):
        return super().utterance(number, speaker=f"speaker{number}")


@fault(CORPORA, "labels_are_of_the_vocabulary")
class Angry(Hums):
    def utterance(self, number, **changes):
        return super().utterance(number, emotion="angry")


@fault(CORPORA, "labels_are_of_the_vocabulary")
class OtherScale(Hums):
    def utterance(self, number, **changes):
        return super().utterance(number, arousal=0.2)


@fault(CORPORA, "labels_are_of_the_vocabulary")
class GermanWords(Hums):
    def utterance(self, number, **changes):
        return super().utterance(number, gender="w")


@fault(CORPORA, "listing_decodes_nothing")
class Listening(Hums):
    def utterances(self):
        return [u for u in super().utterances() if len(self.read(u))]


@fault(CORPORA, "listing_decodes_nothing")
class Decoding(Hums):
    def utterances(self):
        file = io.BytesIO()
        soundfile.write(file, np.zeros(100), 16000, format="WAV")
        file.seek(0)
        soundfile.read(file)
        return super().utterances()


@fault(CORPORA, "sound_is_mono_at_16_khz")
class Wide(Hums):
    def read(self, utterance, max_duration_s=None):
        return super().read(utterance, max_duration_s).astype(np.float64)


@fault(CORPORA, "sound_is_mono_at_16_khz")
class Integers(Hums):
    def read(self, utterance, max_duration_s=None):
        return super().read(utterance, max_duration_s) * np.float32(32768)


@fault(CORPORA, "reading_can_be_cut_short")
class Endless(Hums):
    def read(self, utterance, max_duration_s=None):
        return super().read(utterance)


@fault(CORPORA, "reading_can_be_cut_short")
class TailFirst(Hums):
    def read(self, utterance, max_duration_s=None):
        sound = np.concatenate([super().read(utterance), np.full(8000, 0.1, np.float32)])
        return sound if max_duration_s is None else sound[-round(16000 * max_duration_s) :]


@fault(CORPORA, "streaming_follows_the_list")
class Restarting(Hums):
    def stream(self, skip=0, max_duration_s=None):
        yield from super().stream(0, max_duration_s)


@fault(CORPORA, "streaming_follows_the_list")
class Reversed(Hums):
    def stream(self, skip=0, max_duration_s=None):
        for utterance in self.utterances()[::-1][skip:]:
            yield utterance, self.read(utterance, max_duration_s)


@fault(CORPORA, "the_fingerprint_is_stable")
class Stamped(Hums):
    def __init__(self, config):
        super().__init__(config)
        self.stamp = f"{time.monotonic_ns():064x}"

    def fingerprint(self):
        return self.stamp


@fault(CORPORA, "workers_can_be_given_it")
class Closed(Hums):
    def __init__(self, config):
        super().__init__(config)
        self.normalise = lambda sound: sound


# ---------------------------------------------------------------- frontends


@fault(FRONTENDS, "attributes_say_what_comes_out")
class Telephone(Levels):
    sample_rate = 8000


@fault(FRONTENDS, "frames_have_their_shape")
class ShortCounts(Levels):
    def __call__(self, waveforms, lengths):
        frames, counts = super().__call__(waveforms, lengths)
        return frames, counts.int()


@fault(FRONTENDS, "the_number_of_frames_is_as_promised")
class OneMore(Levels):
    def n_frames(self, n_samples):
        return n_samples // self._shift + 1


@fault(FRONTENDS, "the_number_of_frames_is_as_promised")
class AtLeastABlock(Levels):
    def __call__(self, waveforms, lengths):
        if waveforms.shape[1] < self._shift:
            raise RuntimeError("nothing to transform")
        return super().__call__(waveforms, lengths)


@fault(FRONTENDS, "padding_changes_no_frame")
class Centred(Levels):
    def __call__(self, waveforms, lengths):
        frames, counts = super().__call__(waveforms, lengths)
        return frames - frames.mean(dim=1, keepdim=True), counts


@fault(FRONTENDS, "silence_is_harmless")
class Relative(Levels):
    def __call__(self, waveforms, lengths):
        return super().__call__(waveforms / waveforms.abs().amax(dim=1, keepdim=True), lengths)


@fault(FRONTENDS, "frames_are_deterministic")
class Dithered(Levels):
    def __call__(self, waveforms, lengths):
        frames, counts = super().__call__(waveforms, lengths)
        return frames + 1e-5 * torch.rand(frames.shape), counts


@fault(FRONTENDS, "waveforms_are_left_alone")
class Clipping(Levels):
    def __call__(self, waveforms, lengths):
        return super().__call__(waveforms.clamp_(-0.2, 0.2), lengths)


@fault(FRONTENDS, "the_frame_shift_is_true")
class Slow(Levels):
    def __init__(self, config):
        super().__init__(config)
        self.frame_shift_s = 0.02


@fault(FRONTENDS, "the_convention_is_json")
class Tuples(Levels):
    def convention(self):
        return {**super().convention(), "bands": (1, 2)}


@fault(FRONTENDS, "the_convention_tells_settings_apart")
class Reticent(Levels):
    def convention(self):
        return {"frontend": "levels", "version": "1", "floor": self.config.floor}


@fault(FRONTENDS, "every_setting_has_a_default", shift_s=0.01)
class Undecided(Levels):
    class Config(Levels.Config):
        shift_s: float = Field(gt=0)


# ---------------------------------------------------------------- encoders


@fault(ENCODERS, "settings_are_a_config")
class Unset:
    name, dim, level = "unset", 2, "utterance"

    def __init__(self, config):
        self.inner = Moments(Moments.Config())
        self.encode, self.provenance = self.inner.encode, self.inner.provenance


@fault(ENCODERS, "attributes_say_what_comes_out")
class Foldered(Moments):
    name = "mine/moments"


@fault(ENCODERS, "attributes_say_what_comes_out")
class Timeless(BlockMoments):
    frame_shift_s = None

    def encode(self, waveforms):  # all of one length, so that no distance of states can be measured
        return [np.resize(values, (10, 2)) for values in super().encode(waveforms)]


@fault(ENCODERS, "embeddings_have_their_shape")
class DoubleMoments(Moments):
    def encode(self, waveforms):
        return [values.astype(np.float64) for values in super().encode(waveforms)]


@fault(ENCODERS, "the_batch_changes_nothing")
class BatchNormed(Moments):
    def encode(self, waveforms):
        found = super().encode(waveforms)
        return [values - np.mean(found, axis=0) / 2 for values in found]


@fault(ENCODERS, "embeddings_are_deterministic")
class Unseeded(Moments):
    def __init__(self, config):
        super().__init__(config)
        self.weight = np.random.default_rng().random(dtype=np.float32)

    def encode(self, waveforms):
        return [values * self.weight for values in super().encode(waveforms)]


@fault(ENCODERS, "sounds_are_told_apart")
class Deaf(Moments):
    def encode(self, waveforms):
        return [np.ones(2, np.float32) for _ in waveforms]


@fault(ENCODERS, "sounds_are_left_alone")
class LoudnessLimited(Moments):
    def encode(self, waveforms):
        return super().encode([np.clip(w, -0.2, 0.2, out=w) for w in waveforms])


@fault(ENCODERS, "the_frame_shift_is_true")
class TooFast(BlockMoments):
    frame_shift_s = 0.01


@fault(ENCODERS, "provenance_is_json_and_names_what_was_heard")
class Silent(Moments):
    def provenance(self):
        return {"encoder": "moments", "corpora": []}


@fault(ENCODERS, "provenance_is_json_and_names_what_was_heard")
class Changing(Moments):
    calls = itertools.count()

    def provenance(self):
        return {**super().provenance(), "call": next(self.calls)}


@fault(ENCODERS, "api_version_fits")
class Worded(Moments):
    api_version = "1.0"


@fault(ENCODERS, "the_argument_is_a_setting")
class Misnamed(Moments):
    argument = "pathh"
