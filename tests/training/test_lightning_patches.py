import torch
from torch import nn

from efficientconv.training.classifier import Classifier
from efficientconv.training.lightning_patches import Unprofiled


def test_one_context_for_everything_also_within_itself():
    profiler = Unprofiled()
    with profiler.profile("step") as outer, profiler.profile("forward") as inner:
        assert outer is inner is None
    assert profiler.profile("a") is profiler.profile("b")
    assert profiler.summary() == ""


def test_what_is_set_without_a_search_is_set_and_everything_else_is_registered():
    classifier = Classifier(nn.Linear(2, 2), 2)
    classifier._current_fx_name = "training_step"
    assert classifier._current_fx_name == "training_step"
    classifier.scale = nn.Parameter(torch.ones(1))
    assert "scale" in dict(classifier.named_parameters())
