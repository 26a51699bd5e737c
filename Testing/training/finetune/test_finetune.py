"""Fine-tuning: inputs, training, results and refusals, on very small models of the real classes."""

import json
import math
import sys

import pytest
from support import finetune_phantoms

torch = pytest.importorskip("torch")
pytest.importorskip("accelerate", reason="fine-tuning needs the extra train")

from MedFMLib.engine import load_model  # noqa: E402
from MedFMLib.errors import InputError, ModelError, OutputError  # noqa: E402
from MedFMLib.interfaces import registry  # noqa: E402
from MedFMLib.interfaces.jobs import NoProgress  # noqa: E402
from MedFMLib.storage import adapter_card  # noqa: E402
from MedFMLib.training.data.dataset import Dataset  # noqa: E402
from MedFMLib.training.finetune import base, checkpoints, control, estimate, inputs, monitor, run  # noqa: E402
from MedFMLib.training.finetune.settings import TrainingSettings  # noqa: E402

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Folder of a built data set of squares."""
    return finetune_phantoms.build(tmp_path_factory.mktemp("finetune"))


@pytest.fixture
def quick(dense_folder):
    """Settings of a training of seconds."""
    return TrainingSettings(
        model=str(dense_folder),
        precision="fp32",
        compute="fp32",
        batch=4,
        accumulation=1,
        steps=8,
        epochs=100,
        rate=5e-3,
        targets="all",
        save_every=3,
        evaluate_every=4,
        most_validation=8,
        patience=0,
    )


class Notes(NoProgress):
    """Progress that records notes."""

    def __init__(self):
        self.notes = []

    def note(self, text):
        self.notes.append(text)


FAMILIES = ("paligemma", "gemma3", "qwen_vl", "llava")


@pytest.fixture(params=FAMILIES)
def family(request, tmp_path, dense_folder):
    """A model of each family, and a reader of samples for it."""
    from support import random_families

    folder = dense_folder if request.param == "paligemma" else getattr(random_families, request.param)(tmp_path)
    return base.load(TrainingSettings(model=str(folder), precision="fp32"), NoProgress())


# -- what is read ----------------------------------------------------------------------------------


def test_training_reads_what_is_asked_in_use_then_the_answer(family, data):
    dataset = Dataset.load(data)
    sample = dataset.samples["train"][0]
    reader = inputs.SampleReader(family, dataset)
    made = reader.example(sample)
    asked = family.inputs_for(dataset.view(sample), sample.question)
    length = asked["input_ids"].shape[1]
    assert torch.equal(made["input_ids"][:, :length], asked["input_ids"])
    assert torch.equal(made["pixel_values"], asked["pixel_values"])
    assert (made["labels"][:, :length] == inputs.IGNORED).all() and (made["labels"][:, length:] >= 0).all()
    text = family.processor.tokenizer.decode(made["labels"][0, length:])
    assert text.strip().startswith(sample.answer) and len(text.strip()) > len(sample.answer), (
        "the answer and its end are learned"
    )


def test_the_loss_of_answers_alone_is_the_models_own(family, data):
    """Padded batches, scores of the answers only: the same number as from all scores, one by one."""
    dataset = Dataset.load(data)
    reader = inputs.SampleReader(family, dataset)
    examples = [reader.example(s) for s in dataset.samples["train"][:3]]
    batch = inputs.collator(family.processor.tokenizer.pad_token_id or 0)(examples)
    with torch.no_grad():
        together = float(inputs.answer_loss(family.model, batch))
        sums, count = 0.0, 0
        for example in examples:
            labels = example.pop("labels")
            logits = family.model(**example, use_cache=False).logits[:, :-1]
            goal = labels[:, 1:]
            sums += float(
                torch.nn.functional.cross_entropy(logits.flatten(0, 1).float(), goal.flatten(), reduction="sum")
            )
            count += int((goal != inputs.IGNORED).sum())
    assert together == pytest.approx(sums / count, rel=1e-4)


def test_boxes_and_masks_are_learned_as_tokens(tiny_folder, tmp_path):
    from MedFMLib.models.masks.location_tokens import parse
    from MedFMLib.training.data.samples import PlacedStructure, Sample

    model = base.load(TrainingSettings(model=str(tiny_folder), precision="nf4"), NoProgress())
    sample = Sample(
        "x", "p", "liver ; spleen", "", "boxes", "boxes", (PlacedStructure("liver", 1, (0.1, 0.2, 0.5, 0.6)),)
    )
    reader = inputs.SampleReader(model, Dataset(tmp_path, {}, {}))
    (found,) = parse(reader.answer(sample)).objects
    assert found.name == "liver" and found.box == pytest.approx((0.1, 0.2, 0.5, 0.6), abs=1e-3)


# -- gradients -------------------------------------------------------------------------------------


@pytest.mark.parametrize("asked_first", [False, True])
def test_answering_first_changes_no_gradient_of_a_4_bit_model(asked_first, data, tmp_path, monkeypatch):
    """bitsandbytes packs 4-bit weights at the first answer on CPUs with AVX512-BF16, and gradients are silently lost after it."""
    from support import random_families

    folder = random_families.llava(tmp_path)  # widths that the packing takes
    model = base.load(TrainingSettings(model=str(folder), precision="nf4"), NoProgress())
    assert [m for m in model.model.modules() if type(m).__name__ == "Linear4bit"], "the base is held in 4 bits"
    dataset = Dataset.load(data)
    sample = dataset.samples["train"][0]
    if asked_first:
        model.write([dataset.view(sample)], sample.question, max_tokens=4)
    peft = base.add_lora(model.model, TrainingSettings(seed=3))
    example = inputs.SampleReader(model, dataset).example(sample)
    inputs.answer_loss(peft, example).backward()
    norms = {name: float(p.grad.norm()) for name, p in base.trained(peft).items() if p.grad is not None}
    assert len(norms) == len(base.trained(peft))
    halves = [norm for name, norm in norms.items() if ".lora_B." in name]
    assert min(halves) > 0
    known = _GRADIENTS.setdefault("norm", math.fsum(n**2 for n in halves))
    assert math.fsum(n**2 for n in halves) == pytest.approx(known, rel=1e-6)


_GRADIENTS: dict[str, float] = {}


def test_a_dead_gradient_is_noticed_before_anything_is_trained(data, dense_folder):
    model = base.load(TrainingSettings(model=str(dense_folder), precision="fp32"), NoProgress())
    peft = base.add_lora(model.model, TrainingSettings())
    example = inputs.SampleReader(model, Dataset.load(data)).example(Dataset.load(data).samples["train"][0])
    assert base.dry_run(peft, lambda: inputs.answer_loss(peft, example)).norm > 0
    with pytest.raises(ModelError, match="No gradient reaches the adapter"):
        base.dry_run(peft, lambda: inputs.answer_loss(peft, example) * 0)


# -- the clip monitor ------------------------------------------------------------------------------


def step(number, loss=1.0, norm=1.0, clip=1.0, **more):
    facts = {
        "rate": 1e-3,
        "left": min(1.0, clip / norm) if norm and clip else 1.0,
        "update": 0.1,
        "weight": 10.0,
        "seconds": 1.0,
    }
    return monitor.TrainingStep(number, loss, norm=norm, clip=clip, **(facts | more))


def test_clipping_that_dominates_the_gradient_is_reported_with_the_remedy():
    clip_monitor = monitor.ClipMonitor(1, 1)
    said = [text for n in range(1, 12) for text in clip_monitor.add(step(n, norm=12.0 + n))]
    assert len(said) == 1 and "accumulate over 4" in said[0] and "raise the clip to" in said[0]
    assert clip_monitor.suggested_clip == pytest.approx(22, abs=0.5) and clip_monitor.clipped_share == 1


def test_clipping_that_cuts_little_is_no_matter():
    clip_monitor = monitor.ClipMonitor(4, 4)
    assert not [
        text for n in range(1, 40) for text in clip_monitor.add(step(n, loss=1 / n, norm=5.0 if n % 10 == 0 else 0.7))
    ]


@pytest.mark.parametrize(("facts", "says"), [({"loss": math.nan}, "not a number"), ({"norm": 0.0}, "exactly 0")])
def test_a_broken_step_is_reported_at_once(facts, says):
    (text,) = monitor.ClipMonitor(4, 4).add(step(1, **facts))
    assert says in text


def test_a_constant_loss_is_reported_and_a_falling_one_is_not():
    still, falls = monitor.ClipMonitor(4, 4), monitor.ClipMonitor(4, 4)
    reported = [text for n in range(1, 70) for text in still.add(step(n, norm=0.5))]
    assert len(reported) == 1 and "The loss does not fall" in reported[0]
    assert not [text for n in range(1, 70) for text in falls.add(step(n, loss=1 - n / 100, norm=0.5))]


def test_steps_are_read_back_up_to_a_checkpoint(tmp_path):
    for n in (1, 2, 3, 4):
        monitor.append(tmp_path / "steps.csv", step(n, loss=n / 3))
    with (tmp_path / "steps.csv").open("a") as stream:
        stream.write("5,0.1,")  # cut off by a kill
    assert [s.step for s in monitor.read(tmp_path / "steps.csv")] == [1, 2, 3, 4]
    assert [s.step for s in monitor.read(tmp_path / "steps.csv", 2)] == [1, 2]


# -- checkpoints -----------------------------------------------------------------------------------


def write_checkpoint(root, number):
    part = checkpoints.part_of(root, number)
    part.mkdir(parents=True)
    (part / "weights").write_bytes(bytes([number]) * 100)
    return checkpoints.finish(root, number)


def test_the_last_two_checkpoints_are_kept_and_half_ones_never_taken(tmp_path):
    for number in (1, 2, 10):
        write_checkpoint(tmp_path, number)
    assert checkpoints.complete_names(tmp_path) == [2, 10]
    half = checkpoints.part_of(tmp_path, 12)
    half.mkdir()
    (half / "weights").write_bytes(b"x")
    assert checkpoints.newest(tmp_path).name == "checkpoint-10"
    (tmp_path / "checkpoint-10" / "weights").write_bytes(b"short")
    assert checkpoints.newest(tmp_path).name == "checkpoint-2"
    (tmp_path / "checkpoint-2" / "weights").write_bytes(bytes([3]) * 100)  # as long, but other
    assert checkpoints.newest(tmp_path) is None
    with pytest.raises(ModelError, match="is incomplete"):
        checkpoints.require_complete(tmp_path / "checkpoint-2")
    checkpoints.tidy(tmp_path)
    assert not half.exists()


# -- training --------------------------------------------------------------------------------------


def weights(folder):
    from safetensors.torch import load_file

    return load_file(folder / "adapter_model.safetensors")


def same(one, other, tolerance=1e-6):
    return set(one) == set(other) and all(float((one[n] - other[n]).abs().max()) <= tolerance for n in one)


def test_a_stopped_training_goes_on_to_the_same_weights(quick, data, tmp_path):
    whole = run.train(data, tmp_path / "whole", quick)
    assert whole.finished and whole.steps == 8
    assert not same(weights(tmp_path / "whole" / "checkpoints" / "checkpoint-6"), weights(whole.adapter), 1e-5)

    class StopsAtFour(NoProgress):
        def fraction(self, value):
            if value >= 0.5 and not (tmp_path / "parted" / "control").exists():
                control.order(tmp_path / "parted", "stop")

    stopped = run.train(data, tmp_path / "parted", quick, StopsAtFour())
    assert not stopped.finished and stopped.steps < 8 and control.state_of(tmp_path / "parted").state == "stopped"
    assert (stopped.adapter / "adapter_model.safetensors").is_file(), "stop keeps what was learned"
    control.order(tmp_path / "parted", "resume")
    resumed = run.train(data, tmp_path / "parted", quick.with_(rate=1.0), resume=True)
    assert resumed.finished and resumed.steps == 8
    assert same(
        weights(tmp_path / "whole/checkpoints/checkpoint-8"), weights(tmp_path / "parted/checkpoints/checkpoint-8")
    )
    assert same(weights(whole.adapter), weights(resumed.adapter))
    assert [s.step for s in monitor.read(tmp_path / "parted" / "steps.csv")] == list(range(1, 9))


@pytest.mark.parametrize("precision", ["nf4", "int8"])
def test_a_base_in_4_or_8_bits_learns(precision, quick, data, tmp_path):
    """QLoRA: the base stays as it is, packed, and the loss falls."""
    settings = quick.with_(precision=precision, steps=30, rate=1e-2, evaluate_every=100, save_every=100)
    done = run.train(data, tmp_path / "run", settings)
    losses = [s.loss for s in monitor.read(tmp_path / "run" / "steps.csv")]
    assert done.finished and sum(losses[-5:]) < 0.95 * sum(losses[:5])


def test_pausing_lasts_until_the_resume_command(quick, data, tmp_path):
    import threading
    import time

    states = []

    def clip_monitor():
        while not states or states[-1] != "paused":
            state = control.state_of(tmp_path / "run")
            states.append(state.state if state else "")
            time.sleep(0.02)
        control.order(tmp_path / "run", "resume")

    class Pauses(NoProgress):
        def fraction(self, value):
            if not states and value < 0.5:
                control.order(tmp_path / "run", "pause")
                threading.Thread(target=clip_monitor).start()

    done = run.train(data, tmp_path / "run", quick, Pauses())
    assert "paused" in states and done.finished


def test_another_data_set_or_a_used_folder_is_refused(quick, data, tmp_path):
    run.train(data, tmp_path / "run", quick.with_(steps=2))
    with pytest.raises(OutputError, match="is there already; go on with it with --resume"):
        run.train(data, tmp_path / "run", quick)
    other = finetune_phantoms.build(tmp_path / "other", pictures=2)
    with pytest.raises(InputError, match="not the one that this training began with"):
        run.train(other, tmp_path / "run", quick, resume=True)


def test_one_picture_a_step_and_a_small_clip_are_warned_of(quick, data, tmp_path):
    reported = Notes()
    run.train(data, tmp_path / "run", quick.with_(batch=1, accumulation=1, clip=0.01, steps=10), reported)
    assert [text for text in reported.notes if "Clipping at 0.01 cut 100% of the last" in text and "accumulate" in text]
    assert "Clipping" in control.state_of(tmp_path / "run").warnings[0]
    assert (tmp_path / "run" / "steps.png").stat().st_size > 5000
    assert (tmp_path / "run" / "layers.csv").read_text().count("lora_B") > 5


def test_training_ends_when_the_loss_is_no_number(quick, data, tmp_path):
    with pytest.raises(ModelError, match="not a number at step"):
        run.train(data, tmp_path / "run", quick.with_(rate=1e30, steps=20, clip=0))
    assert control.state_of(tmp_path / "run").state == "failed"


@pytest.mark.parametrize(
    ("losses", "ends"), [((1.0, 0.5, 0.6, 0.7, 0.4), True), ((1.0, 0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3), False)]
)
def test_no_progress_on_held_out_patients_ends_it(quick, data, tmp_path, monkeypatch, losses, ends):
    """The losses are given, since what a training reaches differs between processors."""
    from MedFMLib.training.finetune import trainer

    make, values = trainer.AdapterTrainer.__init__, iter(losses)

    def with_losses(self, *arguments, validate, **options):
        make(self, *arguments, validate=lambda model: next(values), **options)

    monkeypatch.setattr(trainer.AdapterTrainer, "__init__", with_losses)
    reported = Notes()
    settings = quick.with_(evaluate_every=1, patience=2, steps=40 if ends else 6, schedule="constant")
    done = run.train(data, tmp_path / "run", settings, reported)
    said = [text for text in reported.notes if "No progress on held-out patients for 2" in text]
    assert (done.steps, len(said)) == ((4, 1) if ends else (6, 0))


def test_plain_peft_loads_the_adapter_and_gives_the_same_scores(quick, data, tmp_path, dense_folder):
    from peft import PeftModel
    from transformers import PaliGemmaForConditionalGeneration

    done = run.train(data, tmp_path / "run", quick)
    model = load_model(registry.card(str(dense_folder)), str(done.adapter), "fp32", NoProgress())
    dataset = Dataset.load(data)
    sample = dataset.samples["test"][0]
    asked = model.inputs_for(dataset.view(sample), sample.question)
    plain = PeftModel.from_pretrained(
        PaliGemmaForConditionalGeneration.from_pretrained(dense_folder), done.adapter
    ).eval()
    with torch.no_grad():
        ours, theirs = model.model(**asked).logits, plain(**asked).logits
        bare = plain.unload()(**asked).logits
    assert torch.allclose(ours, theirs, atol=1e-4) and not torch.allclose(ours, bare, atol=1e-2)
    config = json.loads((done.adapter / "adapter_config.json").read_text())
    assert config["base_model_name_or_path"] == dense_folder.name, "no folder of this machine"


def test_tensorboard_has_the_monitors_numbers_and_nothing_of_this_machine(quick, data, tmp_path):
    reading = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    run.train(data, tmp_path / "run", quick.with_(steps=4, evaluate_every=2), tensorboard=True)
    found = reading.EventAccumulator(str(tmp_path / "run" / "tensorboard")).Reload()
    steps = monitor.read(tmp_path / "run" / "steps.csv")
    for name, field in (
        ("loss/train", "loss"),
        ("gradient/norm before clipping", "norm"),
        ("weights/update", "update"),
    ):
        curve = [(event.step, event.value) for event in found.Scalars(name)]
        assert curve == [(s.step, pytest.approx(getattr(s, field), rel=1e-5)) for s in steps]
    assert [event.step for event in found.Scalars("loss/held-out patients")] == [2, 4]
    assert any(tag.startswith("layers/") for tag in found.Tags()["scalars"])
    kept = b"".join(path.read_bytes() for path in (tmp_path / "run" / "tensorboard").iterdir())
    assert str(tmp_path).encode() not in kept and str(data).encode() not in kept


def test_without_tensorboard_the_wish_for_it_is_refused_before_anything_is_loaded(quick, data, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    monkeypatch.setattr(base, "load", lambda *_: pytest.fail("loaded"))
    with pytest.raises(ModelError, match="pip install tensorboard"):
        run.train(data, tmp_path / "run", quick, tensorboard=True)


# -- before the start ------------------------------------------------------------------------------


def test_a_plan_that_does_not_fit_shrinks_batches_and_then_refuses(quick, data, dense_folder):
    model = base.load(quick, NoProgress())
    dataset = Dataset.load(data)
    example = inputs.SampleReader(model, dataset).example(dataset.samples["train"][0])
    wide = estimate.plan(model.model, quick, example, 10**12)
    assert wide.fits and wide.settings == quick and "for this" not in wide.says
    least = estimate.plan(model.model, quick.with_(batch=1, accumulation=4, checkpointing=True), example, 10**12)
    between = (least.parts.total + wide.parts.total) // 2 - wide.parts.weights
    tight = estimate.plan(model.model, quick, example, int(between / 0.92))
    assert tight.fits and tight.settings.checkpointing and tight.settings.batch * tight.settings.accumulation == 4
    none = estimate.plan(model.model, quick, example, 1000)
    assert not none.fits and "does not fit" in none.says and none.settings.batch == 1


def test_the_dry_run_verifies_the_count(quick, data, dense_folder):
    """In a process of its own, as in use: another's peak would hide this one's."""
    from MedFMLib.training.finetune import finetune_in_subprocess

    found = finetune_in_subprocess.estimate(data, quick, NoProgress())
    assert found["reached"] > found["before"] > 0 and found["counted"] == found["before"] + found["total"]
    assert found["peak"] == found["reached"] + found["bytes"]["optimizer"]
    assert f"expected to reach {found['peak'] / 1e9:.1f} GB" in found["verified"]


def test_memory_retained_by_the_c_library_is_reported_with_the_remedy(quick):
    from dataclasses import replace

    parts = estimate.TrainingMemory(10**9, 0, 0, 10**8, 10**9, 0, 0)
    plan = estimate.TrainingPlan(parts, 10**9, 10**11, 1, quick, True, "")
    assert plan.peak == plan.counted == 31 * 10**8 and plan.verified == "", "no dry run yet"
    close, far = replace(plan, reached=31 * 10**8), replace(plan, reached=40 * 10**8)
    assert close.peak == 32 * 10**8 and "--low-memory" not in close.verified
    assert far.peak == 41 * 10**8 and "3.1 GB of it counted" in far.verified and "--low-memory" in far.verified
    assert "--low-memory" not in replace(far, settings=quick.with_(low_memory=True)).verified


def test_saved_activations_are_those_that_autograd_keeps(dense_folder, quick):
    """Counted on the meta device and while a real batch runs; checkpointing keeps fewer."""
    from transformers import AutoConfig

    config = AutoConfig.from_pretrained(dense_folder)
    tokens = 48
    plain, less = (estimate.saved_bytes(config, quick.with_(checkpointing=c), tokens, 4) for c in (False, True))
    model = base.load(quick, NoProgress())
    peft = base.add_lora(model.model, quick.with_(targets="text"))
    text = peft.get_base_model().model.language_model
    held = {}
    own = {p.untyped_storage().data_ptr() for p in peft.parameters()}

    def pack(tensor):
        pointer = tensor.untyped_storage().data_ptr()
        if pointer not in own:
            held[pointer] = tensor.untyped_storage().nbytes()
        return tensor

    entry = torch.randn(1, tokens, config.text_config.hidden_size, requires_grad=True)
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        out = text(inputs_embeds=entry, use_cache=False)
    assert plain == pytest.approx(sum(held.values()), rel=0.15)
    assert out is not None and less < plain


@pytest.mark.parametrize("name", ["fsdp.yaml", "deepspeed.yaml", "machines.yaml"])
def test_the_files_for_several_gpus_are_those_that_accelerate_reads(name):
    from accelerate.commands.config.config_args import load_config_from_file

    from MedFMLib.storage import resources

    path = resources.path("training", name)
    made = load_config_from_file(str(path))
    kind = {"fsdp.yaml": "FSDP", "deepspeed.yaml": "DEEPSPEED", "machines.yaml": "MULTI_GPU"}[name]
    assert str(getattr(made.distributed_type, "value", made.distributed_type)) == kind
    assert made.mixed_precision == "bf16" and made.num_processes >= 2


@pytest.mark.parametrize("wrong", [{"rank": 0}, {"rate": 0.0}, {"schedule": "linear"}, {"clip": -1}, {"dropout": 1.0}])
def test_settings_that_can_not_be_are_refused(wrong):
    with pytest.raises(InputError):
        TrainingSettings(**wrong)


# -- the adapter's card ----------------------------------------------------------------------------


@pytest.fixture
def carded(tiny_folder, tmp_path):
    """An adapter folder with a card, and its model's revision."""
    import shutil

    folder = tmp_path / "carded"
    shutil.copytree(tiny_folder / "adapters" / "default", folder)
    revision = load_model(registry.card(str(tiny_folder)), "", "nf4", NoProgress()).facts.revision

    def write(**changes):
        card = {"sha256": adapter_card.sha256(folder), "base": {"id": "tiny", "revision": revision},
                "verdict": {"offered": True, "reasons": []}}  # fmt: skip
        (folder / adapter_card.CARD).write_text(json.dumps(card | changes))
        return folder

    return write


def use(tiny_folder, folder):
    load_model(registry.card(str(tiny_folder)), str(folder), "nf4", NoProgress())


def test_an_adapter_with_a_good_card_is_used(carded, tiny_folder):
    use(tiny_folder, carded())


def test_a_tampered_adapter_is_refused(carded, tiny_folder):
    from safetensors.torch import load_file, save_file

    folder = carded()
    tensors = load_file(folder / "adapter_model.safetensors")
    name = next(iter(tensors))
    save_file(tensors | {name: tensors[name] + 1e-3}, folder / "adapter_model.safetensors")
    with pytest.raises(ModelError, match="do not match its card"):
        use(tiny_folder, folder)


def test_an_adapter_of_another_base_is_refused(carded, tiny_folder):
    with pytest.raises(ModelError, match="made for another base, other of revision 0000"):
        use(tiny_folder, carded(base={"id": "other", "revision": "0" * 64}))


def test_a_pickled_adapter_is_refused(carded, tiny_folder):
    folder = carded()
    (folder / "adapter_model.safetensors").rename(folder / "adapter_model.bin")
    with pytest.raises(ModelError, match="pickled adapters are refused"):
        use(tiny_folder, folder)


def test_an_adapter_that_is_not_offered_needs_a_yes_that_counts_for_its_weights(carded, tiny_folder):
    folder = carded(verdict={"offered": False, "reasons": ["it is worse than its base"]})
    with pytest.raises(
        ModelError, match="is not offered for use: it is worse than its base.*medfm adapters accept carded"
    ):
        use(tiny_folder, folder)
    with adapter_card.judging():
        use(tiny_folder, folder)
    assert adapter_card.accept(folder) == "it is worse than its base"
    use(tiny_folder, folder)
    (folder / adapter_card.ACCEPTED).write_text('{"sha256": "of other weights"}')
    with pytest.raises(ModelError, match="not offered"):
        use(tiny_folder, folder)
