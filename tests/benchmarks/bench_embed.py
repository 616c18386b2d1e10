"""Speech to embeddings, FLAC to store: utterance by utterance as one would write it first, and ours by one and two processes.

The plain way: for each utterance soundfile, the autoencoder's spectrogram by librosa, `torch.nn.GRU` with a batch of one in
float32 on one thread (two threads make a batch of one slower), one HDF5 dataset. ONNX Runtime takes the network's place in it where ``onnxruntime``, ``onnx`` and ``onnxscript`` can
be imported (they are no dependencies of repkit: install them elsewhere and name the place in PYTHONPATH).
"""

from __future__ import annotations

import importlib.util
import json
import multiprocessing
import shutil
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import h5py
import harness
import librosa
import numpy as np
import soundfile
import torch

from repkit.audio.open import open_corpus
from repkit.features.spectrogram import audeep_mel_bank
from repkit.runs.executors import Event, prepare_process
from repkit.stage_one.gru_autoencoder import GruAutoencoder, GruAutoencoderConfig, GruAutoencoderEncoder
from repkit.workflows.embed import embed

SHARD = 96
FRONTEND = {"name": "spectrogram", "settings": {"fixed_length_s": None, "detrend": False}}
"""The default of pretrain-ae but for the mean of each frame, which librosa has no word for."""


class Some:
    """The first utterances of a corpus."""

    def __init__(self, corpus: Any, n: int) -> None:
        self.corpus, self.n, self.name = corpus, n, corpus.name

    def utterances(self) -> Sequence[Any]:
        return self.corpus.utterances()[: self.n]

    def stream(self, skip: int = 0, max_duration_s: float | None = None) -> Any:
        for utterance in self.utterances()[skip:]:
            yield utterance, self.corpus.read(utterance, max_duration_s)

    def fingerprint(self) -> str:
        return "f" * 64


def plain_frames(path: Path, bank: np.ndarray) -> np.ndarray:
    """Return (T, 128) frames in [-1, 1], as a user of librosa writes it down."""
    sound, _ = soundfile.read(path, dtype="float32")
    emphasised = librosa.effects.preemphasis(sound, coef=0.95, zi=np.zeros(1, np.float32))
    power = np.abs(librosa.stft(emphasised, n_fft=1280, hop_length=640, window="hann", center=False)) ** 2 / 1280
    mel = np.einsum("ft,mf->tm", power, bank, optimize=True)
    decibels = librosa.power_to_db(mel, ref=np.max, amin=1e-30, top_db=60)
    return 2 * (decibels - decibels.min()) / (decibels.max() - decibels.min()) - 1


class Plain:
    """The plain way with a network of PyTorch's own layers and the weights of ours."""

    def __init__(self, model: GruAutoencoder) -> None:
        c = model.config
        self.gru = torch.nn.GRU(c.n_bands, c.hidden_size, c.n_layers, batch_first=True)
        for number, layer in enumerate(model.encoder.layers):
            for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh"):
                getattr(self.gru, f"{name}_l{number}").data.copy_(getattr(layer, f"{name}_l0"))
        self.bridge = model.bridge
        self.bank = audeep_mel_bank(c.n_bands, 1280).T.astype(np.float32)

    def network(self, frames: torch.Tensor) -> torch.Tensor:
        """Return (1, R) of (1, T, F)."""
        _, states = self.gru(frames)
        return torch.tanh(self.bridge(states.transpose(0, 1).flatten(1)))

    def run(self, utterances: Sequence[Any], folder: Path, encode: Callable[[np.ndarray], np.ndarray]) -> None:
        """Write one dataset per utterance."""
        with h5py.File(folder / "all.h5", "w") as file:
            for utterance in utterances:
                file[utterance.id] = encode(plain_frames(utterance.audio.path, self.bank))

    @torch.no_grad()
    def by_torch(self, frames: np.ndarray) -> np.ndarray:
        """Encode by PyTorch."""
        return self.network(torch.from_numpy(np.ascontiguousarray(frames[None], np.float32)))[0].numpy()


class Network(torch.nn.Module):
    """What is exported."""

    def __init__(self, plain: Plain) -> None:
        super().__init__()
        self.gru, self.bridge, self.plain = plain.gru, plain.bridge, plain

    def forward(self, frames: torch.Tensor) -> torch.Tensor:
        """Return (1, R)."""
        return self.plain.network(frames)


def onnx_encoder(plain: Plain, folder: Path) -> Callable[[np.ndarray], np.ndarray] | str:
    """Return an encoder by ONNX Runtime, or why there is none."""
    missing = [name for name in ("onnxruntime", "onnx", "onnxscript") if importlib.util.find_spec(name) is None]
    if missing:
        return f"{', '.join(missing)} not installed"
    import onnxruntime

    path, example = folder / "encoder.onnx", torch.zeros(1, 50, 128)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of the older exporter, the one that knows a recurrent layer as such
            names = {"input_names": ["frames"], "dynamic_axes": {"frames": {1: "t"}}}
            torch.onnx.export(Network(plain), (example,), str(path), dynamo=False, **names)
    except Exception as error:  # noqa: BLE001 - whatever the exporter of this version objects to is the reason we state
        return f"torch {torch.__version__} did not export it ({type(error).__name__})"
    settings = onnxruntime.SessionOptions()
    settings.intra_op_num_threads = settings.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(str(path), settings, providers=["CPUExecutionProvider"])
    return lambda frames: session.run(None, {"frames": np.ascontiguousarray(frames[None], np.float32)})[0][0]


def work(jobs: Any, results: Any) -> None:
    """Make shards for as long as there are any: a worker that has started already."""
    prepare_process()
    results.put("ready")
    while (task := jobs.get()) is not None:
        function, context, job = task
        results.put((job, function(context, job, lambda n: None)))


class WarmProcesses:
    """Processes that are there before the clock starts (an executor)."""

    def __init__(self, n: int) -> None:
        spawn = multiprocessing.get_context("spawn")
        self.jobs, self.results = spawn.Queue(), spawn.Queue()
        self.processes = [spawn.Process(target=work, args=(self.jobs, self.results), daemon=True) for _ in range(n)]
        for process in self.processes:
            process.start()
        for _ in range(n):
            self.results.get()

    def __call__(self, function: Any, context: Any, jobs: Sequence[Any], on_event: Callable[[Event], None]) -> None:
        for job in jobs:
            self.jobs.put((function, context, job))
        for _ in jobs:
            job, value = self.results.get()
            on_event(Event("done", job, 0, value))

    def close(self) -> None:
        """Let them end."""
        for _ in self.processes:
            self.jobs.put(None)


def run(page: harness.Page, options: harness.Options) -> None:
    """Time every way and compare what they wrote."""
    harness.one_thread()
    torch.set_flush_denormal(True)
    folder = Path(tempfile.mkdtemp(prefix="embed-"))
    begun = time.perf_counter()
    pool = WarmProcesses(2)
    start_s = time.perf_counter() - begun
    try:
        _measure(page, options, folder, pool, start_s)
    finally:
        pool.close()
        shutil.rmtree(folder)


def _measure(page: harness.Page, options: harness.Options, folder: Path, pool: WarmProcesses, start_s: float) -> None:
    torch.manual_seed(0)
    GruAutoencoder(GruAutoencoderConfig(frontend=FRONTEND)).save_pretrained(folder / "ae")
    encoder = GruAutoencoderEncoder(GruAutoencoderEncoder.Config(path=folder / "ae"))
    corpus = Some(open_corpus("librispeech", str(options.corpus("librispeech"))), 2 * SHARD if not options.quick else 8)
    every_twelfth = corpus.utterances()[:: 12 if not options.quick else 4]
    seconds = {u.id: soundfile.info(u.audio.path).duration for u in corpus.utterances()}
    hours, hours_plain = sum(seconds.values()) / 3600, sum(seconds[u.id] for u in every_twelfth) / 3600
    plain = Plain(encoder.model)

    def ours(name: str, **more: Any) -> Callable[[], float]:
        def timed() -> float:
            out = folder / name
            shutil.rmtree(out, ignore_errors=True)
            begun = time.perf_counter()
            embed(encoder, [corpus], out, shard_size=SHARD, window=SHARD, **more)
            return (time.perf_counter() - begun) / hours

        return timed

    def one_by_one(name: str, encode: Callable[[np.ndarray], np.ndarray]) -> Callable[[], float]:
        def timed() -> float:
            (folder / name).mkdir(exist_ok=True)
            begun = time.perf_counter()
            plain.run(every_twelfth, folder / name, encode)
            return (time.perf_counter() - begun) / hours_plain

        return timed

    ways = {
        "plain": one_by_one("plain", plain.by_torch),
        "1 process": ours("one"),
        "2 processes": ours("two", executor=pool),
        "2 processes, bf16": ours("bf16", executor=pool, precision="bf16"),
    }
    onnx = onnx_encoder(plain, folder)
    if callable(onnx):
        ways["ONNX Runtime"] = one_by_one("onnx", onnx)
    found = harness.alternate(ways, options.rounds)

    ratios = {name: harness.ratio(found["plain"], found[name]) for name in ways}
    page.headline(
        f"FLAC to store {ratios['2 processes']} times the plain way with two processes, {ratios['1 process']} with one "
        f"(bf16: {ratios['2 processes, bf16']})."
    )
    page.text(
        f"LibriSpeech ({len(corpus.utterances())} utterances, {hours:.2f} h; the plain ways every twelfth of them, "
        f"{hours_plain * 60:.1f} min), an untrained autoencoder of the paper's size (2 layers of 256 units, 128 bands, 80 ms "
        "windows every 40 ms). Seconds per hour of speech; the processes were started before (that takes "
        f"{start_s:.1f} s here, once)."
    )
    page.compare("ours", {f"{b}": (found, "plain", b) for b in list(ways)[1:4]}, "s")
    if callable(onnx):
        page.compare("ours against ONNX Runtime", {"2 processes": (found, "ONNX Runtime", "2 processes")}, "s")
    else:
        page.text(f"ONNX Runtime: not measured ({onnx}).")
    page.text(_differences(folder, every_twelfth, callable(onnx)))
    if not options.quick:
        page.text(_scores(options, encoder, folder))
    for way, told in (("2 processes", "float32"), ("2 processes, bf16", "bf16")):
        reached = ratios[way].median >= 6
        page.target(f"embed at least 6 times the utterance-by-utterance way, {told}", reached, f"{ratios[way]}")


def _scores(options: harness.Options, encoder: GruAutoencoderEncoder, folder: Path) -> str:
    """Say what a linear SVM reaches on the vectors of Emo-DB in both precisions."""
    place = str(options.corpus("emodb"))
    for precision in ("fp32", "bf16"):
        embed(encoder, [open_corpus("emodb", place)], folder / "emodb" / precision, precision=precision)
    stores = [f"{precision}={folder / 'emodb' / precision}" for precision in ("fp32", "bf16")]
    words = ["probe", *stores, "--corpus", f"emodb={place}", "--workers", "1"]
    subprocess.run([sys.executable, "-m", "repkit", *words], check=True, capture_output=True, cwd=folder)
    results = json.loads(next((folder / "runs").rglob("results.json")).read_text())
    uar = {score["condition"].rpartition(".")[2]: 100 * score["uar"]["mean"] for score in results["scores"]}
    return f"UAR of a linear SVM on the vectors of Emo-DB (`repkit probe`): {uar['fp32']:.1f} in float32, {uar['bf16']:.1f} in bf16."


def _differences(folder: Path, utterances: Sequence[Any], with_onnx: bool) -> str:
    from repkit.store import open_store

    stores = {name: open_store(next((folder / name).rglob("manifest.json")).parent) for name in ("one", "two", "bf16")}
    with h5py.File(folder / "plain" / "all.h5") as file:
        reference = {u.id: file[u.id][()] for u in utterances}
    largest = {
        name: max(float(np.abs(store.read(i) - values).max()) for i, values in reference.items())
        for name, store in stores.items()
    }
    text = (
        "Largest difference from the plain way in a number between -1 and 1: "
        f"{largest['one']:.1g} with one process, {largest['two']:.1g} with two, {largest['bf16']:.1g} in bf16"
    )
    if with_onnx:
        with h5py.File(folder / "onnx" / "all.h5") as file:
            difference = max(float(np.abs(file[i][()] - values).max()) for i, values in reference.items())
        text += f", {difference:.1g} by ONNX Runtime"
    return text + "."


if __name__ == "__main__":
    harness.main("embed", "Embeddings: FLAC to store", run)
