"""Processes that work through tasks: results come in the order of the tasks, whoever does them.

Workers are spawned, never forked: the parent may hold threads and a GPU. They die with the process that started them.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeVar

Task = TypeVar("Task")
Result = TypeVar("Result")


@dataclass(frozen=True)
class Pool:
    """So many worker processes; one is this very process."""

    workers: int
    executor: ProcessPoolExecutor | None = None

    def each(self, work: Callable[[Task], Result], tasks: Iterable[Task]) -> Iterator[Result]:
        """Results in the order of the tasks, of which few are taken ahead. Raises what the work raises.

        Raises ValueError if a worker dies.
        """
        if self.executor is None:
            yield from map(work, tasks)
            return
        waiting: deque[Future[Result]] = deque()
        try:
            for task in tasks:
                waiting.append(self.executor.submit(work, task))
                if len(waiting) > 2 * self.workers:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        except BrokenProcessPool:
            raise ValueError("corpus.workers: a worker process died (of memory, or for want of "
                             "`if __name__ == '__main__':` in a script); type corpus.workers=1") from None  # fmt: skip
        finally:
            for future in waiting:
                future.cancel()


@contextmanager
def pool(workers: int) -> Iterator[Pool]:
    """Starts the workers, and ends them when the block ends."""
    if workers == 1:
        yield Pool(1)
        return
    context = multiprocessing.get_context("spawn")
    executor = ProcessPoolExecutor(workers, context, initializer=_start)
    try:
        yield Pool(workers, executor)
    finally:
        executor.shutdown(cancel_futures=True)


def _start() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent hears it too, and ends the workers
    os.environ["TOKENIZERS_PARALLELISM"] = "false"  # there are as many workers as there should be threads
    threading.Thread(target=_follow, daemon=True).start()


def _follow() -> None:
    """Ends this process when its parent is no more; the queue alone would wait for ever after a kill -9."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
