"""Use the volumes of a scene as cases, from a file (.mrb, .mrml) or the open scene. Uses the package `scene`, not MRML.

The voxels are read here, immediately and on the calling thread, since no other thread may access a scene; those of an
open scene
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
    """Return the cases of volume nodes; other nodes are skipped and reported.

    Args:
        nodes: volume nodes.
        steps: tasks of each case.
        options: of each case.
        pick: modality and frame.
        source: path of the scene's file, "" for an open scene.
        tell: receives sentences about skipped nodes.

    Returns:
        (cases, id → volume)

    Raises:
        InputError: if no task is given, or there is no image volume.
    """
    if not steps:
        raise InputError("No task is given; add --task segment, --task report or --task 'ask:QUESTION'.")
    names, cases, images = CaseIds(), [], {}
    frame = None if pick.frame < 0 else pick.frame
    for node in nodes:
        try:
            image = scenes.read_image(node, frame=frame, modality=pick.modality)
        except InputError as error:
            tell(f"Skipped: {error}")
            continue
        uids = node.GetAttribute("DICOM.instanceUIDs") or ""
        case = names.give("" if uids else node.GetName(), uids or f"{node.GetName()} {node.GetID()}")
        cases.append(
            BatchCase(
                case,
                source,
                steps,
                options,
                modality=pick.modality,
                frame=pick.frame,
                node=node.GetName(),
                dicom=bool(uids),
            )
        )
        images[case] = image
    if not cases:
        raise InputError("The scene has no image volume; load one.")
    return cases, images


def from_file(
    path: Path, steps: tuple[TaskStep, ...], options: CaseOptions, pick: SeriesChoice, tell: Tell = print
) -> tuple[list[BatchCase], dict[str, Image]]:
    """Return the cases of a scene's file.

    Args:
        path: the .mrb or .mrml file.
        steps: tasks of each case.
        options: of each case.
        pick: modality and frame.
        tell: receives sentences about skipped nodes.

    Returns:
        (cases, id → volume)

    Raises:
        InputError: if it can't be read, or is unsafe: see `scene.scene_files`.
        ModelError: if slicer-core is missing.
    """
    from ..scene.scene_files import scene_file
    from ..scene.session import SceneSession

    path = Path(path).expanduser().resolve()
    session = SceneSession()
    with scene_file(path) as file:
        session.scene.SetURL(str(file))
        if not session.scene.Connect():
            raise InputError(f"The scene '{path}' can't be read; check the path, or save it in Slicer again.")
        cases, images = from_nodes(volume_nodes(session.scene), steps, options, pick, str(path), tell)
        # the scene and its files are gone afterwards
        return cases, {name: image.with_voxels(image.voxels.copy()) for name, image in images.items()}


def volume_nodes(scene) -> list:
    """Return the scalar volume nodes of a scene except labelmaps, in order."""
    nodes = [
        scene.GetNthNodeByClass(n, "vtkMRMLScalarVolumeNode")
        for n in range(scene.GetNumberOfNodesByClass("vtkMRMLScalarVolumeNode"))
    ]
    return [node for node in nodes if not node.IsA("vtkMRMLLabelMapVolumeNode")]
