"""The one error a user can cause: bad input, said in one line."""


class InputError(ValueError):
    """Bad input.

    The message is one line naming argument, value and what is allowed; the command line exits with code 2.
    """
