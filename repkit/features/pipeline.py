"""Stages that run at the same time, each in a thread of its own; the slowest sets the pace.

Decoding (libsndfile) and arithmetic (torch) leave Python's lock alone, so that two stages keep two cores busy. What waits
between two stages is limited in bytes, not in number: an hour of speech weighs as much as a thousand short utterances.
Source: own design.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import Any, TypeVar

T = TypeVar("T")

AHEAD_BYTES = 64 << 20
"""Bytes a stage may be ahead of the next: 17 minutes of speech as sound."""


class _Belt:
    """Items on their way from one thread to another."""

    def __init__(self, budget: int) -> None:
        self.changed = threading.Condition()
        self.items: deque[tuple[Any, int]] = deque()
        self.budget = budget
        self.waiting = 0  # bytes
        self.ended = False
        self.error: BaseException | None = None
        self.stopped = False

    def put(self, item: Any, size: int) -> bool:
        with self.changed:
            # an item larger than all that may wait goes alone
            self.changed.wait_for(lambda: self.stopped or not self.items or self.waiting + size <= self.budget)
            if self.stopped:
                return False
            self.items.append((item, size))
            self.waiting += size
            self.changed.notify_all()
            return True

    def take(self) -> Iterator[Any]:
        while True:
            with self.changed:
                while not self.items and not self.ended:
                    self.changed.wait(0.5)  # with an end, so that Ctrl-C is seen
                if not self.items:
                    if self.error is not None:
                        raise self.error
                    return
                item, size = self.items.popleft()
                self.waiting -= size
                self.changed.notify_all()
            yield item


def ahead(items: Iterable[T], size: Callable[[T], int], budget: int = AHEAD_BYTES, name: str = "stage") -> Iterator[T]:
    """Yield the items of an iterable that a thread runs ahead of; its errors come out here, in their place.

    Args:
        items: read in the thread, and closed there when this iterator is closed early.
        size: bytes of an item.
        budget: most bytes that may wait; one item always may.
        name: of the thread.

    Yields:
        the items in their order.
    """
    belt = _Belt(budget)

    def run() -> None:
        import torch

        torch.set_flush_denormal(True)  # a property of the thread
        try:
            for item in items:
                if not belt.put(item, size(item)):
                    break
        except BaseException as error:  # noqa: BLE001 - handed over to the thread that asked
            belt.error = error
        finally:
            close = getattr(items, "close", None)
            if close is not None:
                close()
            with belt.changed:
                belt.ended = True
                belt.changed.notify_all()

    thread = threading.Thread(target=run, daemon=True, name=name)
    thread.start()
    try:
        yield from belt.take()
    finally:
        with belt.changed:
            belt.stopped = True
            belt.changed.notify_all()
        thread.join(timeout=10)  # until what it is about is done; a decoder cannot be interrupted


__all__ = ["AHEAD_BYTES", "ahead"]
