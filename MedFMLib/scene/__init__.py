"""Between MRML nodes and values: the only package that knows Slicer's scene. Must run on the GUI thread.

* `read_image`, `read_prompts`: nodes → values, parent transforms applied;
* `write_response`: values → nodes, all or nothing, existing segments never touched;
* `session`: a scene outside of Slicer (wheel `slicer-core`), for the command, tests and demos.

Slicer's arrays are (K, J, I), ours (I, J, K): only this package knows.
"""

from .reading import read_image, read_prompts
from .writing import WrittenNodes, write_response

__all__ = ["WrittenNodes", "read_image", "read_prompts", "write_response"]
