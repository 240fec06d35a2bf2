"""The runtime that is installed: LiteRT, or, where that is not, the older tflite-runtime.

They have the same interface, but neither the same operators nor the same kernels: `RUNTIME` is told
wherever it may matter.
"""

from importlib.metadata import version

try:
    from ai_edge_litert.interpreter import Interpreter, OpResolverType
    from ai_edge_litert.interpreter import load_delegate as load_library

    _PACKAGE = "ai-edge-litert"
except ModuleNotFoundError as error:
    if error.name != "ai_edge_litert":
        raise
    from tflite_runtime.interpreter import Interpreter, OpResolverType
    from tflite_runtime.interpreter import load_delegate as load_library

    _PACKAGE = "tflite-runtime"

__all__ = ["RUNTIME", "Interpreter", "OpResolverType", "load_library"]

RUNTIME = f"{_PACKAGE} {version(_PACKAGE)}"
