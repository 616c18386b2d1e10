"""The first Ctrl-C ends a training behind the update at hand, the second one at once. Source: own design."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


@contextmanager
def stop_requests(enabled: bool) -> Iterator[threading.Event]:
    """Turn the first Ctrl-C or termination into an event, so that the update at hand is finished and saved.

    Args:
        enabled: False leaves the signals as they are, and so does any thread but the main one, which gets none.

    Yields:
        an event that is set when the training is to end.
    """
    stop = threading.Event()
    if not enabled or threading.current_thread() is not threading.main_thread():
        yield stop
        return
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def request(number: int, frame: Any) -> None:
        stop.set()
        signal.signal(number, before[number])  # the second one stops at once

    for number in before:
        signal.signal(number, request)
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
