"""Which options there are, and what they say of themselves."""

from typing import Any

import pytest

from models.quantizers import QUANTIZERS, build_quantizer
from tests.contracts.quantizers.options import OPTIONS, SIZES
from tests.contracts.quantizers.probes import Make, tail_of


def test_every_quantizer_is_held_to_the_laws() -> None:
    assert set(OPTIONS) == set(QUANTIZERS)
    assert all(OPTIONS.values())


def test_sizes_are_stated(make: Make, case: tuple[str, dict[str, Any]]) -> None:
    quantizer = make()
    assert quantizer.head_channels >= 1
    sizes = {name: getattr(quantizer, name) for name in ("codebook_size", "code_dim", "depth")}
    stated = {name: value for name, value in case[1].items() if name in sizes}
    assert stated == {name: sizes[name] for name in stated}
    shape = (*tail_of(quantizer), sizes["codebook_size"], sizes["code_dim"])
    assert quantizer.code_table().shape == shape


def test_the_rule_is_numbers_and_words(make: Make) -> None:
    for name, value in make().rule().items():
        assert isinstance(name, str)
        assert isinstance(value, float | str)


@pytest.mark.parametrize("method", QUANTIZERS)
def test_a_missing_size_is_named(method: str) -> None:
    given = {name: value for name, value in OPTIONS[method][0].items() if name in SIZES}
    last = [*given][-1] if given else "levels"
    given.pop(last, None)
    with pytest.raises(ValueError, match=f"{method}: missing a required argument: '{last}'"):
        build_quantizer(method, given)


@pytest.mark.parametrize("method", QUANTIZERS)
def test_an_unknown_option_is_named(method: str) -> None:
    with pytest.raises(ValueError, match=f"{method} has no option 'colour'; it takes"):
        build_quantizer(method, OPTIONS[method][0] | {"colour": 3})
