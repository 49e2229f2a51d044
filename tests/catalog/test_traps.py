import math
import os
from functools import partial

import pytest

from stratos.catalog import UNLIMITED, load_catalog, rows_of
from stratos.config import CloudConfig
from stratos.core.errors import CatalogError

HEADER = (
    "InstanceType,AcceleratorName,AcceleratorCount,vCPUs,MemoryGiB,Price,Region,GpuInfo,SpotPrice"
)
CPU = "c7i.large,,,2,4,0.08925,us-east-1,,"
GPU = "g5.xlarge,A10G,1,4,16,1.006,us-east-1,,0.4"


@pytest.fixture
def load(tmp_path):
    """Write lines as <cloud>/vms.csv and load them."""

    def _load(*lines, cloud="aws", header=HEADER, **config):
        file = tmp_path / cloud / "vms.csv"
        file.parent.mkdir(exist_ok=True)
        file.write_text("\n".join([header, *lines]) + "\n")
        return load_catalog(CloudConfig(catalog=(str(file),), **config))

    return _load


def test_columns_may_come_in_any_order(load):
    header = "Region,Price,SpotPrice,InstanceType,vCPUs,MemoryGiB,AcceleratorCount,AcceleratorName"
    (offer,) = load("eu-west-1,1.5,0.5,g5.xlarge,4.0,16.0,1.0,A10G", header=header).offers
    assert (offer.cloud, offer.region, offer.usd_per_hour) == ("aws", "eu-west-1", 1.5)
    assert (offer.accelerator, offer.accelerator_count, offer.vram_gib) == ("A10G", 1, 24)
    assert offer.usd_per_hour_spot == 0.5


@pytest.mark.parametrize(
    ("price", "reason"),
    [
        ("-1", "negative or infinite price"),
        ("0", "zero price"),
        ("0.0", "zero price"),
        ("inf", "negative or infinite price"),
        ("nan", "no price"),
        ("", "no price"),
    ],
)
def test_rows_without_a_sound_price_are_dropped_counted_and_warned(load, price, reason):
    bad = f"x.large,,,2,4,{price},us-east-1,,"
    catalog = load(CPU, bad, bad.replace("us-east-1", "eu-west-1"))
    assert [offer.instance_type for offer in catalog.offers] == ["c7i.large"]
    assert catalog.dropped == {reason: 2}
    assert f"Rows of the catalog left out: 2 × {reason}." in catalog.warnings


@pytest.mark.parametrize("spot", ["0.00", "", "-0.3", "1.006", "2"])
def test_a_spot_price_that_is_none(load, spot):
    (offer,) = load(GPU.rsplit(",", 1)[0] + f",{spot}").offers
    assert offer.usd_per_hour_spot is None


def test_zones_are_collapsed_to_the_lowest_prices(load):
    header = HEADER + ",AvailabilityZone"
    catalog = load(
        "g5.xlarge,A10G,1,4,16,1.2,us-east-1,,0.3,us-east-1a",
        "g5.xlarge,A10G,1,4,16,1.0,us-east-1,,0.4,us-east-1b",
        "g5.xlarge,A10G,1,4,16,1.1,us-west-2,,,us-west-2a",
        header=header,
    )
    assert {(o.region, o.usd_per_hour, o.usd_per_hour_spot) for o in catalog.offers} == {
        ("us-east-1", 1.0, 0.3),
        ("us-west-2", 1.1, None),
    }


def test_the_spot_price_of_one_zone_is_below_the_price_of_all(load):
    catalog = load(
        "g5.xlarge,A10G,1,4,16,1.2,us-east-1,,1.1", "g5.xlarge,A10G,1,4,16,1.0,us-east-1,,"
    )
    assert [(o.usd_per_hour, o.usd_per_hour_spot) for o in catalog.offers] == [(1.0, None)]


@pytest.fixture
def load_gcp(load):
    """Load lines of GCP, with their zones."""
    return partial(load, cloud="gcp", header=HEADER + ",AvailabilityZone")


def test_gcp_host_and_accelerator_are_summed_zone_by_zone(load_gcp):
    catalog = load_gcp(
        "g2-standard-8,,,8,32,0.3,us-central1,,0.1,us-central1-a",
        "g2-standard-8,,,8,32,0.3,us-central1,,0.1,us-central1-f",
        ",L4,1,,,0.56,us-central1,,0.23,us-central1-a",
    )
    (offer,) = catalog.offers
    assert (offer.accelerator, offer.accelerator_count, offer.vcpus) == ("L4", 1, 8)
    assert offer.usd_per_hour == pytest.approx(0.86)
    assert offer.usd_per_hour_spot == pytest.approx(0.33)
    assert catalog.dropped == {"GPU host without a price of its GPU": 1}


def test_a_gcp_gpu_host_alone_is_no_cheap_cpu_server(load_gcp):
    catalog = load_gcp(
        "e2-standard-2,,,2,8,0.067,us-central1,,,us-central1-a",
        "a3-highgpu-8g,,,208,1872,9.46,us-central1,,,us-central1-a",
    )
    assert [offer.instance_type for offer in catalog.offers] == ["e2-standard-2"]


def test_a_gcp_host_at_zero_dollars_is_priced_by_its_gpus(load_gcp):
    catalog = load_gcp(
        "a4-highgpu-8g,,,224,3968,0.0,us-central1,,0.0,us-central1-b",
        ",B200,8,,,90.2,us-central1,,34.2,us-central1-b",
    )
    assert [(o.accelerator, o.usd_per_hour) for o in catalog.offers] == [("B200", 90.2)]


def test_a_gcp_part_with_a_bad_price_spoils_the_sum(load_gcp):
    catalog = load_gcp(
        CPU + ",",
        "g2-standard-8,,,8,32,-5,us-central1,,,us-central1-a",
        ",L4,1,,,9.0,us-central1,,,us-central1-a",
    )
    assert [offer.instance_type for offer in catalog.offers] == ["c7i.large"]


def test_n1_hosts_take_attached_gpus_and_stay_cpu_servers(load_gcp):
    catalog = load_gcp(
        "n1-standard-8,,,8,30,0.38,us-central1,,,us-central1-a",
        ",T4,1,,,0.35,us-central1,,,us-central1-a",
        ",T4,2,,,0.70,us-central1,,,us-central1-a",
    )
    assert {(o.accelerator_count, round(o.usd_per_hour, 2)) for o in catalog.offers} == {
        (0, 0.38),
        (1, 0.73),
        (2, 1.08),
    }


def test_what_nothing_here_runs_on_is_dropped(load):
    catalog = load(
        GPU,
        "g6f.large,L4,0.125,2,8,0.202,us-east-1,,",
        "ct5,tpu-v5litepod-1,1,24,48,1.2,us-east-1,,",
        "n2d-192-112-v5lite-tpu,,,192,112,1.0,us-east-1,,",
        "dl1,Gaudi9,8,96,768,13.1,us-east-1,,",
    )
    assert [offer.accelerator for offer in catalog.offers] == ["A10G"]
    assert catalog.dropped == {
        "fraction of a GPU": 1,
        "TPU": 2,
        "GPU without a specification": 1,
    }
    assert (
        "No specification of Gaudi9: to include it, write a CSV with the columns "
        "Name,Aliases,MemoryGiB,BandwidthGBs,TflopsBf16,TflopsFp16,TflopsFp32,TflopsFp8,Source and "
        "name it with cloud.gpu_file=<path>."
    ) in catalog.warnings


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ("a2,A100-80GB-MIG-1g.10gb,1,12,85,1.2,us-east-1,,", "MIG slice of a GPU"),
        ("a2,H100-MIG,1,12,85,1.2,us-east-1,,", "MIG slice of a GPU"),
        ("a2,nvidia-a100-3g.20gb,1,12,85,1.2,us-east-1,,", "MIG slice of a GPU"),
        ("g6f,L4,1.5,12,85,1.2,us-east-1,,", "fraction of a GPU"),
        ("x,L4,,12,85,1.2,us-east-1,,", "GPU without a count"),
        ("x,L4,-1,12,85,1.2,us-east-1,,", "GPU without a count"),
        ("x,L4,1e18,12,85,1.2,us-east-1,,", "more than 1024 GPUs in a server"),
        ("x,L4,1,,,1.2,us-east-1,,", "no host (vCPUs and memory unknown)"),
        ("x,,,4,,1.2,us-east-1,,", "no host (vCPUs and memory unknown)"),
        ("x,,,-4,16,1.2,us-east-1,,", "no host (vCPUs and memory unknown)"),
        ("Standard_NP10s,,1,10,168,1.65,eastus,,", "accelerator that is not named"),
        ("x,,,2,8,1.65,,,", "no region"),
        (",,,2,8,1.65,eastus,,", "no instance type"),
        (",L4,1,,,0.5,eastus,,", "no instance type"),
    ],
)
def test_rows_that_are_no_server_of_ours(load, row, reason):
    catalog = load(CPU, row)
    assert [offer.instance_type for offer in catalog.offers] == ["c7i.large"]
    assert catalog.dropped == {reason: 1}


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ("Standard_NV8as_v4,MI25,1,8,28,0.466,eastus,,", "fraction of a GPU"),
        ("Standard_ND96is_MI300X_v5,,,96,1850,48,eastus,,", "accelerator that is not named"),
        ("Standard_NV12ads_V710_v5,,,12,80,0.6,eastus,,", "accelerator that is not named"),
    ],
)
def test_azure_gpu_servers_that_do_not_say_so(load, row, reason):
    catalog = load(CPU, "Standard_NV32as_v4,MI25,1,32,112,1.9,eastus,,", row, cloud="azure")
    assert {offer.accelerator for offer in catalog.offers} == {None, "MI25"}
    assert catalog.dropped == {reason: 1}
    # The rule is Azure's: another cloud may call its CPU servers so.
    elsewhere = load(CPU, row.replace(",MI25,1", ",,"), cloud="ovh")
    assert len(elsewhere.offers) == 2


def test_hardware_tells_offers_of_one_name_apart(load):
    catalog = load("x,,,4,16,0.2,here,,", "x,,,8,16,0.1,here,,", "x,,,4,16,0.3,here,,")
    assert [(o.vcpus, o.usd_per_hour) for o in catalog.offers] == [(4, 0.2), (8, 0.1)]


def test_an_accelerator_without_a_host_is_counted(load_gcp):
    catalog = load_gcp(CPU + ",", ",L4,3,,,0.5,eastus,,,a")
    assert catalog.dropped == {"price of a GPU without a host": 1}


def test_a_gcp_gpu_host_of_an_unknown_kind(load_gcp):
    catalog = load_gcp(CPU + ",", "g4-standard-48,,,48,180,2,x,,,x-a")
    assert catalog.dropped == {"GPU host of an unknown kind": 1}


def test_the_cheapest_of_two_prices_of_a_gcp_gpu_counts(load_gcp):
    catalog = load_gcp(
        "g2-standard-4,,,4,16,0.15,x,,,x-a",
        ",L4,1,,,0.60,x,,,x-a",
        ",L4,1,,,0.56,x,,,x-a",
    )
    assert [o.usd_per_hour for o in catalog.offers] == [0.71]
    assert catalog.dropped == {}


def test_the_days_of_prices_are_kept(load):
    header = HEADER + ",PriceDate"
    assert load(CPU + ",2026-10-25", header=header).price_dates == ("2026-10-25", "2026-10-25")
    assert load(CPU).price_dates == ("", "")


def test_a_cloud_column_speaks_for_its_row(load):
    catalog = load(CPU + ",Nebius", CPU + ",", header=HEADER + ",Cloud", cloud="mine")
    assert [offer.cloud for offer in catalog.offers] == ["mine", "nebius"]


def test_the_config_names_the_cloud_of_a_loose_file(tmp_path):
    file = tmp_path / "prices.csv"
    file.write_text(f"{HEADER}\n{CPU}\n")
    (offer,) = load_catalog(CloudConfig(catalog=(str(file),), providers=("aws",))).offers
    assert offer.cloud == "aws"
    by_folder = load_catalog(CloudConfig(catalog=(str(file),)))
    assert by_folder.offers[0].cloud == tmp_path.name.lower()


def test_a_file_whose_cloud_nobody_names(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "prices.csv").write_text(f"{HEADER}\n{CPU}\n")
    with pytest.raises(CatalogError, match=r"does not name its cloud: .* cloud\.providers=\[aws\]"):
        load_catalog(CloudConfig(catalog=("prices.csv",)))


def test_many_catalogs_at_once_and_globs(tmp_path):
    for cloud in ("aws", "azure"):
        (tmp_path / cloud).mkdir()
        (tmp_path / cloud / "vms.csv").write_text(f"{HEADER}\n{CPU}\n")
    listed = [str(tmp_path / cloud / "vms.csv") for cloud in ("aws", "azure")]
    for urls in (listed, [f"{tmp_path}/*/vms.csv"], [f"file://{tmp_path}/*/vms.csv"]):
        catalog = load_catalog(CloudConfig(catalog=tuple(urls)))
        assert sorted(offer.cloud for offer in catalog.offers) == ["aws", "azure"]


def test_remote_files_folders_and_globs():
    import fsspec

    system = fsspec.filesystem("memory")
    system.pipe("/prices/aws/vms.csv", f"{HEADER}\n{CPU}\n".encode())
    system.pipe("/prices/aws/images.csv", b"ImageId\nx\n")
    for url in ("memory://prices", "memory://prices/*/vms.csv", "memory://prices/aws/vms.csv"):
        (offer,) = load_catalog(CloudConfig(catalog=(url, url))).offers
        assert offer.cloud == "aws" and offer.source.startswith("memory://")
    with pytest.raises(CatalogError, match=r"memory://none does not exist"):
        load_catalog(CloudConfig(catalog=("memory://none",)))
    system.pipe("/empty/readme.txt", b"x")
    with pytest.raises(
        CatalogError, match=r"folder without vms\.csv .*\['memory://empty/\*\.csv'\]"
    ):
        load_catalog(CloudConfig(catalog=("memory://empty",)))


def test_a_login_in_a_url_is_not_written_down(tmp_path, monkeypatch):
    def serve(url):
        yield url, f"{HEADER}\n{CPU}\n".encode

    monkeypatch.setattr("stratos.catalog.readers._remote", serve)
    (offer,) = load_catalog(CloudConfig(catalog=("https://me:hunter22@host/aws/vms.csv",))).offers
    assert "hunter22" not in offer.source and offer.cloud == "aws"


def test_parquet_is_read_like_csv(tmp_path, load):
    import pandas as pd

    expected = load(CPU, GPU).offers
    file = tmp_path / "aws" / "vms.parquet"
    pd.read_csv(tmp_path / "aws" / "vms.csv").to_parquet(file)
    offers = load_catalog(CloudConfig(catalog=(str(file),))).offers
    assert [(o.name, o.usd_per_hour, o.usd_per_hour_spot) for o in offers] == [
        (o.name, o.usd_per_hour, o.usd_per_hour_spot) for o in expected
    ]


def test_malformed_values_are_named_by_file_line_and_column_all_at_once(load, tmp_path, snapshot):
    with pytest.raises(CatalogError) as caught:
        load(CPU, "a,,,2,4,cheap,us-east-1,,", "b,,,two,4,1,us-east-1,,", "c,,,2,inf,1,r,,")
    file = tmp_path / "aws" / "vms.csv"
    assert str(caught.value).replace(str(file), "<file>") == snapshot


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is empty. It needs the columns InstanceType"),
        (HEADER + "\n", "is empty: it has no row below its header"),
        ("InstanceType,Prise\na,1\n", "lacks the columns AcceleratorName, .*Rename Prise to Price"),
        (f"{HEADER}\n{CPU},what,is,this\n", "line 2: the row has 3 more field"),
        (
            f"{HEADER}\n{CPU}\nc7i.large,,,2,4,0.0",
            r"line 3: .* 3 field.* fewer .* truncated",
        ),
        (f"{HEADER},Price\n{CPU},1\n", "has the column Price twice"),
        ("\0\xff\xfe", "lacks the column"),
    ],
)
def test_a_file_that_is_no_catalog(tmp_path, text, message):
    file = tmp_path / "vms.csv"
    file.write_text(text)
    with pytest.raises(CatalogError, match=message):
        load_catalog(CloudConfig(catalog=(str(file),)))


def test_files_that_cannot_be_read(tmp_path):
    missing = str(tmp_path / "none.csv")
    with pytest.raises(CatalogError, match=r"none\.csv does not exist.*cloud\.catalog=\[builtin\]"):
        load_catalog(CloudConfig(catalog=(missing,)))
    with pytest.raises(CatalogError, match="does not exist"):
        load_catalog(CloudConfig(catalog=(f"{tmp_path}/*.csv",)))
    with pytest.raises(CatalogError, match="cannot be read"):
        load_catalog(CloudConfig(catalog=("nosuchprotocol://a/b.csv",)))
    broken = tmp_path / "vms.parquet"
    broken.write_bytes(b"PAR1 and then nothing")
    with pytest.raises(CatalogError, match="not a readable Parquet file"):
        load_catalog(CloudConfig(catalog=(str(broken),)))
    (tmp_path / "utf16.csv").write_bytes(b"\xff\xfea\x00")
    with pytest.raises(CatalogError, match="is not UTF-8 text"):
        load_catalog(CloudConfig(catalog=(str(tmp_path / "utf16.csv"),)))


def test_nothing_left_says_why(load):
    with pytest.raises(CatalogError, match=r"Nothing is left .*: 1 × zero price\."):
        load("x,,,2,4,0,us-east-1,,")


def test_clouds_regions_and_prices_are_honoured():
    catalog = load_catalog(
        CloudConfig(providers=("aws", "gcp"), regions=("us-east-1",), max_usd_per_hour=1.0)
    )
    assert {(o.cloud, o.region) for o in catalog.offers} == {("aws", "us-east-1")}
    assert max(offer.usd_per_hour for offer in catalog.offers) <= 1.0


def test_a_region_may_be_a_pattern():
    every = load_catalog(CloudConfig(providers=("aws",))).table.region.used()
    catalog = load_catalog(CloudConfig(providers=("aws",), regions=("us-*-?",)))
    assert {"us-east-1", "us-west-2"} <= set(catalog.table.region.used())
    assert set(catalog.table.region.used()) == {name for name in every if name.startswith("us-")}
    with pytest.raises(CatalogError, match=r"'mars-\*', and no"):
        load_catalog(CloudConfig(providers=("aws",), regions=("us-*", "mars-*")))


def test_a_cap_holds_for_whole_machines():
    capped = load_catalog(CloudConfig(providers=("gcp",), max_usd_per_hour=1.0)).offers
    assert all(offer.usd_per_hour <= 1.0 for offer in capped)
    on_spot = load_catalog(CloudConfig(providers=("gcp",), max_usd_per_hour=1.0, spot=True)).offers
    assert any(offer.usd_per_hour > 1.0 for offer in on_spot)
    assert all(min(o.usd_per_hour, o.usd_per_hour_spot or math.inf) <= 1.0 for o in on_spot)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"regions": ("us-est-1",)}, r"'us-est-1', .*Did you mean .*us-east-1"),
        ({"providers": ("azur",)}, r"cloud\.providers has 'azur'.* Did you mean azure"),
        ({"quotas": {"azur": 1}}, r"'azur', .*Did you mean azure\? .*and \* stands for any"),
        ({"quotas": {"aws/us-est-1": 1}}, r"Did you mean .*aws/us-east-1"),
        ({"quotas": {"*/*/g5.xlarg": 1}}, r"Did you mean \*/\*/g5\.xlarge"),
        ({"quotas": {"": 1}}, r"has '', and no"),
        ({"max_usd_per_hour": 0.001}, r"the cheapest is \$0\.\d+\. Type cloud\.max_usd_per_hour="),
    ],
)
def test_what_the_catalog_does_not_have(config, message):
    with pytest.raises(CatalogError, match=message):
        load_catalog(CloudConfig(**config))


def test_everything_that_the_catalog_does_not_have_is_said_at_once():
    with pytest.raises(CatalogError) as caught:
        load_catalog(
            CloudConfig(providers=("aws", "gpc"), regions=("us-est-1",), quotas={"aws/mars": 1})
        )
    lines = str(caught.value).splitlines()
    assert [line.split(" ")[0] for line in lines] == [
        "cloud.providers",
        "cloud.quotas",
        "cloud.regions",
    ]


@pytest.mark.parametrize("key", ["aws", "*", "aws/us-east-1", "*/*/g5.xlarge", "aws/*/g5.*"])
def test_quota_keys_match_parts_and_stars(key):
    catalog = load_catalog(CloudConfig(quotas={key: 4}))
    rows = rows_of(catalog.table, key)
    parts = [part.rstrip("*") for part in key.split("/")]
    expected = [
        all(
            name == part if part and not part.endswith(".") else name.startswith(part)
            for name, part in zip((o.cloud, o.region, o.instance_type), parts, strict=False)
        )
        for o in catalog.offers
    ]
    assert rows.any() and rows.tolist() == expected


def test_a_quota_that_bears_on_nothing_is_warned_about():
    catalog = load_catalog(CloudConfig(providers=("aws",), quotas={"gcp": 2, "aws": 3}))
    assert "cloud.quotas: no allowed offer is of gcp." in catalog.warnings


def test_local_is_this_machine_at_nothing():
    (offer,) = load_catalog(CloudConfig(name="local", providers=("local",))).offers
    assert offer.cloud == "local" and offer.usd_per_hour == 0.0 and offer.accelerator is None
    assert 1 <= offer.vcpus <= (os.cpu_count() or 1)
    assert 0.2 < offer.memory_gib < 100_000
    assert "local" not in {offer.cloud for offer in load_catalog(CloudConfig()).offers}


# --- a cloud of one's own: its rows say how many such servers there are --------------------------


@pytest.fixture
def load_counts(load):
    header = "InstanceType,AcceleratorName,AcceleratorCount,vCPUs,MemoryGiB,Price,Region,Count"
    return partial(load, cloud="ours", header=header + ",SpotPrice")


def test_counts_are_carried_and_a_row_without_one_has_no_limit(load_counts):
    table = load_counts(
        "dgx,A100-80GB,8,128,1024,9.5,hall-a,12,",
        "node,,,64,256,0.4,hall-a,3700,",
        "node,,,64,256,0.4,hall-b,,",
    ).table
    assert table.max_count.tolist() == [12, 3700, UNLIMITED]
    assert table.instance_type.spelled() == ["dgx", "node", "node"]


def test_servers_of_one_price_are_counted_together_and_others_apart(load_counts):
    table = load_counts(
        "node,,,64,256,0.4,hall,3,",
        "node,,,64,256,0.4,hall,4,",
        "node,,,64,256,0.5,hall,5,",
        "node,,,64,256,0.5,hall,6,0.2",
    ).table
    counts = zip(table.usd_per_hour.tolist(), table.max_count.tolist(), strict=True)
    assert sorted(counts) == [(0.4, 7), (0.5, 5), (0.5, 6)]


def test_none_of_a_server_is_no_offer(load_counts):
    catalog = load_counts("dgx,A100-80GB,8,128,1024,9.5,hall,0,", "node,,,64,256,0.4,hall,1,")
    assert [offer.instance_type for offer in catalog.offers] == ["node"]
    assert catalog.dropped == {"no such server (Count 0)": 1}


@pytest.mark.parametrize("count", ["-1", "2.5", "inf", "many"])
def test_a_count_that_is_none(load_counts, count):
    with pytest.raises(CatalogError, match="line 2, column Count: "):
        load_counts(f"node,,,64,256,0.4,hall,{count},")
