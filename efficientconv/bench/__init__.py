"""Speed, side by side in one process: layers, whole networks, the training loop beside a bare one, data loaders."""
