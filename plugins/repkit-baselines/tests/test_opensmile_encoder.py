"""openSMILE as an encoder: its numbers and its odd sounds."""

import os

import numpy as np
import pytest
import soundfile

from repkit.api import BadAudioError, PluginError, UsageError
from repkit.errors import RecipeError
from repkit.stage_one.open import open_encoder
from repkit.testing import conformance_tests

opensmile = pytest.importorskip("opensmile")

from opensmile_material import IS09, RATE, hum, make  # noqa: E402
from repkit_baselines import opensmile_encoder, opensmile_worker  # noqa: E402
from repkit_baselines.opensmile_encoder import FEATURE_SETS, OpensmileEncoder, _sixteen_bit  # noqa: E402

SIZES = {
    "IS09": 384,
    "IS10": 1582,
    "IS11": 4368,
    "IS12": 6125,
    "IS13": 6373,
    "ComParE_2016": 6373,
    "GeMAPSv01a": 62,
    "GeMAPSv01b": 62,
    "eGeMAPSv01a": 88,
    "eGeMAPSv01b": 88,
    "eGeMAPSv02": 88,
    "emobase": 988,
}

test_vectors = conformance_tests("repkit.encoders", OpensmileEncoder, settings=IS09)
test_frames = conformance_tests(
    "repkit.encoders", OpensmileEncoder, settings={"feature_set": "eGeMAPSv02", "level": "frame", "n_workers": 1}
)


_started = {}


def _shared(settings, n):
    key = (*settings.values(), n)
    return _started.setdefault(key, _started.get(key) or opensmile_worker.SmileWorkers(settings, n))


@pytest.fixture(autouse=True)
def _shared_workers(monkeypatch):
    """Encoders of the same settings share processes: starting one costs a second."""
    monkeypatch.setattr(opensmile_encoder, "SmileWorkers", _shared)


@pytest.fixture(scope="module")
def encoder():
    return make(feature_set="IS09", n_workers=2)


@pytest.fixture(scope="module")
def sound():
    return hum()


# ---- numbers


def test_every_set_of_the_package_has_its_published_size():
    legacy = {"GeMAPS", "eGeMAPS"}  # there the old versions; too easily taken for the newest
    assert set(FEATURE_SETS) == set(opensmile.FeatureSet.__members__) - legacy == set(SIZES)
    with pytest.warns(UserWarning, match="deprecated"):
        found = {name: opensmile.Smile(opensmile.FeatureSet[name]).num_features for name in FEATURE_SETS}
    assert found == SIZES


def test_is09_is_16_descriptors_their_deltas_and_12_functionals(encoder):
    cepstra = [f"pcm_fftMag_mfcc_sma{{}}[{i}]" for i in range(1, 13)]
    descriptors = ["pcm_RMSenergy_sma{}", *cepstra, "pcm_zcr_sma{}", "voiceProb_sma{}", "F0_sma{}"]
    functionals = [
        "max",
        "min",
        "range",
        "maxPos",
        "minPos",
        "amean",
        "linregc1",
        "linregc2",
        "linregerrQ",
        "stddev",
        "skewness",
        "kurtosis",
    ]
    wanted = [f"{d.format(delta)}_{f}" for delta in ("", "_de") for d in descriptors for f in functionals]
    assert len(wanted) == 384
    assert encoder.feature_names == wanted


def smoothed(values):
    """Moving average of three; the ends repeated."""
    padded = np.pad(values, 1, mode="edge")
    return (padded[:-2] + padded[1:-1] + padded[2:]) / 3


def functionals(values):
    n, (slope, offset), centred = np.arange(len(values)), np.polyfit(np.arange(len(values)), values, 1), values
    centred = values - values.mean()
    return {
        "max": values.max(),
        "min": values.min(),
        "range": np.ptp(values),
        "maxPos": values.argmax(),
        "minPos": values.argmin(),
        "amean": values.mean(),
        "linregc1": slope,
        "linregc2": offset,
        "linregerrQ": ((slope * n + offset - values) ** 2).mean(),
        "stddev": values.std(),
        "skewness": (centred**3).mean() / values.std() ** 3,
        "kurtosis": (centred**4).mean() / values.std() ** 4,
    }


def test_energy_and_zero_crossings_are_those_of_numpy(encoder, sound):
    found = dict(zip(encoder.feature_names, encoder.encode([sound])[0], strict=True))
    frames = np.lib.stride_tricks.sliding_window_view(sound.astype(np.float64) * 32768 / 32767, 400)[::160]
    emphasised = np.concatenate([0.03 * frames[:, :1], frames[:, 1:] - 0.97 * frames[:, :-1]], 1)
    energy = np.sqrt(((emphasised * np.hamming(400)) ** 2).mean(1))
    crossings = (frames[:, 1:] * frames[:, :-1] < 0).sum(1) / 400
    for name, contour in (("pcm_RMSenergy", smoothed(energy)), ("pcm_zcr", smoothed(crossings))):
        at = np.pad(contour, 2, mode="edge")
        delta = (2 * (at[4:] - at[:-4]) + at[3:-1] - at[1:-3]) / 10
        # openSMILE's functionals see the contours without their last two frames
        for suffix, values in (("sma", contour[:-2]), ("sma_de", delta[:-2])):
            for functional, value in functionals(values).items():
                assert found[f"{name}_{suffix}_{functional}"] == pytest.approx(value, rel=2e-4, abs=2e-7), functional


@pytest.mark.parametrize("name", ["IS09", "ComParE_2016"])
def test_memory_gives_what_a_file_gives(name, sound, tmp_path):
    """Against the package's own reading of a WAV file, and against openSMILE's wave source, which SMILExtract uses."""
    path = tmp_path / "sound.wav"
    soundfile.write(path, sound, RATE, subtype="PCM_16")
    found = make(feature_set=name, n_workers=1).encode([sound])[0]
    smile = opensmile.Smile(opensmile.FeatureSet[name])
    np.testing.assert_array_equal(found, smile.process_file(str(path)).to_numpy()[0])
    options = smile._options()
    options["source"] = os.path.join(smile.default_config_root, "shared/standard_wave_input.conf.inc")
    options["I"] = str(path)
    rows = []
    extract = smile._smile(options=options)
    extract.external_sink_set_callback_ex("extsink", lambda row, meta: rows.append(row.copy()))
    extract.run()
    extract.free()
    np.testing.assert_array_equal(found, np.concatenate(rows)[0])


def test_full_scale_and_beyond_is_clipped_and_never_turned_round():
    given = np.array([1.0, -1.0, 1.7, -1.7, 0.5, 0.6 / 32768, -0.6 / 32768, 0.4 / 32768], np.float32)
    assert _sixteen_bit(given).tolist() == [32767, -32768, 32767, -32768, 16384, 1, -1, 0]


def test_workers_change_nothing_and_the_order_is_kept(encoder, sound):
    sounds = [sound[: 6000 + 997 * i] for i in range(12)]
    alone = make(**IS09)
    for one, other in zip(encoder.encode(sounds), alone.encode(sounds), strict=True):
        np.testing.assert_array_equal(one, other)
    assert len(encoder._workers.process_ids) == 2
    np.testing.assert_array_equal(alone.encode(sounds[7:8])[0], encoder.encode(sounds)[7])


# ---- odd sounds


def test_too_short_is_told_and_the_others_are_encoded(encoder, sound):
    found = encoder.encode([sound, sound[:300], sound[:0], sound[:400]])
    assert [isinstance(one, BadAudioError) for one in found] == [False, True, True, False]
    assert found[1].message == (
        "opensmile-IS09: 384 of 384 values are not finite for 0.019 s of sound; IS09 is known to work from 0.025 s; "
        "leave it out"
    )
    np.testing.assert_array_equal(found[0], encoder.encode([sound])[0])


def test_silence_is_finite(encoder):
    for quiet in (np.zeros(RATE, np.float32), np.full(RATE, 0.5, np.float32)):
        assert np.isfinite(encoder.encode([quiet])[0]).all()


# ---- what to compute


@pytest.mark.parametrize(("given", "name"), [("is09", "IS09"), ("IS13_ComParE", "IS13"), ("egemapsV02", "eGeMAPSv02")])
def test_names_under_which_sets_are_known(given, name):
    assert OpensmileEncoder.Config(feature_set=given).feature_set == name


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        ("opensmile:IS9", "got 'IS9'.*did you mean 'IS09'"),
        ("opensmile:eGeMAPS", "expected one of IS09.*did you mean 'eGeMAPSv0"),
        ("opensmile:my.conf", "got 'my.conf'.*no such file"),
    ],
)
def test_other_names_are_refused(spec, said):
    with pytest.raises(RecipeError, match=said):
        open_encoder(spec)


def test_deltas_of_gemaps_are_refused():
    with pytest.raises(UsageError, match="eGeMAPSv02 has no deltas"):
        make(feature_set="eGeMAPSv02", level="frame", sink_level="lld_de")


def test_a_level_that_is_not_there_is_an_error(tmp_path):
    with pytest.raises(UsageError, match="cannot be started with data level 'nowhere'"):
        make(feature_set="IS09", sink_level="nowhere")


def test_frames_are_not_taken_for_a_vector(sound):
    with pytest.raises(UsageError, match="encoder opensmile-IS09-lld: data level 'lld' gives 199 rows for a sound"):
        make(**IS09, sink_level="lld").encode([sound])


OWN = r"""
[componentInstances:cComponentManager]
instance[dataMemory].type=cDataMemory
\{\cm[source{?}:where sound comes from]}
\{own_parts.inc}
\{\cm[sink{?}:where features go]}
"""
PARTS = r"""
[componentInstances:cComponentManager]
instance[cut].type=cFramer
instance[loud].type=cEnergy
instance[mean].type=cFunctionals
[cut:cFramer]
reader.dmLevel=wave
writer.dmLevel=cut
frameSize=0.02
frameStep=0.02
[loud:cEnergy]
reader.dmLevel=cut
writer.dmLevel=loud
rms=1
log=0
writer.levelconf.growDyn=1
writer.levelconf.isRb=0
[mean:cFunctionals]
reader.dmLevel=loud
writer.dmLevel=features
frameMode=full
functionalsEnabled=Means
Means.amean=1
Means.absmean=0
Means.qmean=0
Means.nzamean=0
Means.nzabsmean=0
Means.nzqmean=0
Means.nzgmean=0
Means.nnz=0
"""


def test_a_configuration_of_ones_own(tmp_path, sound):
    (tmp_path / "own.conf").write_text(OWN)
    (tmp_path / "own_parts.inc").write_text(PARTS)
    given = {"feature_set": str(tmp_path / "own.conf"), "n_workers": 1}
    encoder = make(**given, sink_level="features")
    assert (encoder.name, encoder.dim) == ("opensmile-own", 1)
    energies = np.sqrt(((sound.reshape(-1, 320).astype(np.float64)) ** 2).mean(1))
    assert encoder.encode([sound])[0][0] == pytest.approx(energies.mean(), rel=1e-3)
    frames = make(**given, level="frame", sink_level="loud", frame_shift_s=0.02)
    assert (frames.name, frames.frame_shift_s) == ("opensmile-own-frames", 0.02)
    np.testing.assert_allclose(frames.encode([sound])[0][:, 0], energies, rtol=1e-3)
    before = encoder.provenance()["config_sha256"]
    (tmp_path / "own_parts.inc").write_text(PARTS + "; other")
    assert encoder.provenance()["config_sha256"] != before


def test_provenance_names_version_and_licence(encoder):
    found = encoder.provenance()
    assert found["opensmile"] == opensmile.__version__
    assert "research and teaching only" in found["licence"]
    assert found["feature_set"] == "IS09"


def test_without_the_package_the_extra_and_the_licence_are_named(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(
        PluginError, match=r"pip install '\./plugins/repkit-baselines\[opensmile\]' \(audEERING Research License"
    ):
        make(**IS09)
