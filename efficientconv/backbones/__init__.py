"""Plain networks, free of any convolution variant: ``backbone(num_classes) -> nn.Module``, images to logits.

``configs/model`` is their catalogue. One module a family, imported on demand, so that only who asks for a network of
torchvision or timm waits for that library.
"""
