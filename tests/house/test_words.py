"""How pages write figures: the same everywhere."""

import pytest

from webapp.ui import count, duration, is_type_of_numbers, size


@pytest.mark.parametrize(
    ("seconds", "said"),
    [(None, "–"), (0.34, "340 ms"), (0.9996, "1 s"), (5.0, "5 s"), (12.34, "12.3 s"), (59.97, "1 min"),
     (245, "4 min 5 s"), (900, "15 min"), (7380, "2 h 3 min"), (21600, "6 h"), (100_800, "1 d 4 h"), (86_460, "1 d")],
)  # fmt: skip
def test_a_length_of_time_is_said_in_its_two_largest_units(seconds: float | None, said: str) -> None:
    assert duration(seconds) == said


def test_numbers_have_groups_and_bytes_a_unit() -> None:
    assert [count(1_234_567), count(None)] == ["1,234,567", "–"]
    assert [size(999), size(1_500), size(2_000_000)] == ["999 B", "1.5 kB", "2.0 MB"]


def test_columns_of_numbers_are_known_by_their_type() -> None:
    numbers = ["BIGINT", "uinteger", "TINYINT", "DECIMAL(10,2)", "double"]
    assert [
        name for name in [*numbers, "VARCHAR", "BIGINT[]", "INTERVAL", "TIMESTAMP"] if is_type_of_numbers(name)
    ] == numbers
