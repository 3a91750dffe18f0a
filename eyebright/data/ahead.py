"""Work that threads do a little ahead of whoever takes its results."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


def ahead(work: Callable[[Item], Result], items: Iterable[Item], workers: int) -> Generator[Result, None, None]:
    """What `work` makes of each item, in order; threads are at most one item each ahead.

    Args:
        work: a function whose time passes outside of Python: reading, decoding, tensors.
        items: taken one after the other, when there is a thread for them.
        workers: threads; 0: none, each item is worked on when it is asked for.

    Raises:
        Exception: the first one in order that `work` raises. Whoever closes the generator ends the threads.
    """
    if workers == 0:
        yield from map(work, items)
        return
    with ThreadPoolExecutor(workers, thread_name_prefix="eyebright-ahead") as pool:
        waiting: deque[Future[Result]] = deque()
        try:
            for item in items:
                waiting.append(pool.submit(work, item))
                if len(waiting) > workers:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()
