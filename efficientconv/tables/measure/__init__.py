"""What a row reaches, measured: its runs, how they differ from what was published, and the training of missing ones."""
