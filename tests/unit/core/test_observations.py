"""What the world reported."""

import pytest

from dispatcher.core.observations import PodPhase
from tests.builders import a_pod_seen


@pytest.mark.parametrize(
    ("phase", "finished"),
    [
        (PodPhase.PENDING, False),
        (PodPhase.RUNNING, False),
        (PodPhase.UNKNOWN, False),
        (PodPhase.SUCCEEDED, True),
        (PodPhase.FAILED, True),
    ],
)
def test_a_pod_has_finished_once_it_will_not_run_again(phase: PodPhase, finished: bool) -> None:
    assert a_pod_seen(phase=phase).finished is finished
