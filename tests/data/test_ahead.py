import threading

import pytest

from eyebright.data.ahead import ahead


def test_threads_keep_the_order_stay_few_and_end():
    seen, before = [], threading.active_count()
    for number in ahead(lambda index: seen.append(index) or index**2, range(100), 3):
        if number == 49**2:
            break
    assert len(seen) < 70
    assert threading.active_count() == before
    assert list(ahead(lambda index: index, [5, 3, 4], 2)) == [5, 3, 4]
    with pytest.raises(ZeroDivisionError):
        list(ahead(lambda index: 1 // index, [2, 1, 0, 1], 2))


@pytest.mark.parametrize("workers", [0, 1, 3])
def test_results_come_in_order_whatever_the_number_of_workers(workers):
    assert list(ahead(lambda item: item * 2, [5, 3, 4, 1], workers)) == [10, 6, 8, 2]


def test_items_are_taken_when_there_is_a_thread_for_them():
    taken = []
    items = (taken.append(number) or number for number in range(100))
    running = ahead(str, items, 2)
    assert next(running) == "0"
    running.close()
    assert taken == [0, 1, 2]
