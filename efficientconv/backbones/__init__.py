"""Plain networks, free of any convolution variant: ``backbone(num_classes) -> nn.Module``, images to logits.

``configs/model`` is their catalogue. A network's module is imported on first use, so that torchvision and timm are
imported only for networks that need them.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "by_name": ["timm_model", "torchvision_model"],
        "cifar": ["cifar_preresnet", "cifar_resnet", "wrn"],
        "doconv_sample": ["lenet_doconv_sample"],
        "imagenet_preresnet": ["basic_preresnet", "bottleneck_preresnet"],
        "imagenet_resnet": ["basic_resnet", "bottleneck_resnet", "bottleneck_resnet_v1", "plain_net"],
        "mobilenet": ["mobilenetv1", "mobilenetv2", "mobilenetv3_large", "mobilenetv3_small"],
        "vgg": ["VGG16"],
    },
)
