"""Efficient convolutions, trained, measured, compared and deployed from one command line.

::

    train.py, eval.py ── cli ── Hydra composes configs/ ──┐
                                                          │ model: backbones   conv: layers
                                        compose ◄─────────┤ puts the convolution into the network, and reports it
                                           │              │ data: datasets ◄── loaders ◄── transforms
                                           ▼              ▼
                              training: Classifier, ImageData and Lightning's Trainer
                                           │
                                           ▼
                              runs: the run directory ──► evaluation, report, tables, deploy

    layers/        one paper, one file; ConvVariant is the contract
    native/        layers as one operator in C++, compiled on this machine when first needed
    backbones/     plain networks, which know nothing of variants
    compose/       selection, replacement, rewiring, report of what was replaced
    profiling/     params and MACs, by every paper's convention
    datasets/      which images there are        loaders/     batches of them, exact over a restart
    transforms/    augmentation                  training/    fit, checkpoints, signals, several devices
    runs/          names, files and configurations of runs; imports no torch
    sweeps/        which jobs are left, and the engines that run them; imports no torch
    report/        many runs: one table, its statistics and plots; imports no torch
    tables/        published figures: load · count · measure · render
    deploy/        fold, export, predict         features/    how alike feature maps are
    bench/         speed, side by side
    cli/           every tool's front door: one entry a tool, one line an error

An import goes to the left or up, never back. Importing the package imports nothing heavy: torch comes with the first
submodule that needs it.
"""

__version__ = "0.1.0"
