"""Models on the Hugging Face hub: availability and config by name.

Nothing here loads a weight.
"""

from __future__ import annotations

import os
from pathlib import Path

from stratos.core.foreign import why_unreadable
from stratos.core.reasons import Reason
from stratos.core.words import HubStatus, HubUnreachable, NotOnHub


def is_hub_name(path: str) -> bool:
    """Return whether a path may be the name of a model: `org/model`, or `model`."""
    return not path.startswith((".", "/", "~")) and "\\" not in path and 0 < path.count("/") + 1 < 3


def location(path: str) -> tuple[str, bool]:
    """Return what a loader takes for a path, and whether it is a folder of this machine.

    What is none is taken for the name of a model on the hub, which loaders fetch once.
    """
    folder = os.path.expanduser(path)
    return (folder, True) if os.path.isdir(folder) else (path, False)


def cached_weights(name: str) -> bool:
    """Return whether the weights of a model lie in the hub's local cache; asks no network."""
    files = ("model.safetensors", "model.safetensors.index.json")
    folder = cached_folder(name)
    return folder is not None and any((folder / file).exists() for file in files)


def cached_folder(name: str) -> Path | None:
    """Return the folder of the hub's local cache that a model lies in; asks no network."""
    if not is_hub_name(name):
        return None
    import huggingface_hub
    from huggingface_hub.errors import HFValidationError

    try:
        found = huggingface_hub.try_to_load_from_cache(name, "config.json")
    except HFValidationError:
        return None
    return Path(found).parent if isinstance(found, str) else None


def missing_on_hub(name: str, revision: str | None = None) -> Reason | None:
    """Return why a model cannot be had from the hub or its local cache, or None.

    The hub is asked for a file's headers at most.
    """
    import huggingface_hub
    from huggingface_hub import constants
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError

    try:
        cached = huggingface_hub.try_to_load_from_cache(name, "config.json", revision=revision)
        if isinstance(cached, str):
            return None
        if constants.HF_HUB_OFFLINE:
            return NotOnHub.OFFLINE
        url = huggingface_hub.hf_hub_url(name, "config.json", revision=revision)
        huggingface_hub.get_hf_file_metadata(url, timeout=5)
    except HFValidationError:
        return NotOnHub.NAME
    except HfHubHTTPError as error:
        return HubStatus(error.response.status_code if error.response is not None else None)
    except Exception as error:  # whatever the HTTP library under the hub's client raises
        return HubUnreachable(type(error).__name__)
    return None


def config_file(path: str) -> Path:
    """Return the config.json of a model: that of a folder here, else the hub's, fetched once.

    Raises:
        OSError: there is none, with the reason.
    """
    folder, is_folder = location(path)
    if is_folder:
        file = Path(folder) / "config.json"
        if not file.exists():
            raise OSError(f"the folder {path} has no config.json")
        if reason := why_unreadable(file):
            raise OSError(f"the config.json of {path}: {reason}")
        return file
    if not is_hub_name(path):
        raise OSError(f"there is no folder {path}")
    reason = missing_on_hub(path)
    if reason is not None:
        raise OSError(
            f"{path} is not a folder here, and cannot be downloaded from the hub ({reason})"
        )
    import huggingface_hub

    cached = huggingface_hub.try_to_load_from_cache(path, "config.json")
    if isinstance(cached, str):
        return Path(cached)
    return Path(huggingface_hub.hf_hub_download(path, "config.json"))
