"""``repkit embed``: corpora and an encoder to stores of embeddings."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch

from repkit.api import Corpus, Encoder
from repkit.errors import PluginError, UsageError
from repkit.features.extract import bad_audio_error, decoded, listing, look_through, one_pass, one_thread
from repkit.features.pipeline import AHEAD_BYTES, ahead
from repkit.runs.executors import Executor
from repkit.stage_one.frontends import states_start_s
from repkit.stage_one.naming import changed_settings, name_with
from repkit.stage_one.open import open_encoder
from repkit.store import SHARD_SIZE, Item, Store, StoreSpec, StoreWriter, open_store
from repkit.store.fill import Filling, fill

MOST_WORKERS_ON_GPU = 4
"""Processes chosen without being asked where there is a GPU: each holds the encoder and half a GB of CUDA there."""

SAMPLE_RATE = 16000


def embed(
    encoder: str | Encoder,
    corpora: Sequence[Corpus],
    out: Path,
    *,
    dtype: Literal["float32", "float16"] = "float32",
    precision: Literal["fp32", "bf16"] = "fp32",
    on_bad_audio: Literal["stop", "skip"] = "stop",
    max_duration_s: float | None = None,
    window: int = 256,
    shard_size: int = SHARD_SIZE,
    workers: int | None = 1,
    executor: Executor | None = None,
    progress: Callable[[str, int, int], None] | None = None,
    notice: Callable[[str], None] | None = None,
    settings: Mapping[str, Any] | None = None,
    **options: Any,
) -> dict[str, Store]:
    """Encode every utterance into ``out/<encoder name>/<corpus>/``, or ``out/<encoder name>-<settings>/<corpus>/``.

    Decoding, frames and encoder run at the same time, each in a thread of its own (the last two together where the encoder
    takes waveforms only). Utterances are encoded in batches of similar length within a window of the stream, which never
    reaches into another shard, and written in the order of the stream. Killed at any moment and started again, it goes on.

    Args:
        encoder: an encoder or its specification (`repkit.stage_one.open.open_encoder`).
        corpora: to encode.
        out: folder of all embeddings.
        dtype: of the numbers on disk.
        precision: of the encoder's matrix products; ``"bf16"`` is faster where the hardware has it and changes an
            autoencoder's vector by up to 0.005, so it is part of the store's identity.
        on_bad_audio: ``"stop"`` (after looking at all, so that every bad file is listed) or ``"skip"`` and record.
        max_duration_s: longest stretch of an utterance to decode; None for all.
        window: utterances to sort by length at a time; fewer where they are so long that they would not fit in memory.
        shard_size: utterances per shard of a new store.
        workers: processes. 1 encodes here; more make a shard each at a time; None begins here and goes on with one process
            per core if that is expected to be sooner done.
        executor: where to make the shards instead; see `repkit.store.fill.fill`.
        progress: called with (corpus, utterances done, utterances in all).
        notice: told in a sentence when several processes are used.
        settings: of the encoder's ``Config`` when it is given as a text. Those that are not its defaults stand in the name
            of the store, unless the encoder's own name tells them, and in its provenance.
        **options: the same for level, readout, layers, layer, seed, init, batch_size, device, which the name of every
            encoder tells that has them.

    Returns:
        the store of each corpus by name.

    Raises:
        UsageError: an encoder that cannot be opened, a setting given twice, or several workers for one that cannot be sent
            to another process.
        RecipeError: settings that the encoder does not have, or wrong values, all at once.
        DataError: bad audio, all of it listed.
        StoreError: the folder holds embeddings of another encoder or corpus, or the disk is full.
    """
    torch.set_flush_denormal(True)
    settings = dict(settings or {})
    _check_once(encoder, settings, options)
    both = {**options, **settings}
    holder = EncoderHolder(encoder, both) if isinstance(encoder, str) else EncoderHolder(None, {}, encoder)
    opened = holder.get()
    changed = changed_settings(opened, settings)
    stores = {}
    with ExitStack() as stack:
        writers = []
        for corpus in corpora:
            spec = embeddings_spec(corpus, opened, dtype, max_duration_s, precision, changed)
            path = Path(out) / name_with(opened, changed) / corpus.name
            writers.append(stack.enter_context(StoreWriter(path, spec, shard_size)))
        if _has_stages(opened):
            # an encoder that takes waveforms, such as a large transformer, may use all cores where it is alone
            stack.enter_context(one_thread())
        fillings = [
            Filling(
                writer,
                EmbeddingsSource(corpus, holder, max_duration_s, window, writer.shard_size, precision),
                listing(corpus),
                one_pass(corpus),
            )
            for corpus, writer in zip(corpora, writers, strict=True)
        ]
        totals = [0 if writer.finished else len(corpus.utterances()) for corpus, writer in zip(corpora, writers)]
        fill(
            fillings,
            workers=workers,
            executor=executor,
            most_workers=MOST_WORKERS_ON_GPU if torch.cuda.is_available() else None,
            progress=None if progress is None else lambda at, n, _: progress(corpora[at].name, n, totals[at]),
            notice=None if notice is None else lambda text: notice(f"embeddings: {text}"),
        )

        def finish(made: tuple[Corpus, StoreWriter]) -> None:
            corpus, writer = made
            if writer.left_out and on_bad_audio == "stop":
                raise bad_audio_error(corpus.name, list(writer.left_out.items()), writer.path)
            writer.finish()

        look_through(finish, zip(corpora, writers, strict=True))
    for corpus, writer in zip(corpora, writers, strict=True):
        stores[corpus.name] = open_store(writer.path, writer.spec)
    return stores


def embeddings_spec(
    corpus: Corpus,
    encoder: Encoder,
    dtype: Literal["float32", "float16"],
    max_duration_s: float | None,
    precision: Literal["fp32", "bf16"] = "fp32",
    changed: Mapping[str, Any] | None = None,
) -> StoreSpec:
    """Return the identity of the store that `embed` makes of the same arguments.

    Args:
        corpus: that is encoded.
        encoder: what encodes it.
        dtype: of the numbers on disk.
        max_duration_s: longest stretch of an utterance; None for all.
        precision: of the encoder's matrix products.
        changed: settings of the encoder that are not its defaults (`repkit.stage_one.naming.changed_settings`).
    """
    source = {**encoder.provenance(), "max_duration_s": max_duration_s}
    told = source.get("settings")
    told = told if isinstance(told, Mapping) else {}
    if more := {key: value for key, value in (changed or {}).items() if key not in told}:
        source |= {"name": name_with(encoder, changed or {}), "encoder_settings": more}
    if precision != "fp32":  # not said of the usual, so that stores of before keep their identity
        source["precision"] = precision
    return StoreSpec(
        kind="frames" if encoder.level == "frame" else "vectors",
        dim=encoder.dim,
        dtype=dtype,
        corpus=corpus.name,
        corpus_fingerprint=corpus.fingerprint(),
        source=source,
        frame_shift_s=getattr(encoder, "frame_shift_s", None) if encoder.level == "frame" else None,
    )


def _check_once(encoder: str | Encoder, settings: Mapping[str, Any], options: Mapping[str, Any]) -> None:
    """Refuse settings of an encoder that is built already, and those that an option has given."""
    if settings and not isinstance(encoder, str):
        raise UsageError(
            f"embed: settings {', '.join(settings)} of the encoder {encoder.name}, which is built already; an encoder given as "
            "a text was expected; build it with these settings"
        )
    twice = sorted(key for key in settings if options.get(key) is not None)
    if twice:
        raise UsageError(
            f"embed: {', '.join(twice)} given as an option and as a setting; once was expected; leave one out"
        )


@dataclass
class EncoderHolder:
    """An encoder that other processes open for themselves: what goes to them is its specification.

    Attributes:
        spec: specification, or None of an encoder given as an object, which is then sent as it is.
        options: its settings.
        opened: the encoder, once it is there.
    """

    spec: str | None
    options: dict[str, Any]
    opened: Encoder | None = field(default=None)

    def get(self) -> Encoder:
        """Return the encoder, opened on the first call in each process."""
        if self.opened is None:
            self.opened = open_encoder(self.spec or "", **self.options)
        return self.opened

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "opened": None if self.spec is not None else self.opened}


@contextmanager
def in_precision(precision: str) -> Iterator[None]:
    """Let torch multiply matrices in bfloat16 (autocast) where the precision of an encoder is ``"bf16"``."""
    on = precision == "bf16"
    with (
        torch.autocast("cpu", torch.bfloat16, on),
        torch.autocast("cuda", torch.bfloat16, on and torch.cuda.is_available()),
    ):
        yield


def _has_stages(encoder: Encoder) -> bool:
    return hasattr(encoder, "frames") and hasattr(encoder, "encode_frames")


@dataclass(frozen=True)
class EmbeddingsSource:
    """The embeddings of a corpus as items of a store (`repkit.store.Source`).

    Attributes:
        corpus: where the sound comes from.
        encoder: what encodes it.
        max_duration_s: longest stretch of an utterance to decode; None for all.
        window: most utterances to encode at once.
        shard_size: of the store; a window ends where a shard ends, so that shards do not depend on each other.
        precision: ``"bf16"`` lets torch multiply matrices in bfloat16 (autocast).
    """

    corpus: Corpus
    encoder: EncoderHolder
    max_duration_s: float | None
    window: int
    shard_size: int
    precision: Literal["fp32", "bf16"] = "fp32"

    def items(self, start: int, stop: int | None) -> Generator[Item]:
        """Yield the embeddings of the utterances [start, stop)."""
        encoder = self.encoder.get()
        stages = _has_stages(encoder)
        encode: Any = encoder.encode_frames if stages else encoder.encode  # type: ignore[attr-defined]
        with closing(self._prepared(start, stop, encoder if stages else None)) as stream:
            for block in windows(stream, start, self.window, self.shard_size):
                given = [item.values for item in block if isinstance(item.values, np.ndarray)]
                with in_precision(self.precision):
                    found = list(encode(given))
                if len(found) != len(given):
                    raise PluginError(
                        f"encoder {encoder.name}: {len(found)} embeddings for {len(given)} sounds; one each was expected; mend it"
                    )
                results = iter(found)
                for item in block:
                    yield replace(item, values=next(results)) if isinstance(item.values, np.ndarray) else item

    def _prepared(self, start: int, stop: int | None, encoder: Any) -> Generator[Item]:
        """Yield what the encoder takes: waveforms, or frames made in a thread of their own."""
        if encoder is None:
            with closing(self._sounds(start, stop)) as sounds:
                yield from sounds
            return

        def frames() -> Generator[Item]:
            with closing(self._sounds(start, stop)) as sounds:
                for item in sounds:
                    if isinstance(item.values, np.ndarray):
                        yield replace(item, values=encoder.frames(item.values))
                    else:
                        yield item

        with closing(ahead(frames(), _size, name="frames")) as stream:
            yield from stream

    def _sounds(self, start: int, stop: int | None) -> Generator[Item]:
        with closing(decoded(self.corpus, start, stop, self.max_duration_s)) as stream:
            for utterance, sound in stream:
                if isinstance(sound, np.ndarray):
                    start_s = states_start_s(self.encoder.get(), sound)
                    yield Item(utterance.id, sound, len(sound) / SAMPLE_RATE, start_s)
                else:
                    yield Item(utterance.id, sound)


def _size(item: Item) -> int:
    return int(getattr(item.values, "nbytes", 0))


def windows(items: Iterator[Item], start: int, most: int, shard_size: int) -> Iterator[list[Item]]:
    """Cut a stream that begins at item `start` into lists of at most `most` items and about `AHEAD_BYTES`.

    None reaches over the end of a shard. Where one ends depends on nothing but the items since the shard's begin.
    """
    block: list[Item] = []
    size = 0
    for position, item in enumerate(items, start + 1):
        block.append(item)
        size += _size(item)
        if len(block) == most or size >= AHEAD_BYTES or position % shard_size == 0:
            yield block
            block, size = [], 0
    if block:
        yield block


__all__ = ["EmbeddingsSource", "EncoderHolder", "embed", "embeddings_spec", "in_precision", "windows"]
