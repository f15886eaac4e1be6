"""Speed, side by side in one run: loaders with what they stand in for, the training loop with a bare one."""
