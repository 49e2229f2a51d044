"""Choices of the rooms of contrib: found beside the core's, and by no other program."""

from __future__ import annotations

from pathlib import Path

from hydra._internal.utils import create_config_search_path

from stratos.core.extensions import conf_dir, contrib_conf_dirs


def folders(main: Path) -> list[str]:
    path = create_config_search_path(str(main))
    return [one.path for one in path.get_path() if one.path.startswith("file:")]


def test_stratos_searches_every_room(tmp_path):
    assert folders(conf_dir()) == [f"file://{one}" for one in contrib_conf_dirs().values()]
    assert folders(tmp_path) == [], "a program of somebody else, with plugins of ours installed"


def test_no_two_rooms_have_a_choice_of_one_name():
    files = [
        file.relative_to(folder)
        for folder in (conf_dir(), *contrib_conf_dirs().values())
        for file in folder.rglob("*.yaml")
    ]
    assert len(files) == len(set(files))
