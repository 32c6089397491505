"""A device by the name that a user gives it, as torch has it."""

import torch


def torch_device(name: str) -> torch.device:
    """The device.

    Raises:
        ValueError: an unknown name, or a device that is not here.
    """
    try:
        device = torch.device(name)
    except RuntimeError:
        raise ValueError(f"device {name!r} is unknown; valid: cpu, cuda, cuda:N") from None
    if device.type == "cuda" and not torch.cuda.is_available():
        raise ValueError("device 'cuda' is not available here; valid: cpu")
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise ValueError(
            f"device {name!r} is not here; valid: cpu, cuda:0 to "
            f"cuda:{torch.cuda.device_count() - 1}"
        )
    return device
