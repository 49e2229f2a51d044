"""Options of stages that run as jobs of an executor: their servers, and what these cost."""

from __future__ import annotations

import datetime
from dataclasses import dataclass, replace

import numpy as np

from stratos.catalog import Catalog
from stratos.config import Config
from stratos.estimate import Calibration, Fleet, device_of
from stratos.ledger.reserves import LEAST_HOURS
from stratos.plan.egress import Egress
from stratos.plan.option import Option
from stratos.plan.options.market import open_market
from stratos.plan.options.offer_groups import OfferGroups
from stratos.plan.options.role_options import Job, job_options
from stratos.plan.pareto import Slack
from stratos.plan.problem import Jobs
from stratos.plan.words import NodesUnknown

PRICE_SOURCE = "executor.usd_per_hour"


def runs_as_job(config: Config, stage: str) -> bool:
    """Return whether a stage runs on a server of the executor; `here` has none."""
    return not config.executor.runs_here and stage in config.executor.stages


def roles_that_are_up(config: Config) -> frozenset[str]:
    """Return the roles whose hours count no start of a server: a cluster runs their stages."""
    if not config.executor.is_cluster:
        return frozenset()
    roles = {"synthesize": "teacher", "distill": "train"}
    return frozenset(role for stage, role in roles.items() if runs_as_job(config, stage))


def jobs_of(config: Config) -> Jobs:
    """Return what the stages that run as jobs set aside before they are submitted."""
    roles = {"synthesize": "teacher", "distill": "train"}
    trials = [
        one for one in ("evaluate", "deploy") if runs_as_job(config, one) and one in config.stages
    ]
    executor = config.executor
    hours = LEAST_HOURS if executor.hours is None else min(LEAST_HOURS, executor.hours)
    return Jobs(
        frozenset(role for stage, role in roles.items() if runs_as_job(config, stage)),
        hours * len(trials),
        executor.usd_per_hour,
    )


def nodes_unknown(config: Config, catalog: Catalog) -> NodesUnknown | None:
    """Return that stages run on nodes of a cluster that are no offers of the plan, if they do.

    Args:
        config: of the run.
        catalog: the offers.
    """
    executor = config.executor
    planned = "plan" in config.stages  # its jobs may come with a later command
    stages = tuple(
        stage
        for stage in executor.stages
        if stage != "probe" and (planned or stage in config.stages)
    )
    if not executor.is_cluster or not stages:
        return None
    if catalog.table.cloud.where(lambda name: name == executor.kind).any():
        return None
    return NodesUnknown(executor.kind, config.cloud.name, stages, executor.usd_per_hour)


@dataclass(frozen=True)
class JobServers:
    """The servers that stages may have as jobs of an executor.

    A node of a cluster is up: nobody waits until it is ordered and booted. Where the executor has a
    price, each server costs that, whatever its offer says, so that the plan counts what the job
    pays.
    """

    offer_groups: OfferGroups
    slack: Slack
    """What a place can be the dearer by, of a work that moves nothing."""
    usd_per_hour: float | None
    """Price of each server; None for that of its offer."""
    is_stand_in: bool
    """Whether the nodes have that price and are not among the offers. Which server the job gets
    is not known then: the cheapest that does the work stands for it."""

    @classmethod
    def of(
        cls, config: Config, catalog: Catalog, calibration: Calibration | None, egress: Egress
    ) -> JobServers:
        """Return the servers of an area.

        Args:
            config: of the run; its executor is not `here`.
            catalog: the offers of the area.
            calibration: of this machine.
            egress: prices of what moves between places.
        """
        executor, cloud, table = config.executor, config.cloud, catalog.table
        price, is_stand_in = executor.usd_per_hour, False
        if price is not None:
            # Most dollars an hour are those of what is rented, and a cluster has no spot price.
            spot = cloud.spot and not executor.is_cluster
            cloud = replace(cloud, max_usd_per_hour=None, spot=spot)
            nodes = table.cloud.where(lambda name: name == executor.kind)
            is_stand_in = not nodes.any()
            if not is_stand_in:
                table = table.take(nodes)
                table = replace(table, usd_per_hour=np.full(len(table), price))
                catalog = replace(catalog, table=table)
        market = open_market(catalog, cloud, cloud.spot)
        devices = [device_of(kind, calibration) for kind in market.kinds]
        if executor.is_cluster:
            devices = [replace(device, startup_hours=0.0) for device in devices]
        return cls(
            offer_groups=OfferGroups.of(market, Fleet.of(devices)),
            slack=Slack.of(table.places, egress),
            usd_per_hour=price,
            is_stand_in=is_stand_in,
        )

    def options(self, job: Job) -> tuple[Option, ...]:
        """Return the options of a job, at the price that it pays."""
        found = job_options(self.offer_groups, job)
        if self.usd_per_hour is None or not found:
            return found
        if self.is_stand_in:
            found = (min(found, key=lambda one: (one.usd, one.hours, one.sort_name)),)
        return tuple(_at_price(one, self.usd_per_hour) for one in found)


def _at_price(option: Option, usd_per_hour: float) -> Option:
    assert option.offer is not None, "a job has a server"
    hours = option.hours - (option.wait_hours or 0.0)
    low, high = option.hours_range or (hours, hours)
    each_hour = option.count * usd_per_hour
    return replace(
        option,
        offer=replace(
            option.offer,
            usd_per_hour=usd_per_hour,
            usd_per_hour_spot=usd_per_hour if option.spot else None,
            price_date=datetime.date.today().isoformat(),
            source=PRICE_SOURCE,
        ),
        usd=hours * each_hour,
        usd_range=(low * each_hour, high * each_hour),
    )
