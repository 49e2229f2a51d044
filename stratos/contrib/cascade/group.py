"""What the group `cascade` changes in a run: the modules that do it are imported when they are."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from stratos.config import Config
from stratos.contrib.cascade.config import CascadeConfig

if TYPE_CHECKING:
    from stratos.core.reasons import Reason
    from stratos.records import Plan, Probe, TeacherProbe, Way
    from stratos.teachers.base import Question, Teacher


@dataclass(frozen=True)
class CascadeGroup(CascadeConfig):
    """A student that asks its teacher where it is unsure (top-level `cascade.`)."""

    def questions_after_deploy(
        self, config: Config, probe: Probe, probed: TeacherProbe, teacher: Teacher
    ) -> Sequence[Question]:
        """Return the questions whose answers choose the threshold."""
        from stratos.contrib.cascade.choosing_items import choosing_questions

        return choosing_questions(config, probe, probed, teacher)

    def alternatives(self, config: Config, plan: Plan, hosted: Sequence[Way]) -> Iterator[Way]:
        """Yield the planned student with its teacher behind it."""
        from stratos.contrib.cascade.choosing_items import cascade_way, too_few_items

        way = cascade_way(self.accuracy, plan, hosted, too_few_items(config))
        if way is not None:
            yield way

    def remedy(self, config: Config, records: Mapping[str, Any]) -> Reason | None:
        """Return what a cascade would promise, where the run has made none."""
        if "cascade" in records:
            return None
        from stratos.contrib.cascade.verdict import remedy_of

        return remedy_of(config)
