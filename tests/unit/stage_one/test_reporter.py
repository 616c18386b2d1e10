"""What a run says of its memory."""

import numpy as np
import torch

from repkit.stage_one.reporter import peak_memory


def test_peak_memory_counts_what_was_held_and_given_back():
    before = peak_memory(torch.device("cpu"))
    held = np.ones(50_000_000)  # 400 MB, every page touched
    del held
    after = peak_memory(torch.device("cpu"))
    assert before.keys() == after.keys() == {"peak_memory_mb"}
    # the process may have held more already: then its peak stays
    assert after["peak_memory_mb"] >= max(before["peak_memory_mb"], 400)
    assert after["peak_memory_mb"] < before["peak_memory_mb"] + 450
