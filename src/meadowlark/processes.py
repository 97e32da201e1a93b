"""Work on many items by all cores, in order and in bounded memory: one way for every stage.

Few items are done in this process, since starting others takes seconds. More go to fresh processes
(a fork of one that has run torch may hang), never more than twice as many at a time as there are
processes. A script that calls a stage over many rows needs ``if __name__ == "__main__":``, as
everything does that starts processes.
"""

from __future__ import annotations

import gc
import itertools
import multiprocessing
import os
import signal
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from typing import Any, TypeVar

Item = TypeVar("Item")
Made = TypeVar("Made")


def in_order(
    work: Callable[[Item], Made], items: Iterable[Item], *, few: int, workers: int = 0
) -> Iterator[tuple[Item, Made]]:
    """Each item with what ``work`` made of it, in the items' order.

    Up to ``few`` items are done here, as all are with one worker; with 0 the processes start
    before the first item is asked for. ``workers`` 0 takes as many processes as there are cores.
    ``work`` and the items must be picklable; each process gets ``work`` once.
    """
    items = iter(items)
    head = list(itertools.islice(items, few + 1)) if few else []
    everything = itertools.chain(head, items)
    workers = workers or len(os.sched_getaffinity(0))
    if 0 < few >= len(head) or workers == 1:
        for item in everything:
            yield item, work(item)
        return
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(workers, context, _begin, (work,))
    for _ in range(0 if few else workers):
        _submit(pool, _wait)
    try:
        waiting: deque[tuple[Item, Future[Made]]] = deque()
        for item in everything:
            waiting.append((item, _submit(pool, _do, item)))
            if len(waiting) > 2 * workers:
                done, future = waiting.popleft()
                yield done, future.result()
        while waiting:
            done, future = waiting.popleft()
            yield done, future.result()
    finally:  # what was begun is finished and nothing else, when an error or the reader ends it
        pool.shutdown(cancel_futures=True)


def _submit(pool: ProcessPoolExecutor, function: Callable[..., Made], *items: Any) -> Future[Made]:
    """Hand work over. A process that starts here is deaf to Ctrl-C: this one ends it."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])
    try:
        return pool.submit(function, *items)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


_work: Callable[[Any], Any]


def _begin(work: Callable[[Any], Any]) -> None:
    global _work
    os.environ["TOKENIZERS_PARALLELISM"] = "false"  # the processes are the parallelism
    gc.freeze()  # what was imported stays: no collection needs to look at it again
    threading.Thread(target=_end_with_parent, daemon=True).start()
    _work = work


def _end_with_parent() -> None:
    """End this process when the one that started it is gone, were it killed."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)


def _wait() -> None:
    """Nothing: the process is there."""


def _do(item: Any) -> Any:
    return _work(item)
