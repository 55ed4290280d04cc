"""What becomes of three times the load, and what others notice of it."""
import os
import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
import overload  # noqa: E402
from overload import drive  # noqa: E402

SECONDS = int(os.environ.get("ROPEWALK_OVERLOAD_SECONDS", "60"))


def test_three_times_the_load_is_refused_in_part_and_the_rest_is_done():
    with drive.private_stack(settings=overload.QUICK) as stack:
        load = overload.Load(stack, "chain10", 2)
        figures = overload.offer(load, 3, SECONDS)
        overload.tell(figures)
        assert overload.judge(figures) == []
        assert stack.faults_of_history() == []


def test_others_hardly_notice_who_floods(capsys):
    with drive.private_stack(workers=2) as stack:
        load = overload.Load(stack, "one", 2)
        figures = overload.fairness(load)
        with capsys.disabled():
            overload.tell_fairness(figures)
        for what, (p50, _) in figures.items():
            # without turns it would be the time of all 10,000: some seconds
            assert p50 < 4 * figures["alone"][0] + 1, f"{what}: {p50:.3f} s, alone {figures['alone'][0]:.3f} s"
