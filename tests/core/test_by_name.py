"""Looking up what has a name."""

from __future__ import annotations

import pytest

from stratos.config import StudentConfig
from stratos.core.names import find, named

ONES = (StudentConfig("small"), StudentConfig("large"))


def test_what_has_the_name_is_found() -> None:
    assert find(ONES, "large") is ONES[1] and named(iter(ONES), "small") is ONES[0]


def test_what_is_not_there_is_none_or_an_error() -> None:
    assert find(ONES, "middle") is None
    with pytest.raises(KeyError, match="middle"):
        named(ONES, "middle")
