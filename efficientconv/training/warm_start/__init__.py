"""Beginning with what is trained: the weights, the new layers, and what is learned from the network before.

::

    network         the network that a run trains, with the weights that it begins with
    weights         where these come from: a run, a file, or pretrained ones
    authors         the names that the five papers' own code gives them
    beginning       new layers begin near those that they replace
    reconstruction  or are fitted to their outputs, one after another
    norms           the statistics of the batch norms behind them
    freezing        what does not train
    teacher         the network that a run learns from, kept in its directory
    distillation    the loss that does so
"""
