"""compile.py FOLDER [-I... -D...]: FOLDER/kernel.cu, CUDA C++, becomes FOLDER/kernel.so.

Each kernel gets two functions: one launches it, one gives the sizes of its arguments.
"""

import re
import subprocess
import sys
from pathlib import Path

SHARED_BYTES = 49152
ENTRIES = """
extern "C" void cusim_launch_{symbol}(unsigned gx, unsigned gy, unsigned gz, unsigned bx,
                                      unsigned by, unsigned bz, unsigned, void **arguments) {{
  cpu::launch(&{kernel}, gx, gy, gz, bx, by, bz, arguments, {cooperative});
}}
extern "C" void cusim_sizes_{symbol}(int *count, size_t *bytes) {{
  cpu::sizes(&{kernel}, count, bytes);
}}
"""

here = Path(__file__).parent
folder, options = Path(sys.argv[1]), sys.argv[2:]
source = (folder / "kernel.cu").read_text()
expressions = (folder / "names").read_text().splitlines()
# The threads of a block take turns only if they wait for each other.
cooperative = "true" if re.search(r"__syncthreads|__syncwarp|__shfl", source) else "false"
if expressions:
    kernels = {name: f"expression{i}" for i, name in enumerate(expressions)}
else:
    bounds = r"(?:__launch_bounds__\s*\([^)]*\)\s*)?"
    names = re.findall(rf"__global__\s+void\s+{bounds}(\w+)\s*\(", source)
    kernels = {name: name for name in names}
source = re.sub(
    r"extern\s+__shared__\s+([^;\[]+?)\s+(\w+)\s*\[\s*\]\s*;",
    rf"static \1 \2[{SHARED_BYTES} / sizeof(\1)];",
    source,
)
parts = ['#include "kernel.h"', source]
for kernel, symbol in kernels.items():
    parts.append(ENTRIES.format(kernel=kernel, symbol=symbol, cooperative=cooperative))
(folder / "kernel.cpp").write_text("\n".join(parts))
# The headers that stand in for CUDA's come first.
command = ["g++", "-O1", "-std=c++17", "-fpermissive", "-w", "-shared", "-fPIC"]
command += [f"-I{here}", f"-I{here / 'shim'}", *options]
command += [str(folder / "kernel.cpp"), "-o", str(folder / "kernel.so")]
sys.exit(subprocess.run(command).returncode)
