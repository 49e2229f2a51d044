"""Models of the Hugging Face hub by their names: whether one can be had, and its config.

Nothing here loads a weight.
"""

from __future__ import annotations

from pathlib import Path


def is_hub_name(path: str) -> bool:
    """Return whether a path may be the name of a model: `org/model`, or `model`."""
    return not path.startswith((".", "/", "~")) and "\\" not in path and 0 < path.count("/") + 1 < 3


def location(path: str) -> tuple[str, bool]:
    """Return what a loader takes for a path, and whether it is a folder of this machine.

    What is none is taken for the name of a model on the hub, which loaders fetch once.
    """
    folder = Path(path).expanduser()
    return (str(folder), True) if folder.is_dir() else (path, False)


def missing_on_hub(name: str, revision: str | None = None) -> str | None:
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
            return "HF_HUB_OFFLINE is set and nothing is cached"
        url = huggingface_hub.hf_hub_url(name, "config.json", revision=revision)
        huggingface_hub.get_hf_file_metadata(url, timeout=5)
    except HFValidationError:
        return "this is no valid name of a model"
    except HfHubHTTPError as error:
        status = error.response.status_code if error.response is not None else "no answer"
        return f"HTTP status {status}"
    except Exception as error:  # whatever the HTTP library under the hub's client raises
        return f"{type(error).__name__}: the hub cannot be reached"
    return None


def config_file(path: str) -> Path:
    """Return the config.json of a model: that of a folder here, else the hub's, fetched once.

    Raises:
        OSError: there is none, with the reason.
    """
    folder = Path(path).expanduser()
    if folder.is_dir():
        file = folder / "config.json"
        if not file.is_file():
            raise OSError(f"the folder {path} has no config.json")
        return file
    if not is_hub_name(path):
        raise OSError(f"there is no folder {path}")
    reason = missing_on_hub(path)
    if reason is not None:
        raise OSError(f"{path} is no folder here, and cannot be had from the hub ({reason})")
    import huggingface_hub

    cached = huggingface_hub.try_to_load_from_cache(path, "config.json")
    if isinstance(cached, str):
        return Path(cached)
    return Path(huggingface_hub.hf_hub_download(path, "config.json"))
