"""Convert between MRML nodes and values: the only package that knows Slicer's scene. It must run on the GUI thread.

* `read_image`, `read_prompts`: nodes → values, parent transforms applied;
* `write_response`: values → nodes, atomically, existing segments never changed;
* `session`: a scene outside of Slicer (wheel `slicer-core`), for the command line, tests and demos.

Slicer's arrays are (K, J, I), MedFM's (I, J, K): this package converts between them.
"""

from .reading import read_image, read_prompts
from .writing import WrittenNodes, write_response

__all__ = ["WrittenNodes", "read_image", "read_prompts", "write_response"]
