import multiprocessing
import os
import pickle

import h5py
import numpy as np
import pytest
from store_helpers import assert_holds, fill, make_items, make_spec

import repkit.store.reader
from repkit.errors import StoreError
from repkit.store import StoreSpec, StoreWriter, open_store


def test_round_trip(tmp_path, kind):
    items = make_items(kind)
    fill(tmp_path / "s", make_spec(kind), items)
    store = open_store(tmp_path / "s", make_spec(kind))
    assert_holds(store, items)
    assert len(store) == 20
    assert items[0][0] in store
    assert items[3][0] not in store
    assert sorted(os.listdir(tmp_path / "s")) == [
        "manifest.json",
        *(f"shard-{k:05d}.h5" for k in range(5)),
    ]  # 23 items, 3 of them left out
    assert store.read(items[0][0]).dtype == np.float32
    assert store.load(dtype=None).values.dtype == np.float16
    store.verify()


def test_load_in_any_order(tmp_path, kind):
    items = make_items(kind)
    fill(tmp_path / "s", make_spec(kind), items)
    store = open_store(tmp_path / "s")
    wanted = list(np.random.default_rng(0).permutation(store.ids)[:11])
    wanted[3:3] = store.ids[5:9] if store.ids[5] not in wanted else []
    wanted = list(dict.fromkeys(wanted))
    loaded = store.load(wanted)
    for i, id in enumerate(wanted):
        row = loaded.values[loaded.offsets[i] : loaded.offsets[i + 1]] if kind == "frames" else loaded.values[i]
        np.testing.assert_array_equal(row, dict(items)[id])


def test_a_store_is_read_from_another_folder_too_and_one_id_needs_no_list(tmp_path, kind, monkeypatch):
    items = make_items(kind)
    fill(tmp_path / "s", make_spec(kind), items)
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    stores = [open_store("s"), open_store("~/s")]
    monkeypatch.chdir(tmp_path / "elsewhere")
    for store in stores:
        store.verify()
        assert_holds(store, items)
        loaded = store.load(items[0][0])
        assert loaded.ids == (items[0][0],)
        np.testing.assert_array_equal(loaded.values, np.atleast_2d(items[0][1]))


def test_layout_on_disk(tmp_path, kind):
    """The written format: what a reader in another language relies on."""
    items = make_items(kind)
    fill(tmp_path / "s", make_spec(kind), items)
    with h5py.File(tmp_path / "s" / "shard-00001.h5", "r") as file:
        assert file["ids"].dtype.kind == "S"
        assert [id.decode() for id in file["ids"][()]] == [id for id, v in items if v is not None][
            4:9
        ]  # items 5 to 9; item 3 is left out
        values = file[kind]
        assert values.dtype == np.float16
        assert values.fletcher32
        assert values.chunks == ((256, 6) if kind == "frames" else (5, 6))
        assert values.compression is None
        if kind == "frames":
            assert file["offsets"].dtype == np.int64
            assert file["offsets"][0] == 0
            assert file["offsets"][-1] == len(values)
        assert file.attrs["schema"] == "repkit.store"
        assert file.attrs["schema_version"] == 1
        assert (file.attrs["index"], file.attrs["shard_size"], file.attrs["n_before"], file.attrs["n_seen"]) == (
            1,
            5,
            5,
            5,
        )
        assert file.attrs["complete"]


def test_ids_are_never_cut(tmp_path):
    ids = ["c/a", "c/" + "long" * 100, "c/日本語", "c/ä b"]
    spec = make_spec("vectors")
    with StoreWriter(tmp_path / "s", spec) as writer:
        for id in ids:
            writer.add(id, np.zeros(6))
        writer.finish()
    assert open_store(tmp_path / "s").ids == tuple(ids)


def test_provenance_beyond_the_size_of_an_attribute(tmp_path):
    spec = make_spec("vectors", source={"speakers": [f"librispeech/{i}" for i in range(10000)]})
    with StoreWriter(tmp_path / "s", spec) as writer:
        writer.add("c/a", np.zeros(6))
        for i in range(3000):
            writer.leave_out(f"c/{i}", "not readable " * 5)
        writer.finish()
    store = open_store(tmp_path / "s", spec)
    assert len(store.spec.source["speakers"]) == 10000
    assert len(store.left_out) == 3000


def test_many_frames_go_to_disk_in_pieces(tmp_path):
    random = np.random.default_rng(0)
    items = [(f"c/{i}", random.normal(size=(2000, 128)).astype(np.float32)) for i in range(25)]
    fill(tmp_path / "s", make_spec(dim=128, dtype="float32"), items, shard_size=20)
    assert_holds(open_store(tmp_path / "s"), items)


def test_finished_store_is_a_no_op(tmp_path):
    items = make_items()
    fill(tmp_path / "s", make_spec(), items)
    before = {name: (tmp_path / "s" / name).stat().st_mtime_ns for name in os.listdir(tmp_path / "s")}
    with StoreWriter(tmp_path / "s", make_spec(), 5) as writer:
        assert writer.finished
        assert writer.n_done == len(items)
        assert set(writer.left_out) == {id for id, values in items if values is None}
        writer.finish()
        with pytest.raises(StoreError, match="finished"):
            writer.add("c/new", np.zeros((1, 6)))
    assert before == {name: (tmp_path / "s" / name).stat().st_mtime_ns for name in os.listdir(tmp_path / "s")}


def test_other_fingerprint_is_refused_by_field(tmp_path):
    fill(tmp_path / "s", make_spec(), make_items(), finish=False)
    other = make_spec(corpus_fingerprint="def", source={"frontend": "log_mel", "bands": 6, "mel": {"scale": "slaney"}})
    for attempt in (lambda: StoreWriter(tmp_path / "s", other), lambda: open_store(tmp_path / "s", other)):
        with pytest.raises(StoreError) as caught:
            attempt()
        assert caught.value.problems == (
            "corpus_fingerprint: 'abc' in the store, 'def' asked for",
            "source.mel.scale: 'htk' in the store, 'slaney' asked for",
        )
        assert make_spec().fingerprint[:12] in caught.value.message
        assert other.fingerprint[:12] in caught.value.message
        fill(tmp_path / "s", make_spec(), make_items())


def test_spec_fingerprint_is_stable_and_sees_everything():
    base = make_spec()
    assert base.fingerprint == make_spec(source=dict(reversed(base.source.items()))).fingerprint
    changes = [
        {"kind": "vectors"},
        {"dim": 7},
        {"dtype": "float32"},
        {"corpus": "d"},
        {"corpus_fingerprint": "d"},
        {"source": {}},
        {"frame_shift_s": 0.02},
    ]
    prints = {make_spec(**change).fingerprint for change in changes}
    assert len(prints | {base.fingerprint}) == len(changes) + 1
    assert StoreSpec.from_json(base.as_json()) == base
    # independent of this code: sha256 of the canonical JSON, taken with Python's own json and sha256sum
    assert StoreSpec(
        kind="vectors", dim=1, dtype="float32", corpus="a", corpus_fingerprint="b", source={"x": (1,)}
    ).fingerprint == _sha256_of_text(
        '{"corpus":"a","corpus_fingerprint":"b","dim":1,"dtype":"float32","frame_shift_s":null,"kind":"vectors",'
        '"source":{"x":[1]}}'
    )


def _sha256_of_text(text):
    import hashlib

    return hashlib.sha256(text.encode()).hexdigest()


@pytest.mark.parametrize(
    "change",
    [
        {"kind": "x"},
        {"dtype": "float64"},
        {"dim": 0},
        {"dim": True},
        {"source": {"a": object()}},
        {"source": {"a": float("nan")}},
    ],
)
def test_impossible_spec(change):
    with pytest.raises(StoreError, match="expected"):
        make_spec(**change)


@pytest.mark.parametrize(
    ("values", "words"),
    [
        (np.full((2, 6), 70000.0), "holds 70000; at most 65504 fits float16; store float32"),
        (np.full((2, 6), 65520.0), "at most 65504"),
        (np.array([[0, 1, 2, 3, 4, np.nan]]), "NaN or infinity"),
        (np.array([[0, 1, 2, 3, 4, -np.inf]]), "NaN or infinity"),
        (np.zeros((2, 5)), r"shape \(2, 5\)"),
        (np.zeros(6), r"\(T, 6\)"),
        (np.zeros((0, 6)), "T >= 1"),
        (np.array([["a"] * 6]), "numbers"),
    ],
)
def test_values_no_store_takes(tmp_path, values, words):
    with StoreWriter(tmp_path / "s", make_spec()) as writer:
        writer.add("c/good", np.full((1, 6), 65504.0))
        with pytest.raises(StoreError, match=words) as caught:
            writer.add("c/bad", values)
        assert "'c/bad'" in str(caught.value)
        writer.add("c/next", np.ones((1, 6)))
        writer.finish()
    assert open_store(tmp_path / "s").ids == ("c/good", "c/next")


@pytest.mark.parametrize("id", ["", "c/a\0"])
def test_ids_no_store_takes(tmp_path, id):
    with StoreWriter(tmp_path / "s", make_spec()) as writer, pytest.raises(StoreError, match="NUL"):
        writer.add(id, np.zeros((1, 6)))


def test_an_id_twice_is_refused_also_after_a_restart(tmp_path):
    fill(tmp_path / "s", make_spec(), make_items(), finish=False)
    with StoreWriter(tmp_path / "s", make_spec(), 5) as writer:
        for id, _ in make_items()[:5]:
            with pytest.raises(StoreError, match="twice"):
                writer.add(id, np.zeros((1, 6)))
        with pytest.raises(StoreError, match="twice"):
            writer.leave_out(make_items()[0][0], "again")


def test_nothing_kept(tmp_path):
    with StoreWriter(tmp_path / "s", make_spec()) as writer:
        writer.leave_out("c/a", "c/a: silent")
        with pytest.raises(StoreError, match="no utterance was kept") as caught:
            writer.finish()
    assert caught.value.problems == ("c/a: c/a: silent",)
    with pytest.raises(StoreError, match="it goes on where it stopped"):
        open_store(tmp_path / "s")


def test_require_lists_what_is_missing(tmp_path):
    items = make_items()
    fill(tmp_path / "s", make_spec(), items)
    store = open_store(tmp_path / "s")
    store.require(store.ids, "x")
    with pytest.raises(StoreError, match="22 of the utterances that train-ser needs") as caught:
        store.require([items[3][0], *(f"c/no{i}" for i in range(21)), store.ids[0]], "train-ser")
    assert caught.value.problems[0] == f"{items[3][0]}: left out, {items[3][0]}: silent"
    assert caught.value.problems[-1] == "and 2 more"
    for attempt in (lambda: store.read("c/no"), lambda: store.load(["c/no"])):
        with pytest.raises(StoreError, match="c/no"):
            attempt()


def test_one_writer_at_a_time(tmp_path):
    pytest.importorskip("fcntl")
    with StoreWriter(tmp_path / "s", make_spec()), pytest.raises(StoreError, match="another process is writing"):
        StoreWriter(tmp_path / "s", make_spec())
    StoreWriter(tmp_path / "s", make_spec()).close()


def test_pickle_and_fork(tmp_path, kind):
    items = make_items(kind)
    fill(tmp_path / "s", make_spec(kind), items)
    store = open_store(tmp_path / "s")
    expected = store.read(store.ids[7])  # the shard is open now
    copy = pickle.loads(pickle.dumps(store))
    np.testing.assert_array_equal(copy.read(store.ids[7]), expected)
    with multiprocessing.get_context("fork").Pool(2) as pool:
        for id, found in zip(store.ids, pool.map(store.read, store.ids)):
            np.testing.assert_array_equal(found, dict(items)[id])
    store.close()
    np.testing.assert_array_equal(store.read(store.ids[7]), expected)


def test_few_files_are_open_at_once(tmp_path, kind, monkeypatch):
    monkeypatch.setattr(repkit.store.reader, "_OPEN_FILES", 2)
    items = make_items(kind)
    fill(tmp_path / "s", make_spec(kind), items, shard_size=3)
    store = open_store(tmp_path / "s")
    assert_holds(store, items)
    for id in np.random.default_rng(0).permutation(store.ids):
        np.testing.assert_array_equal(store.read(id), dict(items)[id])
        assert len(store._files) <= 2


def test_store_needs_no_torch():
    import subprocess
    import sys

    code = "import sys, repkit.store, repkit.runs.atomic; sys.exit('torch' in sys.modules or 'h5py' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
