"""Efficient convolutions, trained, measured and compared from one command line.

Importing the package imports nothing heavy: torch comes with the first submodule that needs it.
"""

__version__ = "0.1.0"
