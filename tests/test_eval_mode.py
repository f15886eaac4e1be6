import pytest
import torch
from torch import nn

from efficientconv.eval_mode import in_eval_mode


def test_each_module_goes_back_to_the_mode_that_it_was_in_also_behind_an_error():
    model = nn.Sequential(nn.Linear(2, 2), nn.Sequential(nn.BatchNorm1d(2), nn.Dropout()))
    model[1][0].eval()
    before = [module.training for module in model.modules()]
    with in_eval_mode(model):
        assert not any(module.training for module in model.modules())
        model[0].train()
    assert [module.training for module in model.modules()] == before == [True, True, True, False, True]
    with pytest.raises(RuntimeError, match="shapes"), in_eval_mode(model):
        model(torch.zeros(1, 3))
    assert [module.training for module in model.modules()] == before
