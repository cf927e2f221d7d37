"""All laws hold in the worlds of the first 500 seeds: in chunks, so that two workers share them."""

from __future__ import annotations

import pytest

from dispatcher.simulator.run import run_seed

CHUNK = 25
SEEDS = 500


@pytest.mark.parametrize("first", range(0, SEEDS, CHUNK), ids=lambda first: f"seeds {first}-{first + CHUNK - 1}")
def test_all_laws_hold(first: int) -> None:
    for seed in range(first, first + CHUNK):
        result = run_seed(seed)
        assert result.held, (
            f"{result.law}: {result.text}\nreplay: python -m dispatcher.simulator --seed {seed} --trace\n"
            + "\n".join(result.last_lines)
        )
