"""Answers in the order of the questions, and never many ahead."""

import threading
import time

import pytest

from ercohort.turns import in_turn


def test_answers_come_in_order_whichever_is_ready_first():
    def work(n):
        time.sleep(0.02 if n % 3 == 0 else 0.0)
        return n * n

    assert list(in_turn(work, range(20))) == [n * n for n in range(20)]
    assert list(in_turn(work, [])) == []


def test_no_more_is_begun_than_a_few_ahead():
    begun = []
    answers = in_turn(lambda n: begun.append(n), range(1000))
    next(answers)
    time.sleep(0.1)
    assert len(begun) <= 9
    answers.close()
    assert threading.active_count() < 20


def test_an_error_arrives_where_its_answer_would():
    def work(n):
        if n == 3:
            raise KeyError(n)
        return n

    answers = in_turn(work, range(100))
    assert [next(answers) for _ in range(3)] == [0, 1, 2]
    with pytest.raises(KeyError):
        next(answers)
