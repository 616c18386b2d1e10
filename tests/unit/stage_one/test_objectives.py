"""Objectives of stage one against numbers worked out by hand or by numpy, and their refusals."""

import math

import numpy as np
import pytest
import torch
from torch import nn

from repkit.api import EncoderStates, PretrainBatch, PretrainTask, UsageError
from repkit.stage_one.gru_autoencoder import GruAutoencoder
from repkit.stage_one.objectives.apc import Apc
from repkit.stage_one.objectives.blind_decoder import BlindDecoder
from repkit.stage_one.objectives.cpc import Cpc
from repkit.stage_one.objectives.crop_functionals import CropFunctionals
from repkit.stage_one.objectives.masked_spans import MaskedSpans
from repkit.stage_one.objectives.parts import Constants, masked_mean
from repkit.stage_one.objectives.prosody_contours import ProsodyContours
from repkit.stage_one.objectives.reconstruction import Reconstruction

JUNK = 99.0


def task(columns=("mel_000",), hidden=1, vector=1, **more):
    return PretrainTask(tuple(columns), 0.04, (hidden,), vector, **more)


def batch(rows, voiced=None):
    """Pad rows of (T, F) values with zeros."""
    lengths = torch.tensor([len(row) for row in rows])
    frames = nn.utils.rnn.pad_sequence([torch.tensor(row, dtype=torch.float32) for row in rows], batch_first=True)
    if voiced is not None:
        voiced = nn.utils.rnn.pad_sequence([torch.tensor(row) for row in voiced], batch_first=True)
    return PretrainBatch(frames, lengths, voiced)


def states_of(rows, vector=None, frames=None):
    """Pad rows of (T, H) values with nonsense."""
    layer = nn.utils.rnn.pad_sequence(
        [torch.tensor(row, dtype=torch.float32) for row in rows], batch_first=True, padding_value=JUNK
    )
    return EncoderStates((layer,), vector if vector is not None else torch.zeros(len(rows), 1), frames)


def fill(linear, weight, bias=0.0):
    with torch.no_grad():
        linear.weight.copy_(torch.as_tensor(weight, dtype=torch.float32).expand_as(linear.weight))
        if linear.bias is not None:
            linear.bias.fill_(bias)


def test_a_mean_over_valid_frames_has_a_gradient_even_where_there_are_none():
    values = torch.tensor([[1.0, 5.0, math.nan]], requires_grad=True)
    assert masked_mean(values, torch.tensor([[True, True, False]])).item() == 3.0
    nothing = masked_mean(values, torch.zeros(1, 3, dtype=torch.bool))
    nothing.backward()
    assert nothing.item() == 0.0
    assert values.grad.tolist() == [[0.0, 0.0, 0.0]]


def test_apc_by_hand():
    objective = Apc(Apc.Config(shift=2), task())
    fill(objective.head, 2.0, 1.0)  # predicts 2 s + 1
    given = batch([[[0], [1], [2], [3]], [[5], [6], [7]]])
    loss = objective(given, states_of([[[0.0], [1.0], [JUNK], [JUNK]], [[2.0], [JUNK], [JUNK]]]), 0.0)
    # |1 - 2|, |3 - 3| and |5 - 7|
    assert loss["l1"].item() == pytest.approx((1 + 0 + 2) / 3)
    short = objective(batch([[[0], [1]]]), states_of([[[0.0], [1.0]]]), 0.0)
    assert short["l1"].item() == 0.0


def contrastive(others=0, **more):
    """CPC whose latents are the frames themselves and whose prediction is the state."""
    objective = Cpc(
        Cpc.Config(steps=(3,), size=2, temperature=1.0, others=others, **more), task(("mel_000", "mel_001"), 2)
    )
    objective.local = nn.Identity()
    fill(objective.predictions[0], torch.eye(2))
    return objective


def test_cpc_by_hand():
    x, y = [1.0, 0.0], [0.0, 1.0]
    # candidates of the one prediction: cosines 1, 0, 0 and, of the true frame, 1
    loss = contrastive()(batch([[x, y, y, x]]), states_of([[x, y, y, y]]), 0.0)["infonce"].item()
    assert loss == pytest.approx(math.log(2 + 2 / math.e))
    # a second, longer utterance of its own: two predictions, cosines 1, 0, 1, 0, 0 and 0, 1, 0, 1, 1 (scaled by anything)
    both = batch([[x, y, y, x], [x, y, x, y, [0.0, 7.0]]])
    states = states_of([[x, y, y, y], [[3.0, 0.0], y, y, y, y]])
    first = -math.log(1 / (2 * math.e + 3))
    second = -math.log(math.e / (3 * math.e + 2))
    expected = (math.log(2 + 2 / math.e) + first + second) / 3
    assert contrastive()(both, states, 0.0)["infonce"].item() == pytest.approx(expected)


def test_cpc_takes_further_negatives_from_other_utterances_only():
    x, y = [1.0, 0.0], [0.0, 1.0]
    objective = contrastive(others=5).eval()  # evenly spread over five valid frames: each once
    given = batch([[x, y, y, x], [x]])
    loss = objective(given, states_of([[x, y, y, y], [x]]), 0.0)["infonce"].item()
    # own: e, 1, 1, e; of the other utterance: e
    assert loss == pytest.approx(-math.log(math.e / (3 * math.e + 2)))


def test_cpc_refuses_steps_that_leak():
    with pytest.raises(UsageError, match=r"step 2 is 0.080 s ahead.*least_s = 0.12"):
        Cpc(Cpc.Config(steps=(2, 6)), task())
    Cpc(Cpc.Config(steps=(2, 6), least_s=0.05), task())
    with pytest.raises(UsageError, match="bidirectional"):
        Cpc(Cpc.Config(), task(bidirectional=True))
    with pytest.raises(UsageError, match="bidirectional"):
        Apc(Apc.Config(), task(bidirectional=True))
    MaskedSpans(MaskedSpans.Config(), task(bidirectional=True))


def test_spans_are_hidden_and_only_they_count():
    objective = MaskedSpans(MaskedSpans.Config(share=0.2, span=3), task(("mel_000", "energy")))
    frames = 1 + torch.rand(40, 60, 2)
    lengths = torch.tensor([60] * 39 + [2])
    frames[39, 2:] = 0
    heard = objective.corrupt(frames, lengths, torch.Generator().manual_seed(0))
    hidden = (heard == 0).all(-1) & (torch.arange(60) < lengths[:, None])
    assert ((heard == frames) | hidden[..., None]).all()
    assert 0.1 < hidden[:39].float().mean() < 0.3
    assert hidden[39].sum() >= 1
    runs = "".join("x" if h else "." for h in hidden[0].tolist()).replace(".", " ").split()
    assert min(map(len, runs)) >= 3 or hidden[0, -1]  # a span may run over the end
    fill(objective.head, 0.0, 0.5)
    given = batch([[[1, 0], [2, 0], [3, 0]], [[4, 0]]])
    read = given.frames.clone()
    read[0, 1] = 0.0
    read[1, 0] = 0.0
    loss = objective(given, states_of([[[0.0]] * 3, [[0.0]]], frames=read), 0.0)["l1"].item()
    assert loss == pytest.approx((1.5 + 3.5) / 2)


def test_a_blind_decoder_hears_the_vector_alone():
    torch.manual_seed(0)
    objective = BlindDecoder(BlindDecoder.Config(hidden_size=4), task(vector=3))
    given = batch([[[1], [2], [3]], [[4]]])
    states = states_of([[[0.0]] * 3, [[0.0]]], vector=torch.randn(2, 3, requires_grad=True))
    objective(given, states, 0.0)["mse"].backward()
    assert (states.vector.grad != 0).all()
    fill(objective.exit, 0.0, 1.0)
    assert objective(given, states, 0.0)["mse"].item() == pytest.approx((0 + 1 + 4 + 9) / 4)


@pytest.mark.parametrize("decoder", ["bidirectional", "unidirectional", "no_leak", "blind"])
def test_reconstruction_is_the_decoding_of_the_autoencoder(decoder):
    torch.manual_seed(0)
    config = Reconstruction.Config(decoder=decoder, hidden_size=5, bounded=True)
    objective = Reconstruction(config, task(("mel_000", "mel_001", "energy"), vector=4)).eval()
    whole = GruAutoencoder(objective.config).eval()
    loaded = whole.load_state_dict(
        {k: v for k, v in objective.state_dict().items() if not k.startswith("bridge")}, strict=False
    )
    assert not loaded.unexpected_keys
    given = batch([np.random.default_rng(0).uniform(-1, 1, (n, 3)) for n in (6, 4)])
    states = states_of([[[0.0]] * 6, [[0.0]] * 4], vector=torch.randn(2, 4))
    expected = whole(
        given.frames[..., :2].contiguous(), given.lengths, torch.tanh(objective.bridge(states.vector))
    ).loss.item()
    assert objective(given, states, 0.0)["rmse"].item() == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize(
    ("decoder", "stacks"), [("bidirectional", []), ("no_leak", ["backward"]), ("blind", ["forward", "backward"])]
)
def test_weights_that_only_ever_meet_zeros_are_not_trained(decoder, stacks):
    """What is frozen would have got a gradient of zero, and nothing else would."""
    torch.manual_seed(0)
    config = Reconstruction.Config(decoder=decoder, hidden_size=5, dropout=0.0)
    objective = Reconstruction(config, task(("mel_000", "mel_001"), vector=4))
    frozen = {name for name, p in objective.named_parameters() if not p.requires_grad}
    assert frozen == {f"{stack}_decoder.layers.0.weight_ih_l0" for stack in stacks}
    objective.requires_grad_(True)
    given = batch([np.random.default_rng(0).uniform(-1, 1, (n, 2)) for n in (6, 4)])
    objective(given, states_of([[[0.0]] * 6, [[0.0]] * 4], vector=torch.randn(2, 4)), 0.0)["rmse"].backward()
    assert {name for name, p in objective.named_parameters() if not p.grad.any()} == frozen


def test_reconstruction_by_hand():
    objective = Reconstruction(Reconstruction.Config(hidden_size=2, dropout=0.0), task(vector=2))
    fill(objective.output, 0.0, 2.0)
    loss = objective(batch([[[1], [2], [5]], [[2]]]), states_of([[[0.0]] * 3, [[0.0]]], torch.zeros(2, 2)), 0.0)
    assert loss["rmse"].item() == pytest.approx(math.sqrt((1 + 0 + 9 + 0) / 4))  # 2 without tanh


def test_prosody_contours_by_hand():
    objective = ProsodyContours(ProsodyContours.Config(ahead=2), task(("mel_000", "log_f0", "energy")))
    fill(objective.head, 0.0)
    rows = [[[0, 1, 2], [0, 3, 4], [0, 5, 8], [0, 7, 16]], [[0, 9, 1], [0, 9, 1]]]
    given = batch(rows, [[True, True, True, False], [False, False]])
    losses = {k: v.item() for k, v in objective(given, states_of([[[0.0]] * 4, [[0.0]] * 2]), 0.0).items()}
    # F0 over voiced frames: now 1, 3, 5; two frames ahead 5
    assert losses["log_f0"] == pytest.approx((3 + 5) / 2)
    # energy over all: now 2, 4, 8, 16, 1, 1; ahead 8, 16
    assert losses["energy"] == pytest.approx((32 / 6 + 24 / 2) / 2)
    # slopes: F0 at frame 1 alone (its neighbours are voiced), (5 - 1) / 2; energy at frames 1 and 2; ahead of 0 lies frame 2
    now = (2 + (3 + 6) / 2) / 2
    ahead = (0 + 6) / 2
    assert losses["slopes"] == pytest.approx((now + ahead) / 2)
    assert losses.keys() == {"log_f0", "energy", "slopes"}


def test_prosody_needs_a_frontend_that_makes_it():
    with pytest.raises(UsageError, match=r"no column log_f0, voicing, energy, tilt.*affect"):
        ProsodyContours(ProsodyContours.Config(), task())


def test_slopes_are_standardised_by_what_was_measured():
    objective = ProsodyContours(ProsodyContours.Config(ahead=0), task(("energy",)))
    rows = [[[0], [1], [4], [9], [16]], [[3], [3]]]  # slopes 2, 4, 6 and none
    objective.calibrate(iter([batch(rows)]))
    assert objective.slopes.mean.item() == pytest.approx(4)
    assert objective.slopes.deviation.item() == pytest.approx(math.sqrt(8 / 3))


def test_functionals_are_those_of_numpy():
    random = np.random.default_rng(0)
    columns = ("mel_000", "mel_001", "log_f0", "energy", "voiced")
    objective = CropFunctionals(CropFunctionals.Config(percentiles=(0.0, 30.0, 100.0)), task(columns, vector=2))
    rows = [random.normal(size=(n, 5)).astype(np.float32) for n in (17, 9, 2)]
    voiced = [random.random(17) < 0.6, np.array([False, True, True] * 3), np.array([True, False])]
    found, counted = objective.functionals(batch(rows, voiced))
    assert found.shape == (3, 4, 6)  # two bands, F0 and energy
    for row, said, values in zip(rows, voiced, found.numpy(), strict=True):
        for place, column in enumerate((0, 1, 2, 3)):
            which = np.flatnonzero(said) if column == 2 else np.arange(len(row))
            if len(which) < 2:
                continue
            x = row[which, column]
            steps = [abs(b - a) for i, j, a, b in zip(which, which[1:], x, x[1:], strict=False) if j == i + 1]
            expected = [x.mean(), x.std(), np.mean(steps), *np.percentile(x, [0, 30, 100])]
            np.testing.assert_allclose(values[place], expected, atol=1e-5)
    assert not counted[2, 2].any()  # one voiced frame
    assert counted[[0, 1]].all()


def test_the_loss_of_functionals_by_hand():
    objective = CropFunctionals(CropFunctionals.Config(percentiles=(50.0,)), task(("mel_000", "energy"), vector=1))
    rows = [
        [[0, 1], [2, 1]],
        [[4, 3], [8, 3]],
    ]  # means 1 and 6, deviations 1 and 2, differences 2 and 4, medians 1 and 6
    objective.calibrate([batch(rows)])
    np.testing.assert_allclose(objective.constants.mean.view(2, 4)[0], [3.5, 1.5, 3.0, 3.5])
    np.testing.assert_allclose(objective.constants.deviation.view(2, 4), [[2.5, 0.5, 1.0, 2.5], [1, 1, 1, 1]])
    fill(objective.head, 0.0)
    losses = objective(batch(rows), states_of([[[0.0]] * 2] * 2), 0.0)
    assert losses["mel"].item() == pytest.approx(1.0)  # two values standardised are -1 and 1
    assert losses["prosody"].item() == pytest.approx((1 + 0 + 0 + 1) / 4)


def test_constants_forget_and_guard():
    constants = Constants(2)
    constants.add(torch.tensor([[1.0, 5.0], [3.0, 7.0]]), torch.tensor([[True, False], [True, False]]))
    constants.close()
    assert constants.mean.tolist() == [2.0, 0.0]
    assert constants.deviation.tolist() == [1.0, 1.0]
    constants.add(torch.tensor([[4.0, 4.0]]), torch.ones(1, 2, dtype=torch.bool))
    constants.close()
    assert constants.mean.tolist() == [4.0, 4.0]
    assert constants(torch.tensor([100.0, 4.5])).tolist() == [10.0, 0.5]
