"""Blocks, groups of bands and emphasis by block against the definition, written out in double precision."""

import numpy as np
import pytest
import torch

from repkit.features.spectral import BandEnergies


def energies(signal, window, shift, n_fft, bank, power=2.0, emphasis=0.0):
    """Every frame by itself: emphasise the whole signal, cut, window, |DFT|^power, weighted sums."""
    x = signal.astype(np.float64)
    x = np.concatenate([x[:1], x[1:] - emphasis * x[:-1]])
    n_frames = 1 + (len(x) - len(window)) // shift
    frames = np.stack([x[n * shift : n * shift + len(window)] * window for n in range(n_frames)])
    bins = np.abs(np.fft.rfft(frames, n_fft)) ** power
    return bins if bank is None else bins @ bank


@pytest.mark.parametrize("n_bands", [1, 26, 32, 33, 80, 128, None])
@pytest.mark.parametrize(("power", "emphasis"), [(2.0, 0.0), (1.0, 0.95), (3.0, 0.5)])
def test_against_the_definition(n_bands, power, emphasis):
    random = np.random.default_rng(0)
    window, shift, n_fft = np.hamming(48), 16, 64  # no zero at its ends, where blocks meet
    signal = random.normal(size=16 * 4200).astype(np.float32)  # 2048 frames to a block
    bank = None
    if n_bands is not None:
        centres, bins = np.linspace(0, 32, n_bands)[None, :], np.arange(33)[:, None]
        bank = np.maximum(0, 1 - np.abs(bins - centres) / 1.5)  # each band reads three bins at most
        bank[:, n_bands // 2] = 0  # an empty band stays empty
    wanted = energies(signal, window, shift, n_fft, bank, power, emphasis)
    found = BandEnergies(window, shift, n_fft, bank, power, emphasis)(torch.from_numpy(signal), len(wanted))
    assert found.dtype == torch.float32
    # single precision: relative to the largest energy, as sums of squares of both signs cancel in the transform
    np.testing.assert_allclose(found.numpy(), wanted, rtol=2e-4, atol=2e-6 * np.abs(wanted).max())


def test_a_group_of_bands_that_read_nothing():
    bank = np.zeros((33, 40))
    bank[5, 35] = 2.0
    signal = np.random.default_rng(1).normal(size=400).astype(np.float32)
    found = BandEnergies(np.ones(64), 32, 64, bank)(torch.from_numpy(signal), 11).numpy()
    wanted = energies(signal, np.ones(64), 32, 64, bank)
    assert not found[:, :35].any()
    np.testing.assert_allclose(found, wanted, rtol=1e-4)


def test_few_frames_of_a_signal_that_holds_more():
    signal = torch.from_numpy(np.random.default_rng(2).normal(size=9000).astype(np.float32))
    compute = BandEnergies(np.hanning(48), 16, 64, None, emphasis=0.9)
    assert torch.equal(compute(signal, 7), compute(signal, 500)[:7])


def test_what_prepares_a_frame_sees_it_emphasised_and_before_the_window():
    seen = []

    def prepare(frames, out):
        seen.append(frames.clone())
        torch.mul(frames, 2.0, out=out)

    signal = np.random.default_rng(3).normal(size=64).astype(np.float32)
    found = BandEnergies(np.hanning(32), 16, 32, None, emphasis=0.5, prepare=prepare)(torch.from_numpy(signal), 3)
    emphasised = np.concatenate([signal[:1], signal[1:] - 0.5 * signal[:-1]])
    np.testing.assert_allclose(seen[0][2].numpy(), emphasised[32:64], rtol=1e-6, atol=1e-7)
    wanted = 4.0 * energies(signal, np.hanning(32), 16, 32, None, emphasis=0.5)
    np.testing.assert_allclose(found.numpy(), wanted, rtol=1e-3, atol=1e-4)


def test_the_signal_is_left_as_it_is():
    signal = torch.from_numpy(np.random.default_rng(4).normal(size=4000).astype(np.float32))
    before = signal.clone()
    BandEnergies(np.hanning(48), 16, 64, np.ones((33, 2)), emphasis=0.9)(signal, 200)
    assert torch.equal(signal, before)
