def scaled(scale: int) -> int:
    return scale
