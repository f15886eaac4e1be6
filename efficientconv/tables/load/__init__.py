"""Published figures and the files they are in."""
