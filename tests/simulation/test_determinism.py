"""Law 7: the same seed gives the same trace, byte for byte, whatever the order of sets in a process happens to be."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from dispatcher.simulator.run import run_seed

_DIGESTS = "from dispatcher.simulator.run import run_seed; print(*(run_seed(seed).digest for seed in range({}, {})))"


def _digests(first: int, last: int, hash_seed: str) -> list[str]:
    environment = {**os.environ, "PYTHONHASHSEED": hash_seed}
    command = [sys.executable, "-c", _DIGESTS.format(first, last)]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout.split()


def test_two_processes_give_the_same_traces_whatever_their_hash_seed() -> None:
    first, second = _digests(0, 15, "1"), _digests(0, 15, "4711")
    assert len(first) == 15
    assert first == second


@pytest.mark.parametrize("seed", [3, 8])
def test_every_line_of_a_trace_is_the_same_when_it_is_run_again(seed: int) -> None:
    first: list[str] = []
    second: list[str] = []
    run_seed(seed, first.append)
    run_seed(seed, second.append)
    assert first
    assert first == second


def test_two_seeds_give_different_worlds() -> None:
    assert run_seed(1).digest != run_seed(2).digest
