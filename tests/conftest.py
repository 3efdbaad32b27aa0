"""What holds for every test: no network, no chance, no window."""

import importlib.util
import os
from pathlib import Path

import pytest
from hypothesis import settings

NETGUARD = Path(__file__).parent / "netguard"


def _block_network() -> None:
    """In this process now, in its children through the environment."""
    os.environ["KIE_BLOCK_NETWORK"] = "1"
    inherited = os.environ.get("PYTHONPATH")
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [str(NETGUARD), inherited]))
    # By its path: a distribution may have a sitecustomize of its own, loaded already.
    file = NETGUARD / "sitecustomize.py"
    spec = importlib.util.spec_from_file_location("netguard", file)
    spec.loader.exec_module(importlib.util.module_from_spec(spec))


_block_network()
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"
os.environ["MPLBACKEND"] = "agg"

settings.register_profile("course", derandomize=True, deadline=None, database=None)
settings.load_profile("course")


@pytest.fixture(scope="session")
def kie_data() -> Path:
    """The folder of public data sets that `KIE_DATA_DIR` names."""
    if "KIE_DATA_DIR" not in os.environ:
        pytest.skip("KIE_DATA_DIR names no folder of public data sets")
    folder = Path(os.environ["KIE_DATA_DIR"])
    assert folder.is_dir(), f"KIE_DATA_DIR is no folder: {folder}"
    return folder


@pytest.fixture(scope="module")
def one_thread():
    """Texts and models as small as a test's only wait for a second thread."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def tiny_folder(tmp_path_factory) -> Path:
    """A folder with an encoder that fits a test."""
    from tiny import encoder_folder

    return encoder_folder(tmp_path_factory.mktemp("tiny"))
