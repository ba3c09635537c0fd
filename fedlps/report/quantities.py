"""Numbers with their units, as people read them."""

SIZES = ((1e12, "TB"), (1e9, "GB"), (1e6, "MB"), (1e3, "kB"))


def percent(value: float) -> str:
    """Two digits behind the point; the unit stands in the label."""
    return f"{value:.2f}"


def flops(count: float) -> str:
    """Four significant digits."""
    return f"{count:.3e}".replace("e+", "e")


def size(count: float) -> str:
    """Bytes in a decimal unit."""
    for unit, name in SIZES:
        if count >= unit:
            return f"{count / unit:.1f} {name}"
    return f"{count:.0f} B"


def duration(seconds: float) -> str:
    """m:ss or h:mm:ss; below a minute seconds with up to three digits."""
    if seconds < 59.5:
        return f"{seconds:.3g} s"
    return clock(seconds)


def clock(seconds: float) -> str:
    """m:ss or h:mm:ss."""
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02}:{rest:02}" if minutes >= 60 else f"{minutes}:{rest:02}"
