"""What an export comes to: the stages from the trained network to the file, each with its figures."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from efficientconv.deploy.agreement import Agreement
from efficientconv.deploy.metadata import Metadata


@dataclass(frozen=True)
class Stage:
    """The network at one stage of its way out.

    Attributes:
        name: ``trained``, ``folded``, or what the file holds.
        params: number of parameters; None where the stage is a file.
        macs: multiply-adds for one image; None likewise.
        top1: accuracy on the test images that were used, a fraction of 1.
        against: how it agrees with the stage before it; None for the first.
    """

    name: str
    params: int | None
    macs: int | None
    top1: float
    against: Agreement | None

    def cells(self) -> list[str]:
        """Return what a table says of it: name, top-1, same top-1, largest difference, params, MACs."""
        found, counts = self.against, (self.params, self.macs)
        agreed = [f"{found.same_top1:.2%}", f"{found.difference:.1e}"] if found else ["", ""]
        return [self.name, f"{self.top1:.2%}", *agreed, *("" if count is None else f"{count:,}" for count in counts)]


@dataclass(frozen=True)
class Exported:
    """What was written, and how it was proved.

    Attributes:
        file: the network.
        card: the model card beside it.
        images: number of test images.
        stages: from the trained network to the file.
        metadata: what the file says of itself.
    """

    file: Path
    card: Path
    images: int
    stages: tuple[Stage, ...]
    metadata: Metadata
