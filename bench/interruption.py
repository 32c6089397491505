"""What ends a job from outside ends it in order: SIGTERM unwinds like Ctrl-C."""

import contextlib
import signal
import threading
from collections.abc import Iterator


@contextlib.contextmanager
def ended_like_interrupted() -> Iterator[None]:
    """SIGTERM, by which schedulers and a CI end a job, raises KeyboardInterrupt meanwhile.

    Only in the main thread, where signals arrive, and only where nobody else handles or ignores
    it. As a decorator it holds while the function runs.
    """
    in_main = threading.current_thread() is threading.main_thread()
    if not in_main or signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL:
        yield
        return
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
