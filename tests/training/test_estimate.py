import pytest

from eyebright.training.estimate import Estimate
from eyebright.training.fit import Report, StepReport


class Course:
    """Stands in for a Fit: 4 epochs of 20 steps, each step 0.5 s, validation 3 s."""

    class recipe:  # noqa: N801
        class training:  # noqa: N801
            epochs = 4

    class loader:  # noqa: N801
        steps = 20
        batch_size = 10

    val = range(60)
    epoch = 0
    step_in_epoch = 0

    def run(self, step_seconds=0.5, validation_seconds=3.0):
        step, first = 0, 5.0
        while self.epoch < 4:
            for _ in range(20):
                self.step_in_epoch += 1
                step += 1
                slow = first if step == 1 else 0.0
                yield StepReport(self.epoch + 1, step, self.step_in_epoch, 20, 1.0, 0.1, 10, step_seconds + slow)
            self.epoch, self.step_in_epoch = self.epoch + 1, 0
            seconds = 20 * step_seconds + validation_seconds + (first if self.epoch == 1 else 0.0)
            yield Report(self.epoch, step, 1, 0, 1, 0, 0.1, seconds, 20, False)


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


def test_after_an_epoch_the_time_left_is_exact():
    course = Course()
    estimate = Estimate(course)
    for report in course.run():
        estimate.take(report)
        if isinstance(report, Report):
            assert estimate.remaining() == pytest.approx((4 - report.epoch) * 13.0)
