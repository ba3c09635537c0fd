"""What a shell may complete a word with."""


def completed(incomplete: str) -> list[str]:
    """The presets, keys and values of keys that a word of `fedlps run` may become."""
    from fedlps.run.keys import ROWS
    from fedlps.run.resolve import presets

    key, equals, _ = incomplete.partition("=")
    if equals:
        words = [f"{key}={word}" for word in ROWS[key].words] if key in ROWS else []
    else:
        words = [*presets(), *(f"{key}=" for key in ROWS)]
    return [word for word in words if word.startswith(incomplete)]
