"""The saved models of keesing2020.md tested once more: with other batches, and with other statistics."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import common

TESTED_TOGETHER = (1, 8, 32, 128)
"""Utterances in a batch; the published code has 32, and no test part of Emo-DB holds more than 128."""
STATISTICS = (
    "of training, momentum 0.99 (the row above)",
    "of the training utterances, by the trained network",
    "of the test utterances, by the trained network",
)
"""What the batch normalisation of Zhao's network is given in a test."""


class Tested:
    """The saved models of a cell's run, one after the other, and the utterances that each was tested on."""

    def __init__(self, data: str, work: Path, cell: dict[str, Any], model: Any, frontend: Any, most_s: float) -> None:
        import torch

        import repkit
        from repkit.api import MISSING, TaskSpec
        from repkit.features.normalise import fit_normaliser
        from repkit.features.ragged import Ragged
        from repkit.training.data import FoldData, RaggedTensor, TrainingData

        self.run = work / cell["run"]["path"]
        corpus = repkit.open_corpus(cell["corpus"], f"{data}/{cell['corpus']}")
        utterances = corpus.utterances()
        ids = [utterance.id for utterance in utterances]
        heard = Ragged.from_arrays([frontend(corpus.read(utterance, most_s)) for utterance in utterances], ids)
        frames = fit_normaliser("per_speaker", heard, utterances, (), min_clips=1).apply(heard)
        ragged = RaggedTensor(torch.from_numpy(frames.values), torch.from_numpy(frames.offsets))
        self.fold = FoldData(TrainingData(ids, ragged, {"emotion": torch.full((len(ids),), MISSING)}))
        (score,) = [
            s
            for s in common.of(common.read(self.run, "results.json")["scores"], "emotion")
            if s["checkpoint"] == "selected"
        ]
        self.classes = tuple(score["recall"])
        self.model = model(model.Config(), TaskSpec({"emotion": self.classes}, n_bands=frames.values.shape[1]))
        self.place = {utterance_id: i for i, utterance_id in enumerate(ids)}

    def folds(self) -> Iterator[tuple[list[int], list[int], Callable[[int], float]]]:
        """Yield for each fold, its weights loaded, the places of train and test and what gives UAR by the size of batches."""
        import pandas as pd
        import torch
        from safetensors.torch import load_file

        from repkit.evaluation.metrics import uar
        from repkit.training.loop import predict

        for path in sorted(self.run.glob("jobs/*/seed_*/*/predictions.parquet")):
            told = pd.read_parquet(path).query("part == 'test' and checkpoint == 'selected'")
            self.model.load_state_dict(load_file(path.parent / "selected.safetensors"))
            train = sorted(self.place[i] for i in common.read(path.parent, "split.json")["train"])
            test, labels = [self.place[i] for i in told["id"]], told["label"].tolist()

            def scored(size: int, test: list[int] = test, labels: list[str] = labels) -> float:
                winners = predict(self.model, self.fold, torch.tensor(test), size)[0]["emotion"].argmax(1)
                return uar(labels, [self.classes[i] for i in winners])

            yield train, test, scored


def batches_table(data: str, work: Path, cell: dict[str, Any]) -> str:
    """Return what Latif's network scores with the test utterances of a fold in batches of several sizes, in order of length."""
    import numpy as np
    from repkit_baselines.latif import LatifCnnLstm

    found: dict[int, list[float]] = {size: [] for size in TESTED_TOGETHER}
    for _, _, scored in Tested(data, work, cell, LatifCnnLstm, lambda waveform: waveform[:, None], 5.0).folds():
        for size in TESTED_TOGETHER:
            found[size].append(scored(size))
    rows = [[str(size), f"{100 * np.mean(scores):.1f}"] for size, scores in found.items()]
    return common.table(["utterances tested together, at most", "UAR mean over folds"], rows)


def statistics_table(data: str, work: Path, cell: dict[str, Any]) -> str:
    """Return what Zhao's network scores with other statistics in its batch normalisation."""
    import numpy as np
    import torch
    from repkit_baselines.keesing_spectrogram import KeesingSpectrogram
    from repkit_baselines.keras_parts import KerasBatchNorm
    from repkit_baselines.zhao import ZhaoCnnBlstm

    frontend = KeesingSpectrogram(KeesingSpectrogram.Config(bands=40))

    def frames(waveform: np.ndarray) -> np.ndarray:
        return frontend(torch.from_numpy(waveform)[None], torch.tensor([len(waveform)]))[0][0].numpy()

    tested = Tested(data, work, cell, ZhaoCnnBlstm, frames, 5.0)
    norms = [module for module in tested.model.modules() if isinstance(module, KerasBatchNorm)]

    def measured(places: list[int]) -> None:
        """Give every batch normalisation the mean over batches of 64 of the statistics that the trained network meets there."""
        tested.model.eval()
        for norm in norms:
            norm.reset_running_stats()
            norm.momentum, norm.training = None, True
        with torch.inference_mode():
            for some in torch.tensor(places).split(64):
                tested.model(tested.fold.batch(some))

    found: dict[str, list[float]] = {name: [] for name in STATISTICS}
    for train, test, scored in tested.folds():
        for name, places in zip(STATISTICS, (None, train, test), strict=True):
            if places is not None:
                measured(places)
            found[name].append(scored(64))
    rows = [[name, f"{100 * np.mean(scores):.1f}"] for name, scores in found.items()]
    return common.table(["mean and variance in the batch normalisation", "UAR mean over folds"], rows)
