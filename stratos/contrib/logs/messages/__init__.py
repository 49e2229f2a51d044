"""Conversations from files of messages: formats, turns, near duplicates, the tasks."""

from stratos.contrib.logs.messages.chat_task import ChatTask
from stratos.contrib.logs.messages.log_task import LogTask

__all__ = ["ChatTask", "LogTask"]
