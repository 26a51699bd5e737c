"""The panel's choices, kept in a parameter node so that they are saved with the scene. Knows MRML's text parameters.

Typed access to a plain `vtkMRMLScriptedModuleNode`, which stores text and node references only.
"""

from __future__ import annotations

from MedFMLib.core.image import Image
from MedFMLib.core.request import CLINICIAN, Request, SliceChoice


class TextParameter:
    """A text parameter; numbers and lists build on it.

    Args:
        default: the value while the node holds none.
    """

    def __init__(self, default=""):
        self.default = default

    def __set_name__(self, owner, name: str) -> None:
        self.name = name

    def __get__(self, parameters, owner=None):
        if parameters is None:
            return self
        text = parameters.node.GetParameter(self.name)
        return self.default if text in (None, "") else self.parse(text)

    def __set__(self, parameters, value) -> None:
        text = self.format(value)
        if parameters.node.GetParameter(self.name) != text:  # a needless Modified event would come back to the widgets
            parameters.node.SetParameter(self.name, text)

    def parse(self, text: str):
        return text

    def format(self, value) -> str:
        return "" if value is None else str(value)


class NumberParameter(TextParameter):
    """A whole number; what is no number reads as the default."""

    def parse(self, text: str) -> int:
        try:
            return int(text)
        except ValueError:
            return self.default


class FlagParameter(TextParameter):
    """Yes or no."""

    def parse(self, text: str) -> bool:
        return text == "true"

    def format(self, value) -> str:
        return "true" if value else "false"


class NamesParameter(TextParameter):
    """Some names, in order."""

    def parse(self, text: str) -> tuple[str, ...]:
        return tuple(name for name in text.split("\n") if name)

    def format(self, value) -> str:
        return "\n".join(value)


class NodeParameter(TextParameter):
    """A reference to a node of the scene, or None."""

    def __init__(self):
        super().__init__(None)

    def __get__(self, parameters, owner=None):
        return self if parameters is None else parameters.node.GetNodeReference(self.name)

    def __set__(self, parameters, value) -> None:
        node_id = value.GetID() if value is not None else None
        if parameters.node.GetNodeReferenceID(self.name) != node_id:
            parameters.node.SetNodeReferenceID(self.name, node_id)


class Parameters:
    """What is chosen in the panel.

    Args:
        node: the module's parameter node.
    """

    volume = NodeParameter()
    region = NodeParameter()
    marks = NodeParameter()
    target = NodeParameter()
    model = TextParameter()
    adapter = TextParameter()
    precision = TextParameter()
    task = TextParameter("segment")
    labels = NamesParameter(())
    freeLabels = TextParameter()
    template = TextParameter()
    indication = TextParameter()
    comparison = TextParameter()
    with_healthy = FlagParameter(False)
    question = TextParameter()
    plane = TextParameter()
    firstSlice = NumberParameter(-1)
    lastSlice = NumberParameter(-1)
    sliceStep = NumberParameter(0)
    refine = FlagParameter(False)
    maxTokens = NumberParameter(64)
    reliability = TextParameter("demand")

    def __init__(self, node):
        self.node = node

    def choose_model(self, model: str) -> None:
        """Another model starts with its own default adapter and precision."""
        self.model, self.adapter, self.precision = model, "", ""

    def pointed(self, outlines: bool) -> tuple[str, list]:
        """(task, nodes that say where): what is marked for a model that outlines, the region of a question.

        Args:
            outlines: whether the model draws what is marked.
        """
        task = "outline" if outlines and self.task == "segment" else self.task
        node = {"outline": self.marks, "ask": self.region}.get(task)
        return task, [node] if node is not None else []

    def request(self, task: str, image: Image, labels, history, prompts, audience: str = CLINICIAN) -> Request:
        """What these choices ask of an image.

        Args:
            task: see `pointed`.
            image: the volume.
            labels: structures to segment, empty for all.
            history: (question, answer) pairs so far.
            prompts: what was pointed at.
            audience: for whom; see `Request`.

        Raises:
            InputError: if the choices don't go together.
        """
        return Request(
            task=task,
            image=image,
            labels=labels,
            question="" if task == "report" else self.question,  # what stands in the box belongs to another tab
            history=history,
            prompts=prompts,
            slices=SliceChoice(self.plane, self.firstSlice, self.lastSlice, self.sliceStep),
            refine=self.refine,
            max_tokens=self.maxTokens,
            template=self.template,
            indication=self.indication,
            comparison=self.comparison,
            audience=audience,
            model=self.model,
            adapter=self.adapter,
            precision=self.precision,
        )
