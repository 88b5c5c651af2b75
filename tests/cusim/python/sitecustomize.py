"""Loads the simulator before the first import of CuPy. `run` puts this folder on PYTHONPATH."""

import importlib.util
import os
import sys

if os.environ.get("CUSIM_LIB"):

    class _BeforeCuPy:
        @staticmethod
        def find_spec(name, path=None, target=None):
            if name not in ("cupy", "cupyx", "cupy_backends"):
                return None
            sys.meta_path.remove(_BeforeCuPy)
            import cpusim  # noqa: F401

            return importlib.util.find_spec(name)

    sys.meta_path.insert(0, _BeforeCuPy)
