"""Loads the simulator before the first import of CuPy. `run` puts this folder on PYTHONPATH."""

import os
import sys

if os.environ.get("CUSIM_LIB"):

    class _BeforeCuPy:
        @staticmethod
        def find_spec(name, path=None, target=None):
            if name.partition(".")[0] in ("cupy", "cupyx", "cupy_backends"):
                sys.meta_path.remove(_BeforeCuPy)
                import cpusim  # noqa: F401

    sys.meta_path.insert(0, _BeforeCuPy)
