"""Processes that work through tasks: results come in the order of the tasks, whoever does them.

Workers are fresh interpreters, never forks: the parent may hold threads and a GPU. Nor do they run the parent's script
again, as those of `multiprocessing` do. They end with the process that started them, since their input ends with it.
"""

from __future__ import annotations

import os
import pickle
import signal
import subprocess
import sys
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from queue import SimpleQueue
from typing import IO, Any, TypeVar

from ablate.core.child_processes import python

Task = TypeVar("Task")
Result = TypeVar("Result")
Worker = subprocess.Popen[bytes]


@dataclass(frozen=True)
class Pool:
    """So many worker processes, those of them that are idle, and a thread for each; one is this very process."""

    workers: int
    idle: SimpleQueue[Worker] | None = None
    threads: ThreadPoolExecutor | None = None

    def each(self, work: Callable[[Task], Result], tasks: Iterable[Task]) -> Iterator[Result]:
        """Results in the order of the tasks, of which few are taken ahead. Raises what the work raises.

        Raises ValueError if a worker dies.
        """
        if self.threads is None:
            yield from map(work, tasks)
            return
        waiting: deque[Future[Result]] = deque()
        try:
            for task in tasks:
                waiting.append(self.threads.submit(self._ask, work, task))
                if len(waiting) > 2 * self.workers:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()

    def _ask(self, work: Callable[[Task], Result], task: Task) -> Result:
        assert self.idle is not None
        worker = self.idle.get()
        try:
            assert worker.stdin is not None
            assert worker.stdout is not None
            pickle.dump((work, task), worker.stdin)
            worker.stdin.flush()
            failed, answer = pickle.load(worker.stdout)  # of a process that this one started  # nosec B301
        except (EOFError, OSError, pickle.UnpicklingError):
            raise ValueError(
                f"corpus.workers: a worker process died (status {worker.wait()}; of memory?); type corpus.workers=1"
            ) from None
        finally:
            self.idle.put(worker)
        if failed:
            raise answer
        return answer


@contextmanager
def pool(workers: int) -> Iterator[Pool]:
    """Starts the workers, and ends them when the block ends."""
    if workers == 1:
        yield Pool(1)
        return
    # there are as many workers as there should be threads
    command, surroundings = python("from ablate.text.process_pool import serve; serve()")
    surroundings |= {"TOKENIZERS_PARALLELISM": "false"}
    started: list[Worker] = []
    idle: SimpleQueue[Worker] = SimpleQueue()
    threads = ThreadPoolExecutor(workers)
    try:
        for _ in range(workers):
            started.append(subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=surroundings))
            idle.put(started[-1])
        yield Pool(workers, idle, threads)
    finally:
        for worker in started:
            worker.kill()  # what it is at is left unfinished under a temporary name, if at all
        threads.shutdown(cancel_futures=True)
        for worker in started:
            worker.communicate()


def serve() -> None:
    """What a worker does: tasks from its input, answers to its output, until the input ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent hears it too, and ends the workers
    tasks, answers = sys.stdin.buffer, os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # whatever is printed here is no answer
    while (asked := _next(tasks)) is not None:
        work, task = asked
        try:
            answer = False, work(task)
        except Exception as error:
            answer = True, error
        pickle.dump(answer, answers)
        answers.flush()


def _next(tasks: IO[bytes]) -> tuple[Callable[[Any], Any], Any] | None:
    try:
        return pickle.load(tasks)  # of the process that started this one  # nosec B301
    except EOFError:
        return None
