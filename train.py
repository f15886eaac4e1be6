"""Train a network: ``python train.py model=resnet56 conv=bdrconv``."""

from efficientconv.cli import train

if __name__ == "__main__":
    train()
