"""Ports of this machine for processes of a test to meet at."""

import socket


def free_port() -> int:
    """Return a port that no process listens at."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]
