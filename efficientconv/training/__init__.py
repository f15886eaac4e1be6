"""Training, evaluation, and the run directory that every later tool reads."""
