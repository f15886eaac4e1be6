"""What is handed to C++ by its address is what C++ takes it for."""

from __future__ import annotations

import pytest
import torch

from efficientconv.native.library import _address, _argument


@pytest.mark.parametrize(
    "array",
    [torch.zeros(2, 3).t(), torch.zeros(4, dtype=torch.float64), torch.zeros(8)[::2], torch.zeros(2, device="meta")],
    ids=["transposed", "float64", "gaps", "meta"],
)
def test_other_arrays_are_refused(array):
    with pytest.raises(ValueError, match="must be contiguous float32 on the CPU"):
        _argument(array)
    with pytest.raises(ValueError, match="must be contiguous float32 on the CPU"):
        _argument([torch.zeros(1), array])


def test_a_structure_holds_the_addresses_in_order():
    arrays = [torch.zeros(2), torch.zeros(3, 4)]
    assert list(_argument(arrays)) == [array.data_ptr() for array in arrays]
    assert _argument(arrays[0]).value == _address(arrays[0])
