"""Store the panel's settings in a parameter node, so that they are saved with the scene. Uses MRML's text parameters.

Typed access to a plain `vtkMRMLScriptedModuleNode`, which stores text and node references only.
"""

from __future__ import annotations

from MedFMLib.core.image import Image
from MedFMLib.core.request import CLINICIAN, Request, SliceChoice


class TextParameter:
    """A text parameter; base of numbers and lists.

    Args:
        default: the value while the node has none.
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
        if (
            parameters.node.GetParameter(self.name) != text
        ):  # an unnecessary Modified event would update the widgets again
            parameters.node.SetParameter(self.name, text)

    def parse(self, text: str):
        return text

    def format(self, value) -> str:
        return "" if value is None else str(value)


class NumberParameter(TextParameter):
    """An integer; any other text reads as the default."""

    def parse(self, text: str) -> int:
        try:
            return int(text)
        except ValueError:
            return self.default


class FlagParameter(TextParameter):
    """A boolean."""

    def parse(self, text: str) -> bool:
        return text == "true"

    def format(self, value) -> str:
        return "true" if value else "false"


class NamesParameter(TextParameter):
    """A list of names, in order."""

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
    """The settings of the panel.

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
    options = TextParameter()

    def __init__(self, node):
        self.node = node

    def choose_model(self, model: str) -> None:
        """Select a model, with its own default adapter and precision."""
        self.model, self.adapter, self.precision = model, "", ""

    def pointed(self, outlines: bool) -> tuple[str, list]:
        """Return (task, nodes with a position): prompts for a model with point prompts, else the region of a question.

        Args:
            outlines: whether the model segments from points and boxes.
        """
        task = "outline" if outlines and self.task == "segment" else self.task
        node = {"outline": self.marks, "ask": self.region}.get(task)
        return task, [node] if node is not None else []

    def request(self, task: str, image: Image, labels, history, prompts, audience: str = CLINICIAN) -> Request:
        """Return the request of these settings for an image.

        Args:
            task: see `pointed`.
            image: the volume.
            labels: structures to segment, empty for all.
            history: (question, answer) pairs so far.
            prompts: points, boxes and regions.
            audience: see `Request`.

        Raises:
            InputError: if the settings contradict each other.
        """
        return Request(
            task=task,
            image=image,
            labels=labels,
            question="" if task == "report" else self.question,  # the question box belongs to another tab
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
