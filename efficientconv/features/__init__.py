"""How alike a trained network's feature maps are: the papers' own motive for cheaper convolutions.

``maps`` what a stage makes of test images · ``similarity`` of these maps · ``picture`` runs side by side · ``tool``
"""
