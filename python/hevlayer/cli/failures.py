"""What a user reads when the system refuses something that a command needs."""


def sentence(error: OSError) -> str:
    """The reason, with the file if there is one, without Python's notation."""
    if error.strerror is None:
        return str(error)
    return error.strerror if error.filename is None else f"{error.strerror}: {error.filename}"
