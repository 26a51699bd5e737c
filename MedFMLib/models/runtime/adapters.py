"""Find, check, attach and switch the LoRA adapters of one base without reloading it. Knows no architecture.

Only safetensors are read. Torch and PEFT are imported when an adapter is attached. Attaching must not repack 4-bit
layers; `checkpoint` explains why.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ...errors import ModelError
from ...storage import adapter_card, installed_models, resources
from ...storage.json_text import read_json
from ...storage.model_card import ModelCard
from .checkpoint import quiet_bitsandbytes, sha256_of, tensor_names

VOLUME_WEIGHTS = "volume_head.safetensors"
"""An adapter's network for whole volumes (`masks.volume_head`), beside its LoRA or alone."""


class Adapters:
    """The adapters of one base: attached when first used, merged where that is faster, switched without reloading.

    Args:
        card: card of the base; names its adapters.
        model: the base without adapters.
        head: the base's mask head, or None.
        revision: of the base; an adapter whose card names another one is refused.
    """

    def __init__(self, card: ModelCard, model, head, revision: str = ""):
        self.card, self.model, self.base_head, self.revision = card, model, head, revision
        self.head, self.hash, self.active = head, "", ""
        self.notes: tuple[str, ...] = ()
        self._known: dict[str, tuple[object, str, tuple[str, ...]]] = {}
        self._volume_heads: dict[str, object] = {}

    def activate(self, name: str) -> None:
        """Activate an adapter by name or folder; "" for the base alone.

        Raises:
            ModelError: if there is no such adapter, or it is incompatible.
        """
        if name == self.active:
            return
        if name and name not in self._known:
            folder = adapter_folder(self.card, name)
            adapter_card.check(folder, self.revision)
            head = None if "masks" in adapter_card.read(folder).get("tokens", ()) else self.base_head
            if (folder / "mask_head.json").is_file():
                from ..masks.mask_head import MaskHead

                head = MaskHead.load(folder)
            if is_volume_only(folder):
                self._known[name] = (None, self.hash_of(name), ())
            else:
                self.model = attach_adapter(self.model, folder, _key(name))
                self._known[name] = (head, self.hash_of(name), other_base(self.card, folder))
        attached = name and _key(name) in getattr(self.model, "peft_config", {})
        switch_adapter(self.model, _key(name) if attached else "")
        self.head, self.hash, self.notes = self._known[name] if name else (self.base_head, "", ())
        self.active = name

    @property
    def facts(self) -> dict[str, Any]:
        """The active adapter's part of `LoadedFacts`."""
        folder = Path(self.active).is_dir()
        name = Path(self.active).name if folder else self.active
        return {"adapter": name, "adapter_hash": self.hash, "notes": self.notes}

    def hash_of(self, name: str) -> str:
        """Return the SHA-256 (hex) of an adapter's weights: of the LoRA, or of the volume network if it is that alone."""
        folder = adapter_folder(self.card, name)
        return sha256_of([folder / (VOLUME_WEIGHTS if is_volume_only(folder) else "adapter_model.safetensors")])

    def volume_head(self, name: str):
        """Return the volume network of an adapter, without attaching its LoRA; None if it has none.

        Args:
            name: of the adapter; "" is the base, which has none.

        Raises:
            ModelError: if there is no such adapter, or its network can't be read.
        """
        if name not in self._volume_heads:
            folder = adapter_folder(self.card, name) if name else None
            if folder is None or not (folder / VOLUME_WEIGHTS).is_file():
                self._volume_heads[name] = None
            else:
                from ..masks.volume_head import VolumeHead

                self._volume_heads[name] = VolumeHead.load(folder)
        return self._volume_heads[name]

    def draws_slices(self, name: str) -> bool:
        """Return whether an adapter segments single slices; one that is only a volume network does not."""
        return not name or not is_volume_only(adapter_folder(self.card, name))

    def touches(self, modules: Sequence[str]) -> bool:
        """Return whether the active adapter changes a layer under one of these module paths."""
        if not self.active or not self.draws_slices(self.active):
            return False
        names = (
            name for name, _ in self.model.get_base_model().named_modules() if f".lora_A.{_key(self.active)}" in name
        )
        return any(name.startswith(tuple(modules)) for name in names)

    def choose(self, labels: Sequence[str], modality: str) -> dict[str, list[str]]:
        """Return the labels that each adapter segments; "" is the base without adapter.

        Each label goes to the first of the card's adapters that lists it for the modality, else to the base.

        Args:
            labels: names of structures.
            modality: "CT" or "MR".
        """
        groups: dict[str, list[str]] = {}
        for label in labels:
            adapters = (n for n in self.card.adapters if label in self.card.adapter_labels.get(n, {}).get(modality, ()))
            groups.setdefault(next(adapters, ""), []).append(label)
        return groups


def adapter_folder(card: ModelCard, adapter: str) -> Path:
    """Return the folder of an adapter: shipped with the model, installed, given as a path, or a downloaded hub id.

    Nothing is downloaded here.

    Args:
        card: card of the base.
        adapter: name, path or hub id.

    Raises:
        ModelError: if there is none, or its weights are missing or pickled.
    """
    root = (
        resources.path(*card.weights.split("/"))
        if card.weights
        else installed_models.model_folder(card.id) or Path(card.id)
    )
    places = [
        root / "adapters" / adapter,
        installed_models.adapter_folder(adapter),
        Path(adapter).expanduser(),
        _cached(adapter),
    ]
    folder = next((place for place in places if place is not None and place.is_dir()), None)
    if folder is None:
        known = ", ".join(dict.fromkeys((*card.adapters, *installed_models.adapters()))) or "none"
        get = f"get it with `medfm adapters get {adapter}`, or " if adapter.count("/") == 1 else ""
        raise ModelError(
            f"{card.title} has no adapter '{adapter}'; there is {known}. Otherwise {get}give the path of a PEFT adapter folder."
        )
    if is_volume_only(folder):
        return folder
    if not (folder / "adapter_config.json").is_file():
        raise ModelError(
            f"'{folder.name}' has no adapter_config.json, so it is not a PEFT adapter; choose the folder that has one."
        )
    if not (folder / "adapter_model.safetensors").is_file():
        raise ModelError(
            f"The adapter '{folder.name}' has no adapter_model.safetensors (pickled adapters are refused); "
            "save it as safetensors."
        )
    return folder


def is_volume_only(folder: Path) -> bool:
    """Return whether an adapter's folder holds a volume network and no LoRA."""
    return (folder / VOLUME_WEIGHTS).is_file() and not (folder / "adapter_config.json").is_file()


def _cached(adapter: str) -> Path | None:
    """Return the snapshot of a hub id in huggingface_hub's cache, or None."""
    if not installed_models.NAME.fullmatch(adapter) or adapter.count("/") != 1:
        return None
    try:
        from huggingface_hub import try_to_load_from_cache

        found = try_to_load_from_cache(adapter, "adapter_config.json")
    except (ImportError, ValueError):
        return None
    return Path(found).parent if isinstance(found, str) else None


def read_config(folder: Path) -> dict[str, Any]:
    """Return the content of an adapter's adapter_config.json.

    Raises:
        ModelError: if it is damaged.
    """
    try:
        content = read_json((folder / "adapter_config.json").read_bytes())
        return dict(content)
    except (OSError, ValueError, TypeError) as error:
        raise ModelError(f"The adapter_config.json of '{folder.name}' is damaged; copy the adapter again.") from error


def other_base(card: ModelCard, folder: Path) -> tuple[str, ...]:
    """Return a note if an adapter names another base, or another revision of it, than the card's.

    If the layers are incompatible as well, `attach_adapter` refuses it. A path as base is ignored, since it only tells
    where the base was during training.

    Args:
        card: card of the base.
        folder: folder of the adapter.
    """
    config = read_config(folder)
    base, revision = str(config.get("base_model_name_or_path") or ""), str(config.get("revision") or "")
    ours = (
        installed_models.manifest(installed_models.model_folder(card.id) or Path()).get("revision", "") or card.revision
    )
    own = {card.id, f"{Path(card.id).name}/base"}
    if installed_models.NAME.fullmatch(base) and base.count("/") == 1 and card.id.count("/") == 1 and base not in own:
        return (f"The adapter {folder.name} was made for {base} and is used with {card.id}; expect worse answers.",)
    if base == card.id and ours and len(revision) == 40 and revision != ours:
        return (f"The adapter {folder.name} was made for revision {revision[:8]} of {base}, this one is {ours[:8]}.",)
    return ()


def read_tensors(folder: Path) -> dict[str, Any]:
    """Return an adapter's tensors as numpy arrays, bfloat16 as float32.

    Raises:
        ModelError: if the file is damaged, or a value is NaN or infinite.
    """
    import numpy as np
    from safetensors.numpy import load_file

    path = folder / "adapter_model.safetensors"
    tensor_names(path)
    try:
        tensors = load_file(path)
    except (TypeError, KeyError):  # bfloat16, which numpy lacks
        from safetensors.torch import load_file as load_torch

        tensors = {name: value.float().numpy() for name, value in load_torch(path).items()}
    for name, value in tensors.items():
        if not np.isfinite(value.astype(np.float32)).all():
            raise ModelError(
                f"The adapter '{folder.name}' has values that are NaN or infinite in {name}; train it again."
            )
    return tensors


def attach_adapter(model, folder: Path, known_as: str = "default"):
    """Return the model with a LoRA adapter next to its (frozen) weights; inactive until `switch_adapter`.

    Args:
        model: without adapters, or a PEFT model with other adapters.
        folder: folder of the adapter.
        known_as: name for switching to it.

    Raises:
        ModelError: if the adapter was made for another base, or has NaN or infinite values.
    """
    from ..cpu import adapters as cpu_adapters

    quiet_bitsandbytes()  # PEFT imports it
    from peft import PeftModel

    tensors = read_tensors(folder)
    core = model.get_base_model() if hasattr(model, "get_base_model") else model
    sizes = {
        module_name.replace(".base_layer", ""): (module.in_features, module.out_features)
        for module_name, module in core.named_modules()
        if hasattr(module, "in_features") and ".lora_" not in module_name
    }
    for name, value in tensors.items():
        layer, _, half = name.removeprefix("base_model.model.").rpartition(".lora_")
        if not layer:
            continue
        if layer not in sizes:
            raise ModelError(f"The adapter '{folder.name}' was made for another base: this one has no layer {layer}.")
        width = sizes[layer][0] if half.startswith("A") else sizes[layer][1]
        if value.shape[1 if half.startswith("A") else 0] != width:
            raise ModelError(
                f"The adapter '{folder.name}' was made for another base: {layer} has width {width} here, {value.shape} in it."
            )
    with _stays_packed(model):
        if hasattr(model, "peft_config"):
            switch_adapter(model, "")
            model.load_adapter(str(folder), adapter_name=known_as, is_trainable=False)
        else:
            model = PeftModel.from_pretrained(model, str(folder), adapter_name=known_as, is_trainable=False)
    cpu_adapters.use(model)
    return model.eval()


@contextmanager
def _stays_packed(model):
    """Prevent that reading the model's state repacks its 4-bit weights with rounding (see `checkpoint`)."""
    layers = [module for module in model.modules() if type(module).__name__ == "Linear4bit"]
    states = [getattr(getattr(layer, "base_layer", layer).weight, "quant_state", None) for layer in layers]
    packed = [state for state in states if getattr(state, "packing_format_for_cpu", False)]
    for state in packed:
        state.packing_format_for_cpu = False
    try:
        yield
    finally:
        for state in packed:
            state.packing_format_for_cpu = True


def switch_adapter(model, name: str) -> None:
    """Activate one attached adapter; "" for the base alone.

    It is merged into float32 weights, which is reversible and saves a third of the time of small models; merging into
    bf16 weights could not be undone exactly.

    Args:
        model: with or without adapters.
        name: as given to `attach_adapter`.
    """
    import torch

    if not hasattr(model, "peft_config"):
        return
    mergeable = all(p.dtype == torch.float32 for name, p in model.named_parameters() if ".lora_" not in name)
    if mergeable and any(getattr(module, "merged", False) for module in model.modules()):
        model.unmerge_adapter()
    if not name:
        model.base_model.disable_adapter_layers()
        return
    model.base_model.enable_adapter_layers()
    model.set_adapter(name)
    model.requires_grad_(False)
    if mergeable:
        model.merge_adapter([name])


def _key(name: str) -> str:
    """Return a name that PEFT accepts as part of module names."""
    return name.replace("/", "__").replace("\\", "__").replace(".", "_")
