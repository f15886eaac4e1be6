import pytest
import torch

from efficientconv.deploy.agreement import Agreement, agreement, require_agreement, run_batched, top1
from efficientconv.errors import UserError


def test_by_hand():
    reference = torch.tensor([[1.0, 4.0], [2.0, 1.0]])
    found = agreement(reference, torch.tensor([[1.0, 3.0], [0.0, 1.0]]))
    assert found == Agreement(difference=2.0, relative=0.5, same_top1=0.5)
    assert top1(reference, torch.tensor([1, 1])) == 0.5


def test_small_outputs_are_compared_as_they_are():
    assert agreement(torch.tensor([[0.5]]), torch.tensor([[0.25]])).relative == 0.25


@pytest.mark.parametrize("relative", [0.02, float("nan")])
def test_refuses_what_differs(relative):
    found = Agreement(difference=0.1, relative=relative, same_top1=1.0)
    with pytest.raises(UserError, match=r"format=x would change the network: .* 1e-02 is allowed; nothing was written"):
        require_agreement(found, 0.01, "format=x")
    require_agreement(Agreement(0.1, 0.009, 1.0), 0.01, "format=x")


def test_a_fixed_batch_is_filled_up():
    sizes = []

    def double(batch):
        sizes.append(len(batch))
        return 2 * batch

    images = torch.arange(10.0).view(10, 1)
    assert torch.equal(run_batched(double, images, 4), 2 * images)
    assert sizes == [4, 4, 4]
