"""Riichi Mahjong: the tiles that complete a ready hand."""

from stratos.tasks.mahjong.task import MahjongTask

__all__ = ["MahjongTask"]
