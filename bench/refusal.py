"""What a user can mend, told from a fault of canvasbench itself.

Whatever a user can cause ends in a `raise` of this project's own: a ValueError that names the value
and the valid choices. A ValueError of anybody else, as of int(), an unpacking or numpy, got past
the checks that should have met it, and its message helps nobody without its traceback.
"""

import dis

_OURS = ("bench", "model")


def is_refusal(error: BaseException) -> bool:
    """Whether an error is a ValueError that began in a `raise` statement of this project."""
    origin = error.__traceback__
    if origin is None or not isinstance(error, ValueError):
        return False
    while origin.tb_next is not None:
        origin = origin.tb_next
    package = str(origin.tb_frame.f_globals.get("__package__")).partition(".")[0]
    instruction = origin.tb_frame.f_code.co_code[origin.tb_lasti]
    return package in _OURS and dis.opname[instruction] == "RAISE_VARARGS"
