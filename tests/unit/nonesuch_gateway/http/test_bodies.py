"""Bodies that two readers could take for two things."""

import json

import pytest

from nonesuch_gateway.http.bodies import loads_once


@pytest.mark.parametrize("text", ["\ufeff{}", '\ufeff{"count": 4}', "\ufeff"])
def test_a_byte_order_mark_is_named(text: str) -> None:
    with pytest.raises(json.JSONDecodeError, match=r"begins with a byte order mark \(BOM\): send UTF-8 without one"):
        loads_once(text)
