"""The store: immutable HDF5 shards of frames or vectors keyed by utterance id (docs/store-format.md)."""

from repkit.store.parts import Item, Source, fill_by, make_shard
from repkit.store.reader import LoadedFrames, LoadedVectors, Store, open_store
from repkit.store.spec import StoreSpec
from repkit.store.writer import SHARD_SIZE, StoreWriter

__all__ = [
    "SHARD_SIZE",
    "Item",
    "LoadedFrames",
    "LoadedVectors",
    "Source",
    "Store",
    "StoreSpec",
    "StoreWriter",
    "fill_by",
    "make_shard",
    "open_store",
]
