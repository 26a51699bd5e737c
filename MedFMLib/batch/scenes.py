"""The volumes of a scene as cases: of a file (.mrb, .mrml), or of the scene at hand. Knows the scene's functions, not MRML.

The voxels are read here, at once and on the calling thread, since nothing may touch a scene off it; those of a scene at hand
are shared, not copied.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from .. import scene as scenes
from ..core.image import Image
from ..errors import InputError
from .cases import SeriesChoice, Tell
from .plan import BatchCase, CaseIds, CaseOptions, TaskStep


def from_nodes(
    nodes: Iterable,
    steps: tuple[TaskStep, ...],
    options: CaseOptions,
    pick: SeriesChoice = SeriesChoice(),
    source: str = "",
    tell: Tell = print,
) -> tuple[list[BatchCase], dict[str, Image]]:
    """(cases, id → volume) of volume nodes; what is no image volume is left out, and told.

    Args:
        source: path of the scene's file, "" for a scene at hand.

    Raises:
        InputError: no task is given, or there is no image volume.
    """
    if not steps:
        raise InputError("What should be done? Give --task segment, --task report or --task 'ask:QUESTION'.")
    names, cases, images = CaseIds(), [], {}
    frame = None if pick.frame < 0 else pick.frame
    for node in nodes:
        try:
            image = scenes.read_image(node, frame=frame, modality=pick.modality)
        except InputError as error:
            tell(f"Left out: {error}")
            continue
        uids = node.GetAttribute("DICOM.instanceUIDs") or ""
        case = names.give("" if uids else node.GetName(), uids or f"{node.GetName()} {node.GetID()}")
        cases.append(
            BatchCase(case, source, steps, options, modality=pick.modality, frame=pick.frame, node=node.GetName())
        )
        images[case] = image
    if not cases:
        raise InputError("The scene holds no image volume; load one.")
    return cases, images


def from_file(
    path: Path, steps: tuple[TaskStep, ...], options: CaseOptions, pick: SeriesChoice, tell: Tell = print
) -> tuple[list[BatchCase], dict[str, Image]]:
    """The same of a scene's file.

    Raises:
        InputError: it can't be read. ModelError: slicer-core is missing.
    """
    from ..scene.session import SceneSession

    path = Path(path).expanduser().resolve()
    session = SceneSession()
    if path.suffix.lower() == ".mrb":
        read = session.scene.ReadFromMRB(str(path)) if path.is_file() else False
    else:
        session.scene.SetURL(str(path))
        read = bool(session.scene.Connect()) if path.is_file() else False
    if not read:
        raise InputError(f"The scene '{path}' can't be read; check the path, or save it in Slicer again.")
    cases, images = from_nodes(volume_nodes(session.scene), steps, options, pick, str(path), tell)
    copies = {name: image.with_voxels(image.voxels.copy()) for name, image in images.items()}  # the scene ends here
    return cases, copies


def volume_nodes(scene) -> list:
    """The scalar volume nodes of a scene that are no labelmaps, in its order."""
    nodes = [
        scene.GetNthNodeByClass(n, "vtkMRMLScalarVolumeNode")
        for n in range(scene.GetNumberOfNodesByClass("vtkMRMLScalarVolumeNode"))
    ]
    return [node for node in nodes if not node.IsA("vtkMRMLLabelMapVolumeNode")]
