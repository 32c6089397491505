"""Programmatic dependent launch: a kernel's blocks start while the kernel before it drains.

Every kernel that takes part calls `launch_jit.begin` before its first access to memory, which keeps
the order of a stream: it waits until all earlier kernels are complete. Off unless switched on.
"""

_enabled = False


def set_dependent_launch(enabled: bool) -> None:
    """For all launches (and graph captures) from here on; CUDA only."""
    global _enabled
    _enabled = enabled


def launch_options() -> dict[str, bool]:
    """Keyword arguments for a kernel that has a PDL constexpr and calls `launch_jit.begin`."""
    return {"PDL": True, "launch_pdl": True} if _enabled else {"PDL": False}
