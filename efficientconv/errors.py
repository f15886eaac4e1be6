"""The one exception whose message is meant for the user and shown alone, without a traceback."""


class UserError(Exception):
    """Something the user can put right: the message says what was wrong, and what would work."""
