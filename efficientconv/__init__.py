"""Efficient convolutions, trained, measured and compared from one command line.

::

    train.py, eval.py ── cli ── Hydra composes configs/ ──┐
                                                          │ model: backbones   conv: layers
                                        compose ◄─────────┤ puts the convolution into the network, and reports it
                                           │              │ data: datasets ◄── loaders ◄── transforms
                                           ▼              ▼
                              training: Classifier, ImageData and Lightning's Trainer
                                           │
                                           ▼
                              runs: the run directory ──► evaluation, tables, bench

    layers/        one paper, one file; ConvVariant is the contract
    backbones/     plain networks, which know nothing of variants
    compose/       selection, replacement, rewiring, report
    profiling/     params and MACs, by every paper's convention
    datasets/      which images there are        loaders/     batches of them, exact over a restart
    transforms/    augmentation                  training/    fit, checkpoints, signals, several devices
    runs/          names, files and configurations of runs; imports no torch
    tables/        published figures: load · count · measure · render
    bench/         speed, side by side

An import goes to the left or up, never back. Importing the package imports nothing heavy: torch comes with the first
submodule that needs it.
"""

__version__ = "0.1.0"
