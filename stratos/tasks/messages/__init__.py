"""Conversations from files of messages: formats, turns, near duplicates, the tasks."""

from stratos.tasks.messages.chat_task import ChatTask

__all__ = ["ChatTask"]
