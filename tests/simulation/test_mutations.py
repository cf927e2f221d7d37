"""Every wrong rule is caught by a law, and by one that it is meant to break: or the simulator would prove nothing."""

from __future__ import annotations

import pytest

from dispatcher.simulator.mutations import HARMLESS, MUTATIONS, Mutation, hunt

pytestmark = pytest.mark.timeout(600)
"""A hunt is bounded by its seeds; on a busy machine, and under coverage, they take their time."""


def test_there_are_enough_of_them_and_each_says_what_is_wrong() -> None:
    assert len(MUTATIONS) >= 12
    assert len({mutation.name for mutation in MUTATIONS}) == len(MUTATIONS)
    assert all(mutation.sentence and mutation.caught_by for mutation in MUTATIONS)


@pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda mutation: mutation.name)
def test_a_mutation_is_caught_by_its_law(mutation: Mutation) -> None:
    found = hunt(mutation)
    assert found.law in mutation.caught_by, f"{found.law} after {found.seeds} seeds: {found.text}"


@pytest.mark.parametrize("mutation", HARMLESS, ids=lambda mutation: mutation.name)
def test_what_is_said_to_be_harmless_breaks_no_law(mutation: Mutation) -> None:
    found = hunt(mutation, seeds_max=60)
    assert found.law is None, f"{found.law} after {found.seeds} seeds: {found.text}"
