"""What the benchmarks compare with computes the same; and their own small arithmetic, by hand."""

from itertools import chain

import bench_frontend
import bench_protocol
import bench_scaling
import bench_startup
import bench_store
import numpy as np
import protocol_peers
import pytest
import torch

from repkit.api import Batch, TaskSpec
from repkit.features.kaldi_fbank import KaldiFbank
from repkit.features.log_mel import LogMel
from repkit.runs.seeding import derive_seed
from repkit.stage_two.attentive_cnn import AttentiveCnn


def task(frames, **changes):
    n = len(frames)
    model = AttentiveCnn(
        AttentiveCnn.Config(fusion="none", dropout=0.0), TaskSpec(views={"emotion": tuple("abc")}, n_bands=4)
    )
    given = {
        "frames": frames, "target": torch.arange(n) % 3, "train": torch.arange(n), "dev": torch.arange(n),
        "test": torch.arange(n), "n_classes": 3, "state": model.state_dict(), "seed": 5, "epochs": 2, "batch_size": 4,
        "learning_rate": 1e-3, "dropout": 0.0,
    }  # fmt: skip
    return model, protocol_peers.Task(**{**given, **changes})


def test_plain_module_gives_our_logits_under_padding():
    torch.manual_seed(0)
    frames = [torch.randn(t, 4) for t in (7, 10, 95, 99, 100, 101, 250)]  # around the edges of a window and a pool
    model, one = task(frames)
    batch = protocol_peers.collate([(f, torch.tensor(0)) for f in frames])
    theirs = protocol_peers.build(one).eval()(batch["frames"], batch["lengths"])["logits"]
    ours = model.eval()(Batch(["x"] * len(frames), batch["frames"], batch["lengths"], {})).logits["emotion"]
    torch.testing.assert_close(theirs, ours, atol=1e-5, rtol=1e-5)
    assert (ours[0] - ours[-1]).abs().max() > 1e-3  # not all the same, or nothing would be shown


def test_items_are_standardised_on_train_alone():
    frames = [torch.tensor([[1.0], [3.0]]), torch.tensor([[100.0]])]
    _, one = task([f.expand(-1, 4) for f in frames], train=torch.tensor([0]))
    items = protocol_peers.Items(one, torch.tensor([1]))
    assert items[0][0][0, 0] == 98.0  # mean 2, standard deviation 1


def test_order_is_that_of_the_engine():
    _, one = task([torch.randn(20, 4) for _ in range(10)], train=torch.tensor([9, 1, 5, 7, 3]), batch_size=2)
    order = protocol_peers.Order(one)
    first, second = list(order), list(order)
    assert [len(batch) for batch in first] == [2, 2, 1]
    assert sorted(chain(*first)) == sorted(chain(*second)) == [0, 1, 2, 3, 4]
    drawn = torch.Generator().manual_seed(derive_seed(5, "batches", 1))
    assert list(chain(*first)) == torch.randperm(5, generator=drawn).tolist()


def test_trainer_takes_the_steps_of_the_loop(tmp_path):
    torch.manual_seed(1)
    frames = [torch.randn(int(t), 4) + (i % 3) for i, t in enumerate(torch.randint(100, 200, (12,)))]
    _, one = task(frames)
    loop, trainer = protocol_peers.plain(one), protocol_peers.by_trainer(one, str(tmp_path))
    # Trainer's mean loss is over all steps; every epoch has three batches
    assert trainer.losses[0] == pytest.approx(np.mean(loop.losses), rel=1e-4)
    assert trainer.uar == loop.uar


def test_uar_by_hand():
    logits = np.array([[2.0, 1.0], [2.0, 1.0], [0.0, 1.0]])
    assert protocol_peers.uar(logits, np.array([0, 1, 1])) == 0.75  # recalls 1 and 1/2


def test_half_width_by_hand():
    # differences 0, 2: deviation sqrt(2), two values; t(0.975, 1) = 12.706
    assert bench_protocol.half_width(np.array([0.0, 2.0])) == pytest.approx(12.706, abs=1e-3)


@pytest.mark.parametrize("bands", [26, 128])
def test_front_ends_agree(bands):
    sound = np.random.default_rng(0).normal(0, 0.1, 24000).astype(np.float32)
    s = bench_frontend.SHAPES[bands]
    shape = {"bands": bands, "window_s": s["window"] / 16000, "shift_s": s["shift"] / 16000}
    log_mel = LogMel(LogMel.Config(high_hz=s["high"], window=s["kind"], n_fft=s["n_fft"], **shape))
    mine = bench_frontend.ours(log_mel, [sound])()
    for name, peer in bench_frontend.mel_peers(bands, [sound]).items():
        assert bench_frontend.largest_difference(peer(), mine) < 1e-3, name
    mine = bench_frontend.ours(KaldiFbank(KaldiFbank.Config(**shape)), [sound])()
    peers = bench_frontend.kaldi_peers(bands, [sound], 1)
    for name in ("kaldi-native-fbank", "torchaudio.compliance"):
        assert bench_frontend.largest_difference(peers[name](), mine) < 1e-2, name
    peers["conversion alone"]()


@pytest.mark.parametrize("kind", ["vectors", "frames"])
def test_every_store_gives_back_what_was_written(kind, tmp_path):
    arrays = dict(list(bench_store.material(kind, quick=True).items())[:5])
    for write in bench_store.writers(kind, arrays, tmp_path).values():
        write()
    some = list(arrays)[::-2]
    bench_store.check(arrays, some, bench_store.readers(some, tmp_path))
    first = next(iter(arrays))
    np.save(tmp_path / "npy-per-utterance" / (first.replace("/", "_") + ".npy"), arrays[first] + 1)
    with pytest.raises(SystemExit, match=f"npy per utterance: {first}"):
        bench_store.check(arrays, some, bench_store.readers(some, tmp_path))


def test_exponent_by_hand():
    assert bench_scaling.exponent([1, 4, 16], [3.0, 6.0, 12.0]) == pytest.approx(0.5)
    assert bench_scaling.exponent([1, 4, 16], [7.0, 7.0, 7.0]) == pytest.approx(0.0)


def test_import_times_by_package():
    text = (
        "import time: self [us] | cumulative | imported package\n"
        "import time:      1500 |       1500 |   json.decoder\n"
        "import time:       500 |       2000 | json\n"
        "import time:      2000 |       2000 |     numpy.linalg\n"
        "import time:      1000 |       3000 | numpy\n"
        "something else\n"
    )
    assert bench_startup.sum_by_package(text) == {"standard library": 2.0, "numpy": 3.0}
