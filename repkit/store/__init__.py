"""The store: immutable HDF5 shards of frames or vectors keyed by utterance id (docs/store-format.md)."""

from repkit.store.reader import LoadedFrames, LoadedVectors, Store, open_store
from repkit.store.spec import StoreSpec
from repkit.store.writer import StoreWriter

__all__ = ["LoadedFrames", "LoadedVectors", "Store", "StoreSpec", "StoreWriter", "open_store"]
