"""Work in threads whose results come in the order of the questions, a few ahead and no more."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

Question = TypeVar("Question")
Answer = TypeVar("Answer")


def in_turn(work: Callable[[Question], Answer], questions: Iterable[Question]) -> Iterator[Answer]:
    """Yield `work(question)` for every question, in their order.

    There are as many threads as processors that may be used, four at most; as many answers wait.
    """
    threads = min(4, len(os.sched_getaffinity(0)))
    ahead: deque[Future[Answer]] = deque()
    with ThreadPoolExecutor(threads) as pool:
        try:
            for question in questions:
                ahead.append(pool.submit(work, question))
                if len(ahead) > threads:
                    yield ahead.popleft().result()
            while ahead:
                yield ahead.popleft().result()
        finally:
            for future in ahead:
                future.cancel()
