"""How the loops of a decision and of the simulator are run: as machine code, or as the Python that they are.

A process that seldom decides sets NUMBA_DISABLE_JIT=1 and does without the compiler, which takes 100 MB of
memory and seconds to load. Numbers may then differ in their last bits.
"""

import os
from typing import Final

IS_INTERPRETED: Final = os.environ.get("NUMBA_DISABLE_JIT") == "1"

if IS_INTERPRETED:
    from policies.interpreted import BYTES, array, compiled, prefetch, readonly, types
else:
    from policies.machine_code import BYTES, array, compiled, prefetch, readonly, types

__all__ = ["BYTES", "IS_INTERPRETED", "array", "compiled", "prefetch", "readonly", "types"]
