from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from geodtr_lib.errors import ConfigError
from geodtr_lib.schedule import learning_rate_factor


def test_the_released_schedule_trains_its_first_epoch_at_zero() -> None:
    factors = [learning_rate_factor("per_epoch", epoch, 5, 200) for epoch in range(6)]
    assert factors == pytest.approx([0, 0.2, 0.4, 0.6, 0.8, 1.0])


def test_per_step_never_trains_at_zero() -> None:
    factors = [learning_rate_factor("per_step", step, 10, 100) for step in range(100)]
    assert factors[:10] == pytest.approx([(step + 1) / 10 for step in range(10)])
    assert max(factors) == 1.0
    assert min(factors) > 0
    assert all(later < earlier for earlier, later in itertools.pairwise(factors[10:]))
    assert factors[55] == pytest.approx(0.5)  # half way down


@given(schedule=st.sampled_from(["per_step", "per_epoch"]), position=st.integers(0, 500), warmup=st.floats(0, 40), total=st.floats(1, 500))
def test_the_factor_stays_in_its_range(schedule: str, position: int, warmup: float, total: float) -> None:
    assert 0 <= learning_rate_factor(schedule, position, warmup, total) <= 1


def test_without_warm_up_the_first_step_is_full() -> None:
    assert learning_rate_factor("per_step", 0, 0, 50) == 1.0
    assert learning_rate_factor("per_epoch", 0, 0, 50) == 1.0


def test_a_run_no_longer_than_its_warm_up_only_rises() -> None:
    assert [learning_rate_factor("per_step", step, 4, 4) for step in range(4)] == pytest.approx([0.25, 0.5, 0.75, 1.0])


def test_an_unknown_schedule_is_refused() -> None:
    with pytest.raises(ConfigError, match="'cosine' is not known; allowed: per_step, per_epoch"):
        learning_rate_factor("cosine", 0, 1, 2)
