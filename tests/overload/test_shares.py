"""How slots are shared out among organisations, and work among workers: what is counted is who began, in which order, and not when."""
import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
import fairness  # noqa: E402


def test_organisations_get_slots_by_weight(capsys):
    with fairness.few_slots(16) as stack, fairness.Target() as target:
        got = fairness.shares(stack, target, [1, 1, 3])
    with capsys.disabled():
        print(f"\nbegun of organisations of weights 1, 1 and 3: {got}")
    assert 0.5 <= got[0] / got[1] <= 2 and 2 <= got[2] / ((got[0] + got[1]) / 2) <= 4.5, got


def test_a_fan_is_spread_over_the_workers_and_one_that_comes_later_gets_some(capsys):
    with fairness.few_slots(16, workers=4) as stack, fairness.Target() as target:
        got = fairness.spread(stack, target)
        with capsys.disabled():
            print(f"\na fan of 500 over 4 workers: {sorted(got.values())}")
        assert len(got) == 4 and max(got.values()) <= 2 * min(got.values()), got
        for name in ("worker-2", "worker-3", "worker-4"):
            stack.stack("stop", name)
        took, others = fairness.newcomer(stack, target)
        with capsys.disabled():
            print(f"a worker that came while another was busy had its first result after {took:.2f} s, behind {others} of the other's")
        assert others <= 6 * 16, "what the other has taken is more than it can do"
