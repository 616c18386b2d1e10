"""Small stores for the tests of this folder."""

import numpy as np

from repkit.store import StoreSpec, StoreWriter


def make_spec(kind="frames", **changes):
    settings = {
        "kind": kind,
        "dim": 6,
        "dtype": "float16",
        "corpus": "c",
        "corpus_fingerprint": "abc",
        "source": {"frontend": "log_mel", "bands": 6, "mel": {"scale": "htk"}},
        "frame_shift_s": 0.01 if kind == "frames" else None,
    }
    return StoreSpec(**{**settings, **changes})


def make_items(kind="frames", n=23, dim=6):
    """Stream items: (id, values) or (id, None) for what is left out; values that float16 holds exactly."""
    random = np.random.default_rng(1)
    items = []
    for i in range(n):
        shape = (int(random.integers(1, 9)), dim) if kind == "frames" else (dim,)
        values = random.integers(-500, 500, shape).astype(np.float32) / 8
        items.append((f"c/ü{i}" + "x" * (i % 5), None if i % 7 == 3 else values))
    return items


def fill(path, spec, items, shard_size=5, finish=True):
    with StoreWriter(path, spec, shard_size) as writer:
        for id, values in items[writer.n_done :]:
            if values is None:
                writer.leave_out(id, f"{id}: silent")
            else:
                writer.add(id, values)
        if finish:
            writer.finish()


def assert_holds(store, items):
    kept = [(id, values) for id, values in items if values is not None]
    assert store.ids == tuple(id for id, _ in kept)
    assert store.left_out == {id: f"{id}: silent" for id, values in items if values is None}
    loaded = store.load()
    assert loaded.ids == store.ids
    np.testing.assert_array_equal(loaded.values, np.vstack([values for _, values in kept]))
    if store.spec.kind == "frames":
        assert store.lengths.tolist() == [len(values) for _, values in kept]
    for id, values in kept:
        np.testing.assert_array_equal(store.read(id), values)
