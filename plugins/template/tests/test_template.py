"""Each component against the conformance kit of repkit, and against numbers worked out by other means."""

import numpy as np
import pytest
import torch
from repkit import api
from repkit.testing import conformance_tests

from repkit_template.corpus import Tones
from repkit_template.encoder import Loudness
from repkit_template.frontend import BandEnergies
from repkit_template.model import StatisticsPooling
from repkit_template.objective import SmoothedCrossEntropy
from repkit_template.pretraining import LevelMovement
from repkit_template.protocol import LeaveOneGenderOut
from repkit_template.recipes import TEMPLATE

test_corpus = conformance_tests("repkit.corpora", Tones)
test_frontend = conformance_tests("repkit.frontends", BandEnergies)
test_encoder = conformance_tests("repkit.encoders", Loudness)
test_pretraining = conformance_tests("repkit.pretraining", LevelMovement)
test_model = conformance_tests("repkit.models", StatisticsPooling)
test_objective = conformance_tests("repkit.objectives", SmoothedCrossEntropy)
test_protocol = conformance_tests("repkit.protocols", LeaveOneGenderOut)
test_recipe = conformance_tests("repkit.recipes", TEMPLATE)


def test_a_louder_mood_is_louder():
    corpus = Tones(Tones.Config(name="toy", n_speakers=2))
    level = {u.emotion: float(np.square(sound).mean()) for u, sound in corpus.stream()}
    assert level["anger"] == pytest.approx(0.5**2 * (1 / 12 + 0.2**2), rel=0.02)  # a sawtooth and noise
    assert level["anger"] > level["neutral"] > level["sadness"]


@pytest.mark.parametrize("hz", [150.0, 1000.0, 5000.0])
def test_a_pure_tone_is_loudest_in_its_band(hz):
    frontend = BandEnergies(BandEnergies.Config(bands=8))
    tone = torch.sin(2 * torch.pi * hz * torch.arange(1600) / 16000)[None]
    frames, counts = frontend(tone, torch.tensor([1600]))
    band = int(8 * np.log(hz / 100) / np.log(80))  # equally wide in the logarithm, from 100 Hz to 8 kHz
    assert counts.tolist() == [8]  # 1 + (1600 - 400) // 160
    assert frames[0].argmax(dim=1).tolist() == [band] * 8


def test_levels_are_in_decibels():
    sound = np.concatenate([np.full(400, 0.1), np.full(400, 0.01)]).astype(np.float32)  # -20 and -40 dB
    (vector,) = Loudness(Loudness.Config()).encode([sound])
    np.testing.assert_allclose(vector, [-30.0, 10.0], atol=1e-3)


def test_pooling_is_mean_and_deviation():
    task = api.TaskSpec(views={"emotion": ("anger", "neutral")}, n_bands=1)
    model = StatisticsPooling(StatisticsPooling.Config(hidden=2), task).eval()
    with torch.no_grad():
        model.hidden.weight.copy_(torch.eye(2))
        model.hidden.bias.zero_()
    frames = torch.tensor([[[1.0], [3.0], [0.0]]])  # the third is padding
    outputs = model(api.Batch(["a"], frames, torch.tensor([2]), {}))
    torch.testing.assert_close(outputs.shared, torch.tensor([[2.0, 1.0]]))


def test_the_movement_of_the_level_is_its_deviation():
    task = api.PretrainTask(columns=("mel_000", "mel_001"), frame_shift_s=0.04, layer_sizes=(2,), vector_dim=2)
    objective = LevelMovement(LevelMovement.Config(warm_up=0.0), task)
    frames = torch.tensor([[[1.0, 3.0], [5.0, 7.0], [0.0, 0.0]], [[1.0, 1.0], [1.0, 1.0], [4.0, 4.0]]])
    batch = api.PretrainBatch(frames, torch.tensor([2, 3]))  # levels 2, 6 and 1, 1, 4: deviations 2 and sqrt(2)
    objective.calibrate([batch])
    assert objective.mean.item() == pytest.approx((2 + 2**0.5) / 2)
    torch.nn.init.zeros_(objective.head.weight)
    torch.nn.init.zeros_(objective.head.bias)
    states = api.EncoderStates((torch.zeros(2, 3, 2),), torch.zeros(2, 2), frames)
    (loss,) = objective(batch, states, 1.0).values()
    assert loss.item() == pytest.approx(1.0)  # two targets, standardised, are -1 and 1


def test_the_loss_is_that_of_torch_and_masks_what_is_missing():
    task = api.TaskSpec(views={"emotion": ("anger", "fear", "neutral")}, n_bands=1)
    objective = SmoothedCrossEntropy(SmoothedCrossEntropy.Config(smoothing=0.2), task)
    logits = torch.tensor([[2.0, 0.5, -1.0], [0.0, 1.0, 3.0], [9.0, 9.0, 9.0]])
    target = torch.tensor([0, 1, api.MISSING])
    batch = api.Batch(["a", "b", "c"], torch.zeros(3, 1, 1), torch.ones(3, dtype=torch.int64), {"emotion": target})
    (loss,) = objective(api.Outputs({"emotion": logits}, torch.zeros(3, 1)), batch, 0.0).values()
    torch.testing.assert_close(loss, torch.nn.functional.cross_entropy(logits, target, label_smoothing=0.2))
    without_third = torch.cat([logits[:, :2], torch.full((3, 1), -1e30)], dim=1)  # a class the corpus lacks
    (loss,) = objective(api.Outputs({"emotion": without_third}, torch.zeros(3, 1)), batch, 0.0).values()
    torch.testing.assert_close(loss, torch.nn.functional.cross_entropy(logits[:, :2], target, label_smoothing=0.2))


def test_each_gender_is_tested_once_and_by_whole_speakers():
    utterances = Tones(Tones.Config(n_speakers=6)).utterances()
    female, male = LeaveOneGenderOut(LeaveOneGenderOut.Config(n_dev_speakers=1)).folds(utterances[::-1])
    speakers = {u.id: u.speaker for u in utterances}
    assert {speakers[i] for i in female.test} == {"tones/0", "tones/2", "tones/4"}
    assert {speakers[i] for i in male.test} == {"tones/1", "tones/3", "tones/5"}
    assert len({speakers[i] for i in male.dev}) == 1
    assert len({speakers[i] for i in male.train}) == 2
    with pytest.raises(api.DataError, match=r"genders \['female'\]"):
        LeaveOneGenderOut(LeaveOneGenderOut.Config()).folds([u for u in utterances if u.gender == "female"])
