"""The autoencoder: sizes, order of states, what the decoder sees, the loss by hand, and padding."""

import math

import numpy as np
import pytest
import torch
from transformers import AutoConfig, AutoModel

from repkit.errors import BadAudioError, UsageError
from repkit.stage_one.gru_autoencoder import DECODERS, GruAutoencoder, GruAutoencoderConfig
from repkit.stage_one.recurrent import pad

SPECTROGRAM = {"name": "spectrogram", "settings": {"bands": 12, "fixed_length_s": None}}


def tiny(**settings):
    torch.manual_seed(0)
    settings = {"n_bands": 5, "hidden_size": 6, "dropout": 0.0} | settings
    return GruAutoencoder(GruAutoencoderConfig(**settings)).eval()


def speech(n, longest=9, bands=5, seed=0):
    """n sequences of different lengths, padded; the padding is zero."""
    generator = torch.Generator().manual_seed(seed)
    lengths = torch.randint(2, longest + 1, (n,), generator=generator)
    lengths[0] = longest
    frames = torch.rand(n, longest, bands, generator=generator) * 2 - 1
    frames *= (torch.arange(longest)[None] < lengths[:, None])[..., None]
    return frames, lengths


def test_parameter_counts_of_the_paper():
    model = GruAutoencoder(GruAutoencoderConfig())
    counts = {name: sum(p.numel() for p in part.parameters()) for name, part in model.named_children()}
    # PyTorch's GRU has two bias vectors of 3 x 256 per cell, TensorFlow's one: 768 more for each of two layers
    second_bias = 2 * 3 * 256
    assert counts["encoder"] - second_bias == 689_664
    assert counts["forward_decoder"] + counts["backward_decoder"] - 2 * second_bias == 1_379_328
    assert counts["bridge"] == 525_312
    assert counts["output"] == 65_664
    assert sum(counts.values()) - 3 * second_bias == 2_659_968
    assert model.config.representation_size == 1024


@pytest.mark.parametrize(
    ("settings", "size"),
    [
        ({"decoder": "unidirectional"}, 512),
        ({"decoder": "blind"}, 1024),
        ({"cell": "lstm"}, 2048),
        ({"cell": "lstm", "decoder": "unidirectional", "n_layers": 1}, 512),
    ],
)
def test_representation_sizes(settings, size):
    config = GruAutoencoderConfig(**settings)
    assert config.representation_size == size
    model = GruAutoencoder(config)
    assert model.bridge.out_features == size
    assert model.bridge.in_features == config.n_layers * config.state_size
    assert model.encode(torch.zeros(1, 2, 128))[0].shape == (1, size)


def test_paper_initialisation_of_linear_layers():
    model = GruAutoencoder(GruAutoencoderConfig())
    assert model.bridge.bias.abs().max().item() == pytest.approx(math.sqrt(3 / 1024), rel=0.01)
    assert model.bridge.weight.abs().max().item() == pytest.approx(math.sqrt(6 / (512 + 1024)), rel=1e-3)
    assert model.output.bias.abs().max().item() == pytest.approx(math.sqrt(3 / 128), rel=0.05)


@pytest.mark.parametrize("cell", ["gru", "lstm"])
def test_vector_is_split_layer_by_layer_forward_before_backward(cell, monkeypatch):
    model = tiny(cell=cell)
    size = model.config.state_size
    seen = {}
    for name in ("forward_decoder", "backward_decoder"):
        stack = getattr(model, name)
        real = stack.forward
        monkeypatch.setattr(
            stack, "forward", lambda x, s, name=name, real=real: seen.__setitem__(name, (x, s)) or real(x, s)
        )
    frames = torch.arange(1.0, 5)[None, :, None].expand(1, 4, 5)  # frame t holds t + 1
    model.decode(torch.arange(4.0 * size)[None], frames)
    states = {name: [int(s[0, 0]) // size for s in found[1]] for name, found in seen.items()}
    assert states == {"forward_decoder": [0, 2], "backward_decoder": [1, 3]}
    # target 4 3 2 1; delayed 0 4 3 2; the backward direction reads that from its end: 2 3 4 0
    assert seen["forward_decoder"][0][:, 0, 0].tolist() == [0, 4, 3, 2]
    assert seen["backward_decoder"][0][:, 0, 0].tolist() == [2, 3, 4, 0]


def test_decoder_inputs_with_padding(monkeypatch):
    model = tiny()
    seen = {}
    for name in ("forward_decoder", "backward_decoder"):
        stack = getattr(model, name)
        real = stack.forward
        monkeypatch.setattr(
            stack, "forward", lambda x, s, name=name, real=real: seen.__setitem__(name, x[..., 0].T) or real(x, s)
        )
    frames = torch.tensor([[1.0, 2, 3, 4], [5, 6, 7, 0]])[..., None].expand(2, 4, 5)
    model.decode(torch.zeros(2, 24), frames, torch.tensor([4, 3]))
    assert seen["forward_decoder"].tolist() == [[0, 4, 3, 2], [0, 7, 6, 5]]
    assert seen["backward_decoder"][0].tolist() == [2, 3, 4, 0]
    assert seen["backward_decoder"][1, :3].tolist() == [6, 7, 0]


def influence(model, frames):
    """(T, T) bool: whether reconstructed frame i depends on true frame j of the target (both reversed in time)."""
    vector = torch.zeros(1, model.config.representation_size)
    n = frames.shape[1]
    base = model.decode(vector, frames)[0]
    found = torch.zeros(n, n, dtype=torch.bool)
    for j in range(n):
        changed = frames.clone()
        changed[0, n - 1 - j] += 0.5
        found[:, j] = (model.decode(vector, changed)[0] - base).abs().amax(-1) > 1e-7
    return found


def test_what_each_decoder_can_see():
    frames, _ = speech(1, 5)
    before = torch.ones(5, 5, dtype=torch.bool).tril(-1)
    bidirectional = influence(tiny(decoder="bidirectional"), frames)
    # the faithful decoder reads target t before it reconstructs it; only the last frame is never an input
    assert bidirectional.diagonal()[:-1].all()
    assert bidirectional[:, :-1].all()
    assert torch.equal(influence(tiny(decoder="unidirectional"), frames), before)
    assert torch.equal(influence(tiny(decoder="no_leak"), frames), before)
    assert not influence(tiny(decoder="blind"), frames).any()


def test_no_leak_drops_whole_frames_in_training_only(monkeypatch):
    model = tiny(decoder="no_leak", decoder_frame_dropout=0.5)
    seen = []
    real = model.forward_decoder.forward
    monkeypatch.setattr(model.forward_decoder, "forward", lambda x, s: seen.append(x) or real(x, s))
    frames = torch.ones(40, 50, 5)
    vector = torch.zeros(40, model.config.representation_size)
    model.decode(vector, frames)
    model.train()
    model.decode(vector, frames)
    assert torch.equal(seen[0][1:], torch.ones(49, 40, 5))
    dropped = seen[1][1:] == 0
    assert torch.equal(dropped.all(-1), dropped.any(-1))  # whole frames
    assert dropped.float().mean().item() == pytest.approx(0.5, abs=0.03)


def test_input_noise_zeroes_whole_time_steps_of_the_encoder_only(monkeypatch):
    model = tiny(input_noise=0.25).train()
    seen = {}
    for name in ("encoder", "forward_decoder"):
        stack = getattr(model, name)
        real = stack.forward
        monkeypatch.setattr(
            stack,
            "forward",
            lambda x, *a, name=name, real=real, **k: seen.__setitem__(name, x) or real(x, *a, **k),
        )
    model(torch.ones(40, 50, 5))
    zero = seen["encoder"] == 0
    assert torch.equal(zero.all(-1), zero.any(-1))
    assert zero.float().mean().item() == pytest.approx(0.25, abs=0.03)
    assert (seen["forward_decoder"][1:] == 1).all()
    model.eval()
    model(torch.ones(4, 5, 5))
    assert (seen["encoder"] == 1).all()


def constant(value, **settings):
    """A model whose reconstruction is tanh(value) everywhere."""
    model = tiny(**settings)
    with torch.no_grad():
        model.output.weight.zero_()
        model.output.bias.fill_(value)
    return model


def test_loss_is_one_root_over_the_valid_values_of_the_batch():
    model = constant(math.atanh(0.5), n_bands=2)
    frames = torch.tensor([[[0.5, 0.1], [-0.5, 0.9]], [[1.0, -1.0], [0.0, 0.0]]])
    out = model(frames, torch.tensor([2, 1]))
    # errors: 0 .4 1 .4 | .5 1.5, padding none: .16 + 1 + .16 + .25 + 2.25 = 3.82 over 6 values
    assert out.squared_error.item() == pytest.approx(3.82, abs=1e-5)
    assert out.n_values.item() == 6
    assert out.loss.item() == pytest.approx(math.sqrt(3.82 / 6), abs=1e-6)
    assert (out.reconstruction[1, 1] == 0).all()
    # all valid: the padded frame counts, .25 + .25 more over 8 values; not the mean of two roots
    assert model(frames).loss.item() == pytest.approx(math.sqrt(4.32 / 8), abs=1e-6)


def test_the_whole_model_in_plain_numpy():
    """Encoder, bridge, two independent decoder stacks, joined projection, root over the batch; float64, no torch."""
    model = tiny(n_bands=3, hidden_size=4)
    p = {name: tensor.detach().double().numpy() for name, tensor in model.named_parameters()}

    def stack(name, x, states):
        for i, state in enumerate(states):
            w, u, b, c = (p[f"{name}.layers.{i}.{k}_l0"] for k in ("weight_ih", "weight_hh", "bias_ih", "bias_hh"))
            out = []
            for frame in x:
                g, r = np.split(w @ frame + b, 3), np.split(u @ state + c, 3)
                reset, update = 1 / (1 + np.exp(-g[0] - r[0])), 1 / (1 + np.exp(-g[1] - r[1]))
                state = update * state + (1 - update) * np.tanh(g[2] + reset * r[2])
                out.append(state)
            x = np.stack(out)
            yield x

    squared = n_values = 0.0
    utterances = [np.tanh(np.random.default_rng(n).normal(size=(n, 3))) for n in (5, 3)]
    for x in utterances:
        finals = [layer[-1] for layer in stack("encoder", x, [np.zeros(4)] * 2)]
        vector = np.tanh(p["bridge.weight"] @ np.concatenate(finals) + p["bridge.bias"])
        l1fw, l1bw, l2fw, l2bw = np.split(vector, 4)
        target = x[::-1]
        fed = np.concatenate([np.zeros((1, 3)), target[:-1]])
        *_, forwards = stack("forward_decoder", fed, [l1fw, l2fw])
        *_, backwards = stack("backward_decoder", fed[::-1], [l1bw, l2bw])
        joined = np.concatenate([forwards, backwards[::-1]], axis=1)
        reconstruction = np.tanh(joined @ p["output.weight"].T + p["output.bias"])
        squared += ((target - reconstruction) ** 2).sum()
        n_values += x.size
    frames, lengths = pad(utterances)
    assert model(frames, lengths).loss.item() == pytest.approx(math.sqrt(squared / n_values), rel=1e-5)


def test_mask_silence_makes_minus_one_count_nothing():
    frames = torch.tensor([[[0.5, -1.0], [-1.0, 0.9]]])
    model = constant(math.atanh(0.5), n_bands=2, mask_silence=True)
    assert model(frames).loss.item() == pytest.approx(math.sqrt(0.16 / 4), abs=1e-6)  # the mean stays over 4 values
    assert constant(math.atanh(0.5), n_bands=2)(frames).loss.item() == pytest.approx(math.sqrt((0.16 + 4.5) / 4))


def test_target_is_reversed_in_time():
    model = constant(0.0, n_bands=1)
    model.decode = lambda *a: torch.tensor([[[0.3], [0.2], [0.1]]])
    frames = torch.tensor([[[0.1], [0.2], [0.3]]])
    assert model(frames).loss.item() == pytest.approx(0.0, abs=1e-7)


@pytest.mark.parametrize("cell", ["gru", "lstm"])
@pytest.mark.parametrize("decoder", DECODERS)
def test_padding_changes_nothing(cell, decoder):
    model = tiny(cell=cell, decoder=decoder)
    frames, lengths = speech(6)
    together = model(frames, lengths)
    alone = [model(f[None, :n], torch.tensor([n])) for f, n in zip(frames, lengths.tolist())]
    assert together.squared_error.item() == pytest.approx(sum(a.squared_error.item() for a in alone), rel=1e-5)
    for row, one, n in zip(range(6), alone, lengths.tolist()):
        torch.testing.assert_close(together.representation[row], one.representation[0], atol=1e-6, rtol=0)
        torch.testing.assert_close(together.reconstruction[row, :n], one.reconstruction[0], atol=1e-6, rtol=0)
    # and what stands in the padding is never read
    dirty = frames + 7.0 * (torch.arange(9)[None] >= lengths[:, None])[..., None]
    assert model(dirty, lengths).squared_error.item() == pytest.approx(together.squared_error.item(), rel=1e-6)


def test_feed_previous_against_a_loop_by_hand():
    model = tiny(decoder="unidirectional", feed_previous_probability=1.0, n_layers=1)
    frames, _ = speech(2, 4)
    vector = torch.randn(2, 6, generator=torch.Generator().manual_seed(3))
    model.train()
    found = model.decode(vector, frames)
    layer = model.forward_decoder.layers[0]
    state, fed, wanted = vector[None], torch.zeros(1, 2, 5), []
    for _ in range(4):
        _, state = layer(fed, state)
        fed = torch.tanh(state @ model.feedback.weight.T + model.feedback.bias)
        wanted.append(torch.tanh(fed[0] @ model.output.weight.T + model.output.bias))
    torch.testing.assert_close(found, torch.stack(wanted, 1))
    model.eval()  # evaluation feeds the truth
    assert not torch.allclose(model.decode(vector, frames)[:, 2:], found[:, 2:])


def test_teacher_forced_unidirectional_equals_its_step_by_step_form():
    model = tiny(decoder="unidirectional")
    frames, _ = speech(2, 4)
    vector = torch.zeros(2, model.config.representation_size)
    whole = model.decode(vector, frames)
    model.config.feed_previous_probability = 1e-12
    model.train()
    torch.testing.assert_close(model.decode(vector, frames), whole)


@pytest.mark.parametrize("cell", ["gru", "lstm"])
@pytest.mark.parametrize("kind", ["representation", "states", "pooled", "sequence"])
def test_an_utterance_alone_equals_itself_in_a_batch_of_32(cell, kind):
    model = tiny(cell=cell, n_bands=12, hidden_size=16, frontend=SPECTROGRAM)
    random = np.random.default_rng(0)
    waveforms = [random.normal(0, 0.1, n).astype(np.float32) for n in random.integers(2000, 30000, 32)]
    batch = model.encode_waveforms(waveforms, kind, batch_size=32)
    for waveform, wanted in zip(waveforms, batch):
        (alone,) = model.encode_waveforms([waveform], kind)
        assert alone.dtype == np.float32
        assert alone.shape == wanted.shape
        np.testing.assert_allclose(alone, wanted, atol=1e-5)
    assert np.ptp(np.stack([b.ravel()[:16] for b in batch]), axis=0).max() > 1e-3  # and they are not all the same


def test_readouts_by_hand():
    model = tiny(n_bands=12, frontend=SPECTROGRAM)
    waveform = np.random.default_rng(0).normal(0, 0.1, 8000).astype(np.float32)
    frames, counts = model.frontend(torch.from_numpy(waveform)[None], torch.tensor([8000]))
    frames = frames[:, : counts[0]]
    _, states, sequences = model.encode(frames)
    both = torch.cat([s[0] for s in sequences], -1).detach().double().numpy()
    pooled = np.concatenate([both.mean(0), both.std(0)])
    np.testing.assert_allclose(model.encode_waveforms([waveform], "pooled")[0], pooled, atol=1e-6)
    np.testing.assert_allclose(model.encode_waveforms([waveform], "sequence")[0], both[:, 6:], atol=1e-6)
    np.testing.assert_allclose(model.encode_waveforms([waveform], "states")[0], both[-1], atol=1e-6)
    with torch.no_grad():
        vector = torch.tanh(model.bridge(states))[0].numpy()
    np.testing.assert_allclose(model.encode_waveforms([waveform])[0], vector, atol=1e-6)


def test_saved_with_its_frontend_and_loaded_in_two_lines(tmp_path):
    provenance = {"corpora": [{"name": "x"}], "speakers": ["x/1"]}
    model = tiny(n_bands=12, decoder="blind", frontend=SPECTROGRAM, provenance=provenance)
    waveform = np.random.default_rng(0).normal(0, 0.1, 8000).astype(np.float32)
    before = model.encode_waveforms([waveform])
    model.save_pretrained(tmp_path)
    assert (tmp_path / "model.safetensors").exists()

    loaded = GruAutoencoder.from_pretrained(tmp_path)
    vectors = loaded.encode_waveforms([waveform])

    assert not loaded.training
    assert all(torch.equal(a, b) for a, b in zip(model.state_dict().values(), loaded.state_dict().values()))
    np.testing.assert_array_equal(vectors, before)
    assert loaded.config.provenance == provenance
    assert isinstance(AutoModel.from_pretrained(tmp_path), GruAutoencoder)
    assert AutoConfig.from_pretrained(tmp_path).decoder == "blind"


def test_without_a_frontend_waveforms_are_refused():
    with pytest.raises(UsageError, match=r"names no frontend.*pretrain-ae"):
        tiny().encode_waveforms([np.zeros(8000, np.float32)])


def test_too_short_for_a_frame():
    with pytest.raises(BadAudioError, match="waveform 0 of 1.*0.006 s are too short"):
        tiny(n_bands=12, frontend=SPECTROGRAM).encode_waveforms([np.ones(100, np.float32)])


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"decoder": "leaky"}, "decoder: got 'leaky'; expected one of bidirectional"),
        ({"cell": "rnn"}, "cell: got 'rnn'"),
        ({"init": "keras"}, "init: got 'keras'"),
        ({"feed_previous_probability": 0.5}, "only decoder = 'unidirectional'"),
    ],
)
def test_wrong_settings(settings, message):
    with pytest.raises(UsageError, match=message):
        GruAutoencoderConfig(**settings)


@pytest.mark.parametrize("decoder", ["bidirectional", "blind", "unidirectional", "no_leak"])
def test_every_parameter_gets_a_gradient(decoder):
    model = tiny(decoder=decoder).train()  # under several processes an unused parameter would stop the run
    frames, lengths = speech(3)
    model(frames, lengths).loss.backward()
    assert all(p.grad is not None for p in model.parameters())
    assert all(p.grad.abs().sum() > 0 for n, p in model.named_parameters() if "weight" in n and "ih_l0" not in n)
