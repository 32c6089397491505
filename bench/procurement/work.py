"""What forwards of the released pair move and compute; the one module here that imports the model.

Importing it loads torch, so a command imports it late and hands `released_work` on.
"""

from bench.roofline import Group
from model import PRESETS
from model.precision import Precision
from model.work import ForwardKind, forward_work

_DIFFUSION = PRESETS["diffusiongemma-26b-a4b"]


def released_work(
    decoding: str,
    kind: ForwardKind,
    precision: str,
    *,
    context: int,
    batch_size: int = 1,
    new_tokens: int | None = None,
) -> list[Group]:
    """Op groups of one forward, with as many experts touched as uniform routing would touch.

    Args:
        context: cached positions of every row.
        new_tokens: positions a row; needed for a prefill.

    Raises:
        ValueError: a precision or a kind that the model does not have.
    """
    config = _DIFFUSION if decoding == "diffusion" else PRESETS[_DIFFUSION.sibling]
    return list(
        forward_work(
            config,
            kind,
            Precision(precision),
            context=context,
            batch_size=batch_size,
            new_tokens=new_tokens,
        )
    )
