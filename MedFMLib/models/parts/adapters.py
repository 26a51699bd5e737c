"""LoRA adapters of one base: found, checked, attached, switched without reloading. Knows no architecture.

Only safetensors are read. Torch and PEFT are imported when an adapter is attached; the packing trap of 4-bit layers that
is kept off here is explained in `loading`.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import contextmanager
from pathlib import Path

from ... import resources
from ...errors import ModelError
from ...model import ModelCard
from .loading import quiet_bitsandbytes, sha256_of, tensor_names


class Adapters:
    """The adapters of one base: attached when first used, merged where that is faster, switched without reloading.

    Args:
        card: names them. model: the bare base. head: the base's mask head, or None.
    """

    def __init__(self, card: ModelCard, model, head):
        self.card, self.model, self.base_head = card, model, head
        self.head, self.hash, self.active = head, "", ""
        self._known: dict[str, tuple[object, str]] = {}

    def activate(self, name: str) -> None:
        """Make `name` the active one; "" for the bare base.

        Raises:
            ModelError: if there is no such adapter, or it doesn't fit.
        """
        if name == self.active:
            return
        if name and name not in self._known:
            folder = adapter_folder(self.card, name)
            head = self.base_head
            if (folder / "mask_head.json").is_file():
                from .mask_head import MaskHead

                head = MaskHead.load(folder)
            self.model = attach_adapter(self.model, folder, _key(name))
            self._known[name] = (head, sha256_of([folder / "adapter_model.safetensors"]))
        switch_adapter(self.model, _key(name) if name else "")
        self.head, self.hash = self._known[name] if name else (self.base_head, "")
        self.active = name

    def touches(self, modules: Sequence[str]) -> bool:
        """Does the active adapter change something under one of these paths?"""
        if not self.active:
            return False
        names = (
            name for name, _ in self.model.get_base_model().named_modules() if f".lora_A.{_key(self.active)}" in name
        )
        return any(name.startswith(tuple(modules)) for name in names)

    def choose(self, labels: Sequence[str], modality: str) -> dict[str, list[str]]:
        """Adapter → labels: each label to the first of the card's adapters that lists it for this modality, else to the base."""
        groups: dict[str, list[str]] = {}
        for label in labels:
            adapters = (n for n in self.card.adapters if label in self.card.adapter_labels.get(n, {}).get(modality, ()))
            groups.setdefault(next(adapters, ""), []).append(label)
        return groups


def adapter_folder(card: ModelCard, adapter: str) -> Path:
    """Folder of one of the card's adapters, or of any adapter given as a path.

    Raises:
        ModelError: if it is neither, or unsafe.
    """
    places = [Path(card.id) / "adapters" / adapter, Path(adapter).expanduser()]
    if card.weights:
        places.insert(0, resources.path(*card.weights.split("/"), "adapters", adapter))
    folder = next((place for place in places if place.is_dir()), None)
    if folder is None:
        raise ModelError(
            f"{card.title} has no adapter '{adapter}'; it has {', '.join(card.adapters) or 'none'}. "
            "Or give the path of a PEFT adapter folder."
        )
    if not (folder / "adapter_config.json").is_file():
        raise ModelError(
            f"'{folder.name}' has no adapter_config.json, so it is no PEFT adapter; choose the folder that has."
        )
    if not (folder / "adapter_model.safetensors").is_file():
        raise ModelError(
            f"The adapter '{folder.name}' has no adapter_model.safetensors (pickled adapters are refused); "
            "save it as safetensors."
        )
    return folder


def attach_adapter(model, folder: Path, known_as: str = "default"):
    """The model with a LoRA adapter beside its (frozen) weights; not active until `switch_adapter`.

    Args:
        model: bare, or a PEFT model with other adapters.
        known_as: the name under which it can be switched to.

    Raises:
        ModelError: if the adapter was made for another base, or has broken values.
    """
    import numpy as np

    from . import cpu_adapters

    quiet_bitsandbytes()  # PEFT imports it
    from peft import PeftModel
    from safetensors.numpy import load_file

    path = folder / "adapter_model.safetensors"
    tensor_names(path)
    core = model.get_base_model() if hasattr(model, "get_base_model") else model
    sizes = {
        module_name.replace(".base_layer", ""): (module.in_features, module.out_features)
        for module_name, module in core.named_modules()
        if hasattr(module, "in_features") and ".lora_" not in module_name
    }
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
    with _kept_packed(model):
        if hasattr(model, "peft_config"):
            switch_adapter(model, "")
            model.load_adapter(str(folder), adapter_name=known_as, is_trainable=False)
        else:
            model = PeftModel.from_pretrained(model, str(folder), adapter_name=known_as, is_trainable=False)
    cpu_adapters.use(model)
    return model.eval()


@contextmanager
def _kept_packed(model):
    """Nothing that asks for the model's state packs its 4-bit weights back (see the module's docstring)."""
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
    """Make one attached adapter the active one; "" for the bare base.

    Into float32 weights it is merged, which can be undone and saves a third of the time of small models; from bf16 ones
    it could not be taken out again without a trace.
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
    """A name that PEFT takes as part of module names."""
    return Path(name).name.replace(".", "_")
