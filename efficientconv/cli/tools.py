"""The list of tools: a new one needs an entry here and ``configs/<name>.yaml``; it is imported only where it runs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pkgutil import resolve_name
from typing import Any

from efficientconv.cli.words import (
    bench_words,
    data_additions,
    first_words,
    leading_words,
    list_of_paths,
    plain_words,
    report_words,
    tables_words,
)
from efficientconv.runs.names import composable


@dataclass(frozen=True)
class Tool:
    """A tool of the command line.

    Args:
        name: the word behind ``efficientconv``, and the name of its root configuration in ``configs``.
        summary: one line on what it does.
        examples: three command lines that run as they are, or with a data set or a run in place of the one named.
        function: ``module:function``. It is called with the composed configuration: plain dictionaries, lists and
            values, and beside the keys of ``configs/<name>.yaml``, ``choices``, the option of each group, and
            ``overrides``, the words of the command line.
        words: turns the words of the command line into overrides of Hydra's grammar.
        resolve: whether interpolations are resolved before the function is called.
    """

    name: str
    summary: str
    examples: tuple[str, str, str]
    function: str
    words: Callable[[Sequence[str]], list[str]] = plain_words
    resolve: bool = True

    def __call__(self, config: dict[str, Any]) -> None:
        """Do the work."""
        resolve_name(self.function)(config)


_ALL = (
    Tool(
        "train",
        "Trains a network with any convolution in it, or a sweep of networks.",
        (
            "python train.py model=resnet56 conv=bdrconv data=digits trainer.max_epochs=5",
            "python train.py -m model=resnet20,resnet56 conv=standard,bsconv_u seed=0,1,2 sweep=first",
            "python train.py resume=true run=outputs/runs/digits/resnet56-bdrconv/20261120-101500-3f2a",
        ),
        "efficientconv.training.job:train_job",
        words=composable,
    ),
    Tool(
        "eval",
        "Evaluates a run from its directory alone.",
        (
            "python eval.py run=outputs/runs/digits/resnet56-bdrconv/20261120-101500-3f2a",
            "python eval.py run=outputs/sweeps/first/conv-bsconv_u_model-resnet20_seed-0 weights=best",
            "python eval.py run=outputs/sweeps/first/conv-bsconv_u_model-resnet20_seed-0 data.root=/elsewhere",
        ),
        "efficientconv.cli.calls:evaluate",
        words=data_additions,
        resolve=False,  # the data's interpolations are of the run's configuration
    ),
    Tool(
        "profile",
        "Counts what a network costs: parameters and multiply-adds, by every paper's convention.",
        (
            "efficientconv profile model=resnet56 conv=bdrconv",
            "efficientconv profile model=resnet50 conv=spconv input_size=[3,224,224] classes=1000",
            "efficientconv profile model=resnet20 conv=bsconv_u depth=null json=profile.json",
        ),
        "efficientconv.cli.calls:profile",
    ),
    Tool(
        "tables",
        "Prints published tables: beside each figure the one that is computed, or measured.",
        (
            "efficientconv tables table=bsconv/cifar100_resnet",
            "efficientconv tables table=spconv 'row=*ResNet*' format=csv",
            "efficientconv tables table=doconv/sample run=true trainer.max_epochs=1 seed=0",
        ),
        "efficientconv.cli.calls:tables",
        words=tables_words,
    ),
    Tool(
        "bench",
        "Measures speed side by side: layers, networks, training steps, data loaders.",
        (
            "efficientconv bench layer conv=bdrconv,spconv",
            "efficientconv bench model conv=bsconv_u,bdrconv model=resnet20 json=bench.json plot=latency.png",
            "efficientconv bench step model=resnet20 conv=bsconv_u",
        ),
        "efficientconv.cli.calls:bench",
        words=bench_words,
    ),
    Tool(
        "sweep",
        "Says how far a sweep is, from another terminal: done, running, failed, left, and for how long.",
        (
            "efficientconv sweep status first",
            "efficientconv sweep status first outputs=elsewhere",
            "efficientconv sweep status outputs/sweeps/first",
        ),
        "efficientconv.sweeps.status:run",
        words=first_words("action", "sweep"),
    ),
    Tool(
        "report",
        "Makes one table of many runs: a row for each configuration, mean ± standard deviation over seeds.",
        (
            "efficientconv report outputs/sweeps/first",
            "efficientconv report outputs/sweeps/first format=html",
            "efficientconv report outputs/runs outputs/sweeps group_by=conv,model baseline=standard",
        ),
        "efficientconv.report.tool:run",
        words=report_words,
    ),
    Tool(
        "dashboard",
        "Makes a sweep's dashboard in Weights & Biases, or a file of it where there is no connection.",
        (
            "efficientconv dashboard sweep=first",
            "efficientconv dashboard sweep=first project=efficientconv entity=my-team",
            "efficientconv dashboard sweep=first offline=true",
        ),
        "efficientconv.report.dashboard:run",
    ),
    Tool(
        "features",
        "Shows how alike a network's feature maps are, a baseline and variants side by side.",
        (
            "efficientconv features run=outputs/sweeps/first/conv-bsconv_u_model-resnet20_seed-0",
            "efficientconv features run=outputs/runs/one,outputs/runs/two stage=stages.1 image=7",
            "efficientconv features run=outputs/runs/one,outputs/runs/two stage=stem save=features.png",
        ),
        "efficientconv.features.tool:features",
        words=list_of_paths("run"),
    ),
    Tool(
        "export",
        "Folds a finished run's network and writes it with a model card.",
        (
            "efficientconv export run=outputs/runs/digits/resnet56-bdrconv/20261120-101500-3f2a",
            "efficientconv export run=outputs/sweeps/first/conv-bsconv_u_model-resnet20_seed-0 preprocessing=true",
            "efficientconv export run=outputs/sweeps/first/conv-bsconv_u_model-resnet20_seed-0 quantize=int8",
        ),
        "efficientconv.deploy.tool:export_run",
        words=data_additions,
        resolve=False,
    ),
    Tool(
        "predict",
        "Names the classes of images, with a run's network or an exported one.",
        (
            "efficientconv predict run=outputs/runs/digits/resnet56-bdrconv/20261120-101500-3f2a photo.jpg",
            "efficientconv predict model.onnx photographs sheet=sheet.png",
            "efficientconv predict model.onnx photographs top=1 csv=classes.csv",
        ),
        "efficientconv.cli.calls:predict",
        words=leading_words("images"),
    ),
)
TOOLS = {tool.name: tool for tool in _ALL}
