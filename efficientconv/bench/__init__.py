"""Speed, side by side in one process: loaders beside plain ones, the training loop beside a bare one."""
