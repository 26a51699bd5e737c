"""SAM 2 on a very small random checkpoint of the real class: the masks of transformers itself, in the right voxels."""

import json
import pickle
import re
from dataclasses import replace

import numpy as np
import pytest
from support.phantoms import ct_phantom, oblique_geometry, sphere

pytest.importorskip("torch")

import torch
from support.random_sam2 import SIZE, config, sam2
from torch.nn import functional

from MedFMLib.core.image import Image
from MedFMLib.core.prompts import Box, Points
from MedFMLib.core.request import Request, SliceChoice
from MedFMLib.core.slice_prompts import place
from MedFMLib.core.view import display_slice, make_view, window_for
from MedFMLib.engine import Engine
from MedFMLib.errors import Cancelled, InputError, MedFMError, ModelError
from MedFMLib.interfaces import registry
from MedFMLib.interfaces.jobs import NoProgress
from MedFMLib.interfaces.model import Callbacks
from MedFMLib.models import sam2 as family
from MedFMLib.models.masks import sam2_convert, sam2_frames

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return sam2(tmp_path_factory.mktemp("sam2") / "model")


@pytest.fixture
def model(folder):
    return Engine().model(registry.card(str(folder)), "", "fp32", NoProgress())


@pytest.fixture(scope="module")
def head():
    """An oblique, flipped, anisotropic MR: a bright ball in noise."""
    grid = oblique_geometry((40, 36, 24))
    values = np.random.default_rng(0).normal(100, 20, grid.shape) + 200 * sphere(grid, grid.to_world((22, 15, 11)), 12)
    return Image(values.astype(np.float32)[None], grid, "MR", "head")


def ball(image, plane, number=11, label="ball"):
    index = np.array([22.0, 15.0, 11.0])
    index[image.geometry.index_axis(plane)] = number
    return Points([image.geometry.to_world(index)], [image.geometry.to_world(index + 3 * (index != number))], label)


def pictures(image, plane):
    """(N, 3, S, S): every slice as the model takes it, written down independently."""
    count = image.geometry.shape[image.geometry.index_axis(plane)]
    window = window_for(image)
    views = np.stack([make_view(image, plane, n, window).pixels for n in range(count)])
    square = functional.interpolate(
        torch.from_numpy(views).permute(0, 3, 1, 2), (SIZE, SIZE), mode="bilinear", antialias=True
    )
    mean, deviation = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    return (square.float() / 255 - mean[:, None, None]) / deviation[:, None, None]


def followed(net, video, marks, shape):
    """(N, H, W) bool by transformers alone: both directions, each from a fresh session of its own making."""
    from transformers.models.sam2_video.modeling_sam2_video import Sam2VideoInferenceSession

    found = np.zeros((len(video), *shape), bool)
    for reverse in (False, True):
        session = Sam2VideoInferenceSession(
            video=video, video_height=shape[0], video_width=shape[1], dtype=torch.float32
        )
        index = session.obj_id_to_idx(1)
        for mark in marks:
            row, column = ((mark.points + 0.5) * SIZE / np.array(shape) - 0.5).T
            points = torch.tensor(np.stack([column, row], -1), dtype=torch.float32)
            labels = torch.tensor(mark.inside.astype(int), dtype=torch.int32)
            session.add_point_inputs(
                index, mark.number, {"point_coords": points[None, None], "point_labels": labels[None, None]}
            )
            session.obj_with_new_inputs = [1]
            net(session, frame_idx=mark.number)
        steps = net.propagate_in_video_iterator(session, start_frame_idx=marks[0].number, reverse=reverse)
        for step in steps:
            full = functional.interpolate(step.pred_masks, shape, mode="bilinear", align_corners=False)
            found[step.frame_idx] = full[0, 0].numpy() > 0
    return found


@pytest.mark.parametrize("plane", ["axial", "coronal", "sagittal"])
@pytest.mark.parametrize("numbers", [(11,), (6, 15)])
def test_the_masks_are_those_of_transformers_in_the_voxels_of_an_oblique_volume(model, head, plane, numbers):
    marks = place([ball(head, plane, n) for n in numbers], head.geometry, plane=plane)
    assert [m.number for m in marks.structures["ball"]] == list(numbers)
    mask = model.outline(head, marks)["ball"]
    shape = display_slice(mask, head.geometry, plane, 0).shape
    wanted = followed(model.model, pictures(head, plane), marks.structures["ball"], shape)
    assert 0.01 < wanted.mean() < 0.9
    assert len({slice_.sum() for slice_ in wanted}) > 5  # the model is not the same everywhere
    for number, slice_ in enumerate(wanted):
        assert np.array_equal(display_slice(mask, head.geometry, plane, number), slice_), number


def test_the_frames_and_masks_are_those_of_the_real_processor(model, folder, head):
    pytest.importorskip("torchvision")
    from transformers import Sam2VideoProcessor, Sam2VideoVideoProcessor
    from transformers.models.sam2.image_processing_sam2 import Sam2ImageProcessor

    size = {"size": {"height": SIZE, "width": SIZE}}
    processor = Sam2VideoProcessor(Sam2ImageProcessor(**size), Sam2VideoVideoProcessor(**size))
    window = window_for(head)
    video = torch.from_numpy(np.stack([make_view(head, "axial", n, window).pixels for n in range(24)]))
    session = processor.init_video_session(video=video.permute(0, 3, 1, 2))
    frames = sam2_frames.Frames(head, "axial", window, model.prepare)
    assert all(torch.equal(session.processed_frames[n], frames[n]) for n in range(24))

    marks = place([Points([head.geometry.to_world((22, 15, 11))], label="ball")], head.geometry, plane="axial")
    (mark,) = marks.structures["ball"]
    shape = tuple(video.shape[1:3])
    row, column = mark.points[0] + 0.5 - 0.5 * np.array(shape) / SIZE  # the model then adds half of its own pixel
    processor.add_inputs_to_inference_session(
        session, 11, 1, input_points=[[[[float(column), float(row)]]]], input_labels=[[[1]]]
    )
    model.model(session, frame_idx=11)
    mask = model.outline(head, marks)["ball"]
    for step in model.model.propagate_in_video_iterator(session, start_frame_idx=11):
        wanted = processor.post_process_masks([step.pred_masks], [shape])[0][0, 0].numpy()
        assert np.array_equal(display_slice(mask, head.geometry, "axial", step.frame_idx), wanted)


def test_a_box_is_two_corners_before_the_points(head):
    size = np.array([12, 8, 30]) * head.geometry.spacing
    prompts = [
        Box(head.geometry.to_world((22, 15, 11)), size, head.geometry.directions, "b"),
        ball(head, "axial", 11, "b"),
    ]
    marks = place(prompts, head.geometry, plane="axial")
    (mark,) = marks.structures["b"]
    shape = display_slice(head.scalars, head.geometry, "axial", 11).shape
    given = family._inputs(mark, shape, SIZE)
    assert given["point_labels"].tolist() == [[[2, 3, 1, 0]]]
    corners = given["point_coords"][0, 0, :2].numpy() + 0.5
    assert np.allclose(corners[1] - corners[0], np.array([mark.box[3] - mark.box[1], mark.box[2] - mark.box[0]])
                       * SIZE / np.array(shape)[::-1], atol=1e-4)  # fmt: skip
    middle = given["point_coords"][0, 0, 2].numpy() + 0.5
    assert np.allclose(corners.mean(axis=0), middle, atol=1e-3)


def test_two_structures_are_followed_as_each_by_itself(model, head):
    one, two = ball(head, "axial", 11, "one"), Points([head.geometry.to_world((8, 30, 7))], label="two")
    both = model.outline(head, place([one, two], head.geometry, plane="axial"))
    for prompt in (one, two):
        alone = model.outline(head, place([prompt], head.geometry, plane="axial"))
        assert np.array_equal(both[prompt.label], alone[prompt.label])
    assert not np.array_equal(both["one"], both["two"])


def test_other_marks_on_the_same_slices_encode_nothing_again(model, head):
    marks = place([ball(head, "axial")], head.geometry, plane="axial")
    first = model.outline(head, marks)["ball"]
    assert model.features.computed == 24
    assert np.array_equal(model.outline(head, marks)["ball"], first)
    model.outline(head, place([ball(head, "axial", 5)], head.geometry, plane="axial"))
    assert model.features.computed == 24
    model.outline(head, place([ball(head, "coronal", 5)], head.geometry, plane="coronal"))
    assert model.features.computed == 24 + head.geometry.shape[head.geometry.index_axis("coronal")]
    model.outline(head.with_voxels(head.voxels + 1), marks)
    assert model.features.computed > 24 + 36


def test_what_is_kept_says_how_much_it_is_and_can_be_dropped(model, head):
    from MedFMLib.interfaces.model import CachesImages

    assert isinstance(model, CachesImages)
    assert model.image_cache.bytes == model.image_cache.reused == 0
    marks = place([ball(head, "axial")], head.geometry, plane="axial")
    first = model.outline(head, marks)["ball"]
    held = model.image_cache.bytes
    assert held > 0 == model.image_cache.reused  # nothing was there before these marks
    model.outline(head, marks)
    assert model.image_cache.reused == held
    model.image_cache.drop()
    assert model.image_cache.bytes == 0
    assert np.array_equal(model.outline(head, marks)["ball"], first)
    assert model.image_cache.reused == held


def test_what_is_kept_is_bounded_and_changes_nothing(model, head):
    marks = place([ball(head, "axial")], head.geometry, plane="axial")
    first = model.outline(head, marks)["ball"]
    whole = model.features.used
    model.features = sam2_frames.FrameFeatures(whole // 3)
    assert np.array_equal(model.outline(head, marks)["ball"], first)
    assert 0 < model.features.used <= whole // 3
    assert np.array_equal(model.outline(head, marks)["ball"], first)
    assert 24 < model.features.computed < 48


def test_the_memory_of_a_long_volume_is_bounded(model, monkeypatch):
    """Slices beyond what the model remembers are let go; the masks of 24 slices above show that nothing is missed."""
    image_cache = []
    follow = family._Track.follow

    def watched(track, number, callbacks):
        mask = follow(track, number, callbacks)
        image_cache.append(len(track._session.output_dict_per_obj[0]["non_cond_frame_outputs"]))
        return mask

    monkeypatch.setattr(family._Track, "follow", watched)
    image = ct_phantom()
    model.outline(image, place([Points([image.geometry.to_world((48, 40, 0))])], image.geometry, plane="axial"))
    assert max(image_cache) == 1 + model.model.config.max_object_pointers_in_encoder


def test_a_structure_that_is_not_seen_any_more_is_over(model, head):
    with torch.no_grad():
        model.model.mask_decoder.pred_obj_score_head.proj_out.bias.fill_(-100.0)
    mask = model.outline(head, place([ball(head, "axial")], head.geometry, plane="axial"))["ball"]
    assert not mask.any()
    assert model.features.computed == 1 + 2 * family.PATIENCE


def test_it_stops_at_the_next_slice_and_tells_how_far_it_is(model, head):
    marks = place([ball(head, "axial")], head.geometry, plane="axial")
    reported, asked = [], []
    model.outline(head, marks, callbacks=Callbacks(on_fraction=reported.append, cancelled=lambda: asked.append(1)))
    assert reported == sorted(reported)
    assert reported[-1] == 1.0
    assert len(asked) >= 24
    model.features.clear_all()
    before = model.features.computed
    with pytest.raises(Cancelled):
        model.outline(head, marks, callbacks=Callbacks(cancelled=lambda: model.features.computed - before == 4))
    assert model.features.computed == before + 4


def test_bfloat16_is_for_the_pictures_alone_and_close(folder, head, monkeypatch):
    monkeypatch.setattr("MedFMLib.models.sam2.multiplies_bfloat16", lambda: True)
    half = Engine().model(registry.card(str(folder)), "", "bf16", NoProgress())
    full = Engine().model(registry.card(str(folder)), "", "fp32", NoProgress())
    assert half.facts.precision == "fp32, slices encoded in bf16"
    assert {p.dtype for p in half.model.parameters()} == {torch.float32}
    frames = sam2_frames.Frames(head, "axial", window_for(head), half.prepare)
    for model in (half, full):
        model.encode(11, frames, Callbacks())
    for a, b in zip(*(m.features.get_vision_features(11)["vision_feats"] for m in (half, full)), strict=True):
        assert a.dtype == torch.float32
        assert 0 < (a - b).norm() / b.norm() < 0.03
    monkeypatch.setattr("MedFMLib.models.sam2.multiplies_bfloat16", lambda: False)
    plain = Engine().model(registry.card(str(folder)), "", "bf16", NoProgress())
    assert plain.facts.precision == "fp32"


@pytest.mark.parametrize(("hu", "window"), [(-800, family.LUNG), (40, family.SOFT), (700, family.BONE)])
def test_ct_is_shown_in_the_window_of_what_is_marked(hu, window):
    image = ct_phantom()
    image = image.with_voxels(np.where(image.voxels == 90, hu, image.voxels).astype(np.int16))
    index = np.argwhere(ct_phantom().scalars == 90)
    point = image.geometry.to_world(index[len(index) // 2])
    assert family.window_of(image, place([Points([point])], image.geometry)).ranges == (window,)


def test_the_task_gives_segments_measured_on_the_original_grid(folder, head):
    engine = Engine()
    request = Request("outline", head, prompts=[ball(head, "axial", 11, "F-1")], model=str(folder), labels=("liver",))
    response = engine.run(replace(request, slices=SliceChoice("axial", 8, 14)))
    segment = response.segmentation["liver"]
    assert response.segmentation.geometry.matches(head.geometry)
    assert segment.code is not None
    assert not segment.mask[:, :, :8].any() and not segment.mask[:, :, 15:].any()
    assert any(m.name == "volume" for m in response.measurements)
    assert response.provenance.slices[0].startswith("axial slices ")
    assert "liver: axial slice 11, 1 points inside, 1 outside (window" in response.provenance.prompts[0]


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"prompts": ()}, "There are no prompts; place a point in the structure"),
        ({"labels": ("liver", "spleen")}, "Nothing is marked as liver, spleen, only as ball; name the marks after"),
        ({"task": "segment"}, "can't segment: it only outlines; mark the structure with points or a box, or choose"),
        ({"model": "medfm-tiny"}, "can't outline: it only writes and segments.*choose another model"),
        ({"precision": "nf4"}, "can't be held as 'nf4'; choose one of bf16, fp32"),
        ({"adapter": "liver"}, "takes no adapters; choose 'none' instead of 'liver'"),
        (
            {"slices": SliceChoice("axial", 12, 14)},
            "prompt in axial slice 11, outside of the requested slices 12 to 14",
        ),
    ],
)
def test_what_can_not_be_done_is_one_sentence(folder, head, change, sentence):
    facts = {"task": "outline", "image": head, "prompts": [ball(head, "axial")], "model": str(folder)} | change
    with pytest.raises(MedFMError, match=sentence):
        Engine().run(Request(**facts))


# -- conversion ------------------------------------------------------------------------------------

AUTHORS = (
    (r"^vision_encoder\.backbone\.", "image_encoder.trunk."),
    (r"^vision_encoder\.neck\.convs\.(\d)\.", r"image_encoder.neck.convs.\1.conv."),
    (r"^(prompt_encoder|mask_decoder)\.", r"sam_\1."),
    (r"patch_embed\.projection", "patch_embed.proj"),
    (r"shared_embedding\.positional_embedding", "pe_layer.positional_encoding_gaussian_matrix"),
    (r"mask_embed\.conv1", "mask_downscaling.0"), (r"mask_embed\.layer_norm1", "mask_downscaling.1"),
    (r"mask_embed\.conv2", "mask_downscaling.3"), (r"mask_embed\.layer_norm2", "mask_downscaling.4"),
    (r"mask_embed\.conv3", "mask_downscaling.6"), (r"upscale_conv1", "output_upscaling.0"),
    (r"upscale_layer_norm", "output_upscaling.1"), (r"upscale_conv2", "output_upscaling.3"),
    (r"^memory_encoder\.projection", "memory_encoder.out_proj"), (r"feature_projection", "pix_feat_proj"),
    (r"memory_fuser", "fuser"), (r"depthwise_conv", "dwconv"), (r"pointwise_conv", "pwconv"), (r"\.scale$", ".gamma"),
    (r"o_proj", "out_proj"), (r"mask_downsampler\.final_conv", "mask_downsampler.encoder.12"),
    (r"^temporal_positional_encoding_projection_layer", "obj_ptr_tpos_proj"),
    (r"^no_object_pointer$", "no_obj_ptr"), (r"^occlusion_spatial_embedding_parameter$", "no_obj_embed_spatial"),
    (r"^memory_temporal_positional_encoding$", "maskmem_tpos_enc"), (r"^no_memory_embedding$", "no_mem_embed"),
    (r"^no_memory_positional_encoding$", "no_mem_pos_enc"), (r"mlp\.proj_in", "mlp.layers.0"),
    (r"mlp\.proj_out", "mlp.layers.1"), (r"(_head|mlps\.\d|^object_pointer_proj)\.layers\.0", r"\1.layers.1"),
    (r"(_head|mlps\.\d|^object_pointer_proj)\.proj_in", r"\1.layers.0"),
    (r"(_head|mlps\.\d|^object_pointer_proj)\.proj_out", r"\1.layers.2"), (r"^object_pointer_proj", "obj_ptr_proj"),
    (r"layer_norm", "norm"),
)  # fmt: skip
"""transformers' names → the authors', as in a state dict of facebookresearch/sam2's own classes."""


def authors_layout(state):
    made = {}
    for name, tensor in state.items():
        if name == "shared_image_embedding.positional_embedding":
            continue
        if name == "prompt_encoder.point_embed.weight":
            made |= {f"sam_prompt_encoder.point_embeddings.{n}.weight": row[None] for n, row in enumerate(tensor)}
            continue
        if found := re.match(r"memory_encoder\.mask_downsampler\.layers\.(\d)\.(conv|layer_norm)\.(.*)", name):
            place_ = 3 * int(found[1]) + (found[2] == "layer_norm")
            made[f"memory_encoder.mask_downsampler.encoder.{place_}.{found[3]}"] = tensor
            continue
        for pattern, replacement in AUTHORS:
            name = re.sub(pattern, replacement, name)
        made[name] = tensor
    return made


def test_the_authors_layout_comes_back_as_the_same_model(model, head, tmp_path):
    state = {name: value.clone() for name, value in model.model.state_dict().items()}
    theirs = authors_layout(state)
    assert len({"obj_ptr_proj.layers.2.weight", "sam_mask_decoder.output_hypernetworks_mlps.3.layers.1.bias",
                "image_encoder.trunk.blocks.1.proj.weight", "memory_encoder.fuser.layers.0.gamma",
                "memory_attention.norm.weight", "sam_prompt_encoder.not_a_point_embed.weight",
                "image_encoder.neck.convs.0.conv.bias"} - set(theirs)) == 0  # fmt: skip
    torch.save({"model": theirs, "epoch": 3}, tmp_path / "theirs.pt")
    read = sam2_convert.read_checkpoint(tmp_path / "theirs.pt")
    made = sam2_convert.convert(read, config(), tmp_path / "made")
    back = Engine().model(registry.card(str(made)), "", "fp32", NoProgress())
    assert all(torch.equal(value, state[name]) for name, value in back.model.state_dict().items())
    marks = place([ball(head, "axial")], head.geometry, plane="axial", first=9, last=12)
    assert np.array_equal(back.outline(head, marks)["ball"], model.outline(head, marks)["ball"])
    assert json.loads((made / "preprocessor_config.json").read_text())["size"]["height"] == SIZE


class Harm:
    def __reduce__(self):
        return (exec, ("raise SystemExit('code of a pickle was run')",))


def test_a_checkpoint_that_would_run_code_or_is_something_else_is_refused(model, tmp_path):
    (tmp_path / "harm.pt").write_bytes(pickle.dumps({"model": Harm()}, protocol=2))
    torch.save({"model": {"weight": torch.zeros(2)}}, tmp_path / "other.pt")
    torch.save({"sam_mask_decoder.iou_token.weight": torch.zeros(1)}, tmp_path / "bare.pt")
    for name, sentence in (
        ("harm.pt", "can't be opened safely as a checkpoint"), ("other.pt", "is not a SAM 2"), ("none.pt", "no file"),
    ):  # fmt: skip
        with pytest.raises(InputError, match=sentence):
            sam2_convert.read_checkpoint(tmp_path / name)
    assert sam2_convert.read_checkpoint(tmp_path / "bare.pt")
    theirs = authors_layout(model.model.state_dict())
    with pytest.raises(InputError, match="width 16 with 5 blocks is not one of SAM 2's"):
        sam2_convert.config_for(theirs, 512)
    with pytest.raises(InputError, match="multiple of 32 and at least 128 pixels, not 500"):
        sam2_convert.config_for(theirs, 500)
    del theirs["maskmem_tpos_enc"]
    with pytest.raises(ModelError, match=r"1 weights don't fit SAM 2, such as memory_temporal_positional_encoding"):
        sam2_convert.convert(theirs, config(), tmp_path / "made")


@pytest.mark.parametrize(("name", "size"), [("medsam2", 512), ("sam2.1-hiera-large", 1024)])
def test_the_published_sizes_get_the_configs_that_their_cards_have(name, size):
    from transformers import AutoConfig

    from MedFMLib.storage import resources

    width, blocks = {"medsam2": (96, 12), "sam2.1-hiera-large": (144, 48)}[name]
    state = {f"image_encoder.trunk.blocks.{n}.norm1.weight": 0 for n in range(blocks)}
    state |= {"image_encoder.trunk.patch_embed.proj.weight": torch.zeros(width, 3)}
    state |= {"obj_ptr_tpos_proj.weight": 0, "no_obj_embed_spatial": 0}
    made = sam2_convert.config_for(state, size).to_dict()
    shipped = AutoConfig.from_pretrained(resources.path("zoo", "configs", name)).to_dict()
    for key in ("_name_or_path", "architectures"):
        made.pop(key, None), shipped.pop(key, None)
    assert made == shipped


def test_a_folder_in_the_authors_format_says_how_to_convert_it(folder, tmp_path):
    card = replace(registry.cards()["wanglab/MedSAM2"], id=str(tmp_path))
    torch.save({}, tmp_path / "MedSAM2_latest.pt")
    with pytest.raises(
        ModelError, match=r"MedSAM2_latest.pt.*sam2_convert FILE FOLDER --size 512`, and give that folder"
    ):
        family.load(card, "", "fp32", NoProgress())
