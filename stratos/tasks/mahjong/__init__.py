"""Riichi Mahjong: the tiles that complete a ready hand, and the discard that leaves most."""

from stratos.tasks.mahjong.discard import DiscardTask
from stratos.tasks.mahjong.task import MahjongTask

__all__ = ["DiscardTask", "MahjongTask"]
