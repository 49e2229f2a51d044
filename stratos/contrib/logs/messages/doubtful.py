"""What is doubtful about conversations; said before anything is asked."""

from __future__ import annotations

from stratos.contrib.logs.messages.turn_rows import TurnReader
from stratos.core.counted import counted


def of_images(path: str, n: int) -> list[str]:
    """Say that images are left out."""
    if not n:
        return []
    told = counted(n, "image or file", "images and files", spec=",")
    are = "is" if n == 1 else "are"
    return [
        f"{path}: {told} in messages {are} left out, since a language model reads text alone. "
        "What was said of them cannot be learnt."
    ]


def of_calls(path: str, n: int) -> list[str]:
    """Say that calls of tools are not learnt."""
    if not n:
        return []
    told = counted(n, "turn of the model calls", "turns of the model call", spec=",")
    return [
        f"{path}: {told} tools, which this task does not learn; they stay in the history of later "
        "turns."
    ]


def of_workload(path: str, workload: str | None, n: int) -> list[str]:
    """Say how many rows of a log are of other workloads than the one that is read."""
    if workload is None:
        return []
    are = "is of another workload" if n == 1 else "are of other workloads"
    told = counted(n, "row", spec=",")
    return [
        f"{told} of {path} {are} than task.workload={workload} and not read. What is left out for "
        "another reason is counted of the whole file where its workload cannot be known: lines "
        "that are wrong, requests that failed, answers that were cut short."
    ]


def of_systems(path: str, reader: TurnReader) -> list[str]:
    """Say that there are several system prompts."""
    n, of = reader.n_other_system, counted(reader.n_conversations, "conversation", spec=",")
    told = []
    if reader.n_dated and not reader.is_replaced:
        told.append(
            f"{path}: {reader.n_dated:,} of {of} have a system prompt that differs from the "
            "others in dates and numbers alone. It stays in their history as it was logged, and a "
            "student with random weights does not read it. To put one prompt in the place of all: "
            "task.instruction='<the prompt without them>'"
        )
    if n:
        told.append(
            f"{path}: {n:,} of {of} have a system prompt that is not the commonest one. It stays "
            "in their history, and a student with random weights does not read it. See the "
            f"workloads: stratos logs {path}"
        )
    return told


def of_sessions(path: str, n: int) -> list[str]:
    """Say that an id of a session is that of nearly all conversations."""
    if not n:
        return []
    return [
        f"{path}: {n:,} conversations, nearly all, have one id of a session. It is taken for none: "
        "conversations of one session may be of different splits."
    ]


def of_secrets(n: int) -> list[str]:
    """Say that keys were replaced."""
    if not n:
        return []
    are = "is" if n == 1 else "are"
    told = counted(n, "key or token", "keys and tokens", spec=",")
    return [f"{told} in the messages {are} replaced by ***."]
