"""The files for vLLM and Ray Serve contain only valid options; checked against Ray's own schema where it is installed."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import yaml
from pydantic import BaseModel, ConfigDict, Field

FOLDER = Path(__file__).parents[2] / "Resources" / "deployment"
DOCUMENT = Path(__file__).parents[2] / "docs" / "deployment.md"


class Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", protected_namespaces=())


class Loading(Strict):
    model_id: str = Field(pattern=r"^[\w.-]+$")  # a colon would separate it from an adapter
    model_source: str


class Lora(Strict):
    """ray.llm LoraConfig, which takes no local folder."""

    dynamic_lora_loading_path: str = Field(pattern=r"^(s3|gs|abfss|azure)://.*[^/]$")
    max_num_adapters_per_replica: int = Field(gt=0)


class Autoscaling(Strict):
    min_replicas: int = Field(ge=0)
    max_replicas: int
    target_ongoing_requests: float
    upscale_delay_s: float
    downscale_delay_s: float


class Deployment(Strict):
    max_ongoing_requests: int
    autoscaling_config: Autoscaling


class Engine(Strict):
    """Of vLLM's EngineArgs, what we use."""

    dtype: str
    tensor_parallel_size: int
    max_model_len: int
    limit_mm_per_prompt: dict[str, int]
    gpu_memory_utilization: float = Field(gt=0, lt=1)
    enable_prefix_caching: bool
    enable_lora: bool
    max_loras: int
    max_lora_rank: int


class Model(Strict):
    """ray.llm LLMConfig, what we use."""

    model_loading_config: Loading
    accelerator_type: str
    engine_kwargs: Engine
    lora_config: Lora
    deployment_config: Deployment


class Arguments(Strict):
    llm_configs: list[Model]


class Application(Strict):
    name: str
    route_prefix: str
    import_path: str = Field(pattern="^ray.serve.llm:build_openai_app$")
    args: Arguments


class Serve(Strict):
    """ray.serve ServeDeploySchema, what we use."""

    proxy_location: str
    http_options: dict[str, str | int]
    applications: list[Application]


def read(name):
    return yaml.safe_load((FOLDER / name).read_text())


def test_ray_serve_s_file_is_what_it_takes_and_listens_here_only():
    made = Serve.model_validate(read("ray_serve.yaml"))
    assert made.http_options["host"] == "127.0.0.1"
    (model,) = made.applications[0].args.llm_configs
    scaling = model.deployment_config.autoscaling_config
    assert scaling.min_replicas <= scaling.max_replicas
    assert scaling.target_ongoing_requests <= model.deployment_config.max_ongoing_requests


def test_vllm_s_file_is_the_same_model_and_listens_here_only():
    content = read("vllm.yaml")
    assert content["host"] == "127.0.0.1"
    names = {name.replace("-", "_"): value for name, value in content.items()}
    own = {"model", "served_model_name", "host", "port"}
    engine = {name: value for name, value in names.items() if name not in own}
    engine["limit_mm_per_prompt"] = json.loads(engine["limit_mm_per_prompt"])
    (model,) = Serve.model_validate(read("ray_serve.yaml")).applications[0].args.llm_configs
    assert Engine.model_validate(engine) == model.engine_kwargs
    loading = model.model_loading_config
    assert (names["model"], names["served_model_name"]) == (loading.model_source, loading.model_id)


def test_a_wrong_option_is_seen():
    content = read("ray_serve.yaml")
    content["applications"][0]["args"]["llm_configs"][0]["engine_kwargs"]["tensor_paralel_size"] = 2
    with pytest.raises(ValueError, match="tensor_paralel_size"):
        Serve.model_validate(content)


def test_ray_s_own_schema_takes_the_file():
    pytest.importorskip("grpc", reason="ray[serve] is not installed")
    schema = pytest.importorskip("ray.serve.schema", reason="ray[serve] is not installed")
    schema.ServeDeploySchema.model_validate(read("ray_serve.yaml"))


def test_the_model_has_a_card_and_its_pictures_fit_the_context():
    from MedFMLib.interfaces import registry

    content = read("vllm.yaml")
    assert any(content["model"].split("/")[1].split("-")[0] in name for name in registry.cards())
    assert json.loads(content["limit-mm-per-prompt"])["image"] * 256 + 1024 <= content["max-model-len"]


def test_the_proxy_lets_only_named_paths_through():
    text = (FOLDER / "nginx.conf").read_text()
    assert text.count("{") == text.count("}")
    paths = re.findall(r"location (=? ?/\S*)", text)
    assert paths == [
        "= /v1/models",
        "= /v1/chat/completions",
        "= /v1/load_lora_adapter",
        "= /v1/unload_lora_adapter",
        "/",
    ]
    assert "location / { return 404; }" in text and "listen 443 ssl" in text and "listen 80" not in text


def test_the_document_names_files_and_commands_that_exist():
    from typer.main import get_command

    from MedFMLib.cli import app as cli

    text = DOCUMENT.read_text()
    for name in re.findall(r"Resources/deployment/([\w.]+)", text):
        assert (FOLDER / name).is_file(), name
    root = get_command(cli.app)
    for line in re.findall(r"^medfm (.*)$", text, re.M):
        words, command = line.split(), root
        while words and hasattr(command, "commands") and words[0] in command.commands:
            command = command.commands[words.pop(0)]
        known = {option for parameter in command.params for option in (*parameter.opts, *parameter.secondary_opts)}
        assert not hasattr(command, "commands") and {w for w in words if w.startswith("-")} <= known, line
