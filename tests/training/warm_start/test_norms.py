import torch
from torch import nn

from efficientconv.layers import ACConv2d, SPConv2d
from efficientconv.training.warm_start.norms import estimate_norms


def images(count=3, channels=4):
    torch.manual_seed(1)
    return [1 + 2 * torch.randn(8, channels, 6, 6) for _ in range(count)]


def test_norms_behind_a_changed_layer_get_the_mean_of_the_batches_and_those_in_front_stay():
    torch.manual_seed(0)
    front, changed, behind = nn.BatchNorm2d(4), nn.Conv2d(4, 4, 3), nn.BatchNorm2d(4)
    model = nn.Sequential(front, changed, behind)
    before = {key: value.clone() for key, value in front.state_dict().items()}
    batches = images()
    assert estimate_norms(model, [], [changed], iter(batches)) == 1
    assert all(torch.equal(value, before[key]) for key, value in front.state_dict().items())
    assert model.training
    assert behind.momentum == 0.1
    with torch.no_grad():
        outputs = [changed(front.eval()(batch)) for batch in batches]
    means, variances = (torch.stack([f(y) for y in outputs]).mean(0) for f in (mean_of, variance_of))
    assert torch.allclose(behind.running_mean, means, atol=1e-5)
    assert torch.allclose(behind.running_var, variances, atol=1e-4)


def mean_of(y):
    return y.mean((0, 2, 3))


def variance_of(y):
    return y.var((0, 2, 3))


def test_norms_inside_a_near_layer_stay_transparent_and_training_begins_where_evaluation_does():
    torch.manual_seed(0)
    conv, layer = nn.Conv2d(4, 8, 3, padding=1), ACConv2d(4, 8, 3, padding=1)
    layer.approximate(conv.weight.detach(), conv.bias.detach())
    batches = images()
    estimate_norms(nn.Sequential(layer), [layer], [], batches)
    x = torch.cat(batches)
    wanted = conv(x)
    assert torch.allclose(layer.eval()(x), wanted, atol=1e-4)
    assert torch.allclose(layer.train()(x), wanted, atol=1e-3)
    assert layer.square.bn.running_var.mean() > 0.1  # of its own input, no more that of a fresh norm
    assert not torch.allclose(layer.square.bn.running_mean, torch.zeros(8), atol=0.01)


def test_both_sides_of_a_fusion_settle_at_the_same_mean():
    torch.manual_seed(0)
    conv, layer = nn.Conv2d(4, 8, 3, padding=1), SPConv2d(4, 8, 3, padding=1)
    layer.approximate(conv.weight.detach(), conv.bias.detach())
    x = torch.cat(images())
    estimate_norms(nn.Sequential(layer), [layer], [], [x])
    layer.settle()
    representative, redundant = x.split(layer.split, 1)
    y1 = layer.bn1(layer.gwc(representative) + layer.pwc(representative))
    y2 = layer.bn2(layer.conv1x1(redundant))
    assert torch.allclose(mean_of(y1), mean_of(y2), atol=1e-4)
    assert torch.equal(layer.bn1.bias, layer.bn2.bias)


def test_without_a_changed_layer_no_norm_of_the_network_is_estimated():
    model = nn.Sequential(nn.Conv2d(4, 4, 3), nn.BatchNorm2d(4))
    assert estimate_norms(model, [], [], images()) == 0
    assert torch.equal(model[1].running_mean, torch.zeros(4))
