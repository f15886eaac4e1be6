"""Weights & Biases and TensorBoard: what a run sends them, no step twice, and what a server that fails cannot stop.

::

    opening       the loggers of a run, and the lines that they leave
    wandb_run     a run in W&B, online as long as its server answers
    wandb_words   its name and its tags, from the command line
    logged_once   which steps were sent before a run was killed
    mistakes      the confusion matrix, each class, and the surest mistakes at the end
"""
