import math

import pytest

from eyebright.training.estimate import Estimate
from eyebright.training.fit import Report, StepReport


class Course:
    """Stands in for a Fit: 4 epochs of 20 steps, each step 0.5 s, validation 3 s."""

    class recipe:  # noqa: N801
        class training:  # noqa: N801
            epochs = 4
            sides = ()

    class loader:  # noqa: N801
        steps = 20
        batch_size = 10

    val = range(60)
    size = (32, 40)
    epoch = 0
    step_in_epoch = 0

    @property
    def step(self):
        return self.epoch * 20 + self.step_in_epoch

    def size_at(self, step, size):
        return size

    def run(self, step_seconds=0.5, validation_seconds=3.0):
        first = 5.0
        while self.epoch < 4:
            for _ in range(20):
                slow = first if self.step == 0 else 0.0
                slow += step_seconds * math.prod(self.size_at(self.step, self.size)) / math.prod(self.size)
                self.step_in_epoch += 1
                yield StepReport(self.epoch + 1, self.step, self.step_in_epoch, 20, 1.0, 0.1, 10, slow)
            self.epoch, self.step_in_epoch = self.epoch + 1, 0
            seconds = 20 * step_seconds + validation_seconds + (first if self.epoch == 1 else 0.0)
            yield Report(self.epoch, self.step, 1, 0, 1, 0, 0.1, seconds, 20, False)


class Growing(Course):
    """The same with pictures that have a quarter of their area up to step 24."""

    class recipe:  # noqa: N801
        class training:  # noqa: N801
            epochs = 4
            sides = ((0.0, 16), (0.3, 32))

    def size_at(self, step, size):
        return (16, 20) if step < 24 else size


def test_a_slow_first_step_does_not_mislead_and_the_first_word_is_near_the_truth():
    course = Course()
    estimate = Estimate(course)
    heard = []
    for report in course.run():
        estimate.take(report)
        heard.append(estimate.first)
    assert heard.index(next(word for word in heard if word)) == 9  # after 10 steps
    truth = 5 + 80 * 0.5 + 4 * 3
    assert estimate.spent == pytest.approx(truth)
    assert heard[-1] == pytest.approx(truth, rel=0.2)


def test_small_pictures_at_first_do_not_mislead():
    course = Growing()
    estimate = Estimate(course)
    for report in course.run():
        estimate.take(report)
        if isinstance(report, StepReport) and report.step == 10:
            steps = (14 * 0.25 + 56) * 0.5
            validation = 4 * 60 * 0.5 / 10 / 3
            assert estimate.remaining() == pytest.approx(steps + validation)
            break
    else:
        pytest.fail("no tenth step")


def test_after_an_epoch_the_time_left_is_exact():
    course = Course()
    estimate = Estimate(course)
    for report in course.run():
        estimate.take(report)
        if isinstance(report, Report):
            assert estimate.remaining() == pytest.approx((4 - report.epoch) * 13.0)


def test_a_first_step_in_which_all_is_compiled_says_nothing_of_the_rest():
    """Neither is its time taken for that of others, nor does it make the estimate speak sooner."""
    estimate = Estimate(Course())
    for number, seconds in enumerate([60.0, *[0.5] * 20], 1):
        estimate.take(StepReport(1, number, number, 20, 1.0, 0.1, 10, seconds))
        assert (estimate.first is not None) == (number >= 10), number
    slow = Estimate(Course())
    for number in range(1, 6):
        slow.take(StepReport(1, number, number, 20, 1.0, 0.1, 10, 6.0))
        assert (slow.first is not None) == (number >= 4), number  # two of 6 s after two to settle
