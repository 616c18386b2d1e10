"""What the tests of openSMILE share."""

import numpy as np
from repkit_baselines.opensmile_encoder import OpensmileEncoder

RATE = 16000
IS09 = {"feature_set": "IS09", "n_workers": 1}


def make(**settings):
    return OpensmileEncoder(OpensmileEncoder.Config(**settings))


def hum():
    """2 s that get louder and softer, with noise; numbers that 16 bit can hold."""
    t = np.arange(2 * RATE) / RATE
    wave = 0.3 * np.sin(2 * np.pi * 150 * t) * (1 + 0.5 * np.sin(2 * np.pi * 3 * t))
    wave += 0.02 * np.random.default_rng(0).standard_normal(len(t))
    return (np.rint(wave * 32768) / 32768).astype(np.float32)
