"""The one exception that users see: a sentence saying what is wrong and what to do about it."""


class HeadsplatError(Exception):
    """Bad input or a missing piece, worded for the person at the keyboard.

    The message is one sentence that says what is wrong and what to do. The command line prints it and exits
    with status 2; library callers catch this type to tell a user's mistake from a bug.
    """
