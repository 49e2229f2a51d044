"""Conversations from files of messages: formats, turns, near duplicates, the tasks."""

from stratos.tasks.messages.chat_task import ChatTask
from stratos.tasks.messages.log_task import LogTask

__all__ = ["ChatTask", "LogTask"]
