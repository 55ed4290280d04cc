"""What organisations have of one another. Quantiles of one stack are compared with each other: how fast the machine is does not
matter, only who waits for whom."""
import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
import fairness  # noqa: E402
from fairness import quantile  # noqa: E402


def test_twenty_thousand_steps_of_another_do_not_double_the_time_of_a_run(capsys):
    with fairness.few_slots(16) as stack, fairness.Target() as target:
        notice, worst = fairness.Notice(stack, target), {}
        for schedulers, capacity in [(1, 16), (2, 16), (2, 64)]:
            fairness.change(stack, schedulers, capacity)
            beside, pace = notice.beside()
            with capsys.disabled():
                fairness.tell_notice(notice.alone, beside, pace, f", schedulers {schedulers}, slots {capacity}")
            worst[schedulers, capacity] = quantile(beside, 0.95)
    assert max(worst.values()) <= 2 * quantile(notice.alone, 0.95), worst
