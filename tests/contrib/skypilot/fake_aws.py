"""An AWS that answers and boots: moto's EC2, and for each instance a "VM" of Linux namespaces.

    fake_aws.py DIR

A VM has a network, processes, a host name and a root file system of its own (an overlay of this
machine's), and sshd. It is gone at once when its instance is terminated. What tests may do:
    touch DIR/spot/<instance id>    interrupts an instance as AWS interrupts a spot instance
    touch DIR/refuse                refuses new instances, until it is deleted: those of the zones
                                    and instance types in it, one a line, or all
    touch DIR/deny/<region>         denies a region, as a policy does, until it is deleted
    cat DIR/live                    instances that run
Needs root, moto[server], boto3 and sshd; run it in a network namespace (skypilot.sh does).
"""

import os

os.environ["MOTO_IAM_LOAD_MANAGED_POLICIES"] = "true"  # SkyPilot attaches one of AWS's own

import base64
import itertools
import logging
import shlex
import subprocess
import sys
import time
from pathlib import Path

import boto3
import moto.ec2.models.instances
import moto.ec2.responses.instances
import moto.iam.policy_validation
import yaml
from moto.ec2.exceptions import EC2ClientError
from moto.server import ThreadedMotoServer

DIR, PORT = Path(sys.argv[1]), 5556
OPT = os.environ.get("STRATOS_SKY_OPT", "/opt/stratos-sky")
USER = "ubuntu"
HOST = "10.77.255.254"
"""This machine, as VMs see it."""

BOOT = """
set -e
R={disk}/root
mount --make-rprivate /
mount -t tmpfs tmpfs {disk}
mkdir -p {disk}/upper {disk}/work $R
mount -t overlay overlay -o lowerdir=/,upperdir={disk}/upper,workdir={disk}/work $R
mount -t proc proc $R/proc
mount --rbind /dev $R/dev
mount -t tmpfs tmpfs $R/tmp && chmod 1777 $R/tmp
mount -t tmpfs tmpfs $R/run && mkdir -p $R/run/sshd
hostname {name}
printf '127.0.0.1 localhost\\n{ip} {name}\\n' >$R/etc/hosts
: >$R/etc/resolv.conf
ip link set lo up
ip addr add {ip}/16 dev {link}
ip addr add {public}/16 dev {link}
ip link set {link} up
# What would be downloaded: uv, and Python 3.10. The interpreter of the tests may lie
# in the home of root.
chmod a+x $R/root
cat >$R/usr/local/bin/curl <<'SH'
#!/bin/bash
case "$*" in
    *astral.sh/uv/install.sh*)
        echo 'd=${{UV_INSTALL_DIR:-$HOME/.local/bin}}; mkdir -p "$d" && cp {opt}/uv "$d/uv"' ;;
    *) exec /usr/bin/curl "$@" ;;
esac
SH
printf '#!/bin/sh\\nexit 0\\n' >$R/usr/local/bin/systemctl
chmod 755 $R/usr/local/bin/curl $R/usr/local/bin/systemctl
ln -sf {opt}/python3.10/bin/python3.10 $R/usr/local/bin/python3.10
chroot $R useradd -m -s /bin/bash -p '*' {user}
echo '{user} ALL=(ALL) NOPASSWD:ALL' >$R/etc/sudoers.d/cloud
mkdir -p $R/home/{user}/.ssh
cp {keys} $R/home/{user}/.ssh/authorized_keys
chroot $R chown -R {user} /home/{user}/.ssh
cat >$R/etc/ssh/sshd_vm <<CONF
Port 22
HostKey /etc/ssh/vm_key
PidFile /run/sshd.pid
PasswordAuthentication no
UsePAM no
StrictModes no
MaxSessions 100
MaxStartups 100
Subsystem sftp internal-sftp
SetEnv UV_CACHE_DIR={opt}/uv-cache UV_OFFLINE=1 UV_PYTHON_DOWNLOADS=never AWS_ENDPOINT_URL={url}
CONF
ssh-keygen -q -t ed25519 -N '' -f $R/etc/ssh/vm_key
exec chroot $R /usr/sbin/sshd -D -e -f /etc/ssh/sshd_vm
"""


class NoCapacity(EC2ClientError):
    def __init__(self):
        super().__init__(
            "InsufficientInstanceCapacity", "We currently do not have sufficient capacity."
        )


class Denied(EC2ClientError):
    def __init__(self):
        super().__init__("UnauthorizedOperation", "You are not authorized to do this.")


def patch_moto():
    """Give VMs addresses of the bridge, take SkyPilot's policy, refuse and deny where told to."""
    moto.iam.policy_validation.IAMPolicyDocumentValidator.validate = lambda self: None
    numbers = itertools.count(1)
    for module in list(sys.modules.values()):
        name = getattr(module, "__name__", "")
        if name.startswith("moto.ec2") and "random_public_ip" in vars(module):
            module.random_public_ip = lambda: f"10.77.1.{next(numbers)}"
    backend = moto.ec2.models.instances.InstanceBackend
    run = backend.run_instances

    def run_instances(self, *args, **kwargs):
        if (DIR / "refuse").exists():
            refused = (DIR / "refuse").read_text().split()
            subnet = kwargs["subnet_id"] or kwargs["nics"][0]["SubnetId"]
            zone = self.get_subnet(subnet).availability_zone
            is_refused = not refused or {zone, kwargs["instance_type"]} & {*refused}
            print("refused" if is_refused else "taken", kwargs["instance_type"], zone, flush=True)
            if is_refused:
                raise NoCapacity
        return run(self, *args, **kwargs)

    backend.run_instances = run_instances
    response = moto.ec2.responses.instances.InstanceResponse
    describe = response.describe_instances

    def describe_instances(self):
        if (DIR / "deny" / self.region).exists():
            raise Denied
        return describe(self)

    response.describe_instances = describe_instances


def sh(command, check=True):
    done = subprocess.run(command, shell=True, capture_output=True, text=True)
    if check and done.returncode:
        print("failed:", command, done.stdout, done.stderr, flush=True)
    return done.stdout


def a_way_out(ec2):
    """Give the default VPC what that of a real account has: an internet gateway."""
    default = [{"Name": "is-default", "Values": ["true"]}]
    vpc = ec2.describe_vpcs(Filters=default)["Vpcs"][0]["VpcId"]
    gateway = ec2.create_internet_gateway()["InternetGateway"]["InternetGatewayId"]
    ec2.attach_internet_gateway(InternetGatewayId=gateway, VpcId=vpc)
    of_vpc = [{"Name": "vpc-id", "Values": [vpc]}]
    table = ec2.describe_route_tables(Filters=of_vpc)["RouteTables"][0]["RouteTableId"]
    ec2.create_route(RouteTableId=table, DestinationCidrBlock="0.0.0.0/0", GatewayId=gateway)


def keys_of(ec2, instance):
    """Return the keys that SkyPilot's cloud-init would put into the VM."""
    told = ec2.describe_instance_attribute(InstanceId=instance, Attribute="userData")
    text = told.get("UserData", {}).get("Value", "")
    for _ in range(2):
        try:
            text = base64.b64decode(text, validate=True).decode()
        except ValueError:
            break
    users = (yaml.safe_load(text) or {}).get("users", [])
    return [key for one in users if isinstance(one, dict) for key in one["ssh_authorized_keys"]]


def boot(ec2, instance, number):
    """Start the VM of an instance; it ends with the process that is returned."""
    link, disk, keys = f"vm{number}", DIR / f"disk{number}", DIR / f"keys{number}"
    disk.mkdir(exist_ok=True)
    keys.write_text("\n".join(keys_of(ec2, instance["InstanceId"])) + "\n")
    ip = instance["PrivateIpAddress"]
    script = DIR / f"boot{number}.sh"
    script.write_text(
        BOOT.format(
            disk=disk, name="ip-" + ip.replace(".", "-"), ip=ip, link=link, keys=keys, user=USER,
            public=instance.get("PublicIpAddress", ip), opt=OPT, url=f"http://{HOST}:{PORT}",
        )
    )  # fmt: skip
    sh(f"ip link add {link} type veth peer name b{number} && ip link set b{number} master br0 up")
    wait = f"until ip link show {link} >/dev/null 2>&1; do sleep 0.1; done; "
    with (DIR / f"vm{number}.log").open("w") as log:
        process = subprocess.Popen(
            ["unshare", "--net", "--pid", "--fork", "--kill-child", "--mount", "--uts",
             "--mount-proc", "bash", "-c", f"{wait}exec bash {shlex.quote(str(script))}"],
            stdin=subprocess.DEVNULL, stdout=log, stderr=log,
        )  # fmt: skip
    ours = os.readlink("/proc/self/ns/net")
    for _ in range(200):
        children = sh(f"pgrep -P {process.pid}", check=False).split()
        if children and os.readlink(f"/proc/{children[0]}/ns/net") != ours:
            sh(f"ip link set {link} netns {children[0]}")
            break
        time.sleep(0.05)
    print("boot", instance["InstanceId"], instance["InstanceType"], ip, flush=True)
    return process


def main():
    for name in ("spot", "deny"):
        (DIR / name).mkdir(parents=True, exist_ok=True)
    patch_moto()
    sh("ip link add br0 type bridge", check=False)
    for address in (f"{HOST}/16", "172.31.255.254/16"):
        sh(f"ip addr add {address} dev br0", check=False)
    sh("ip link set br0 up")
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    ThreadedMotoServer("0.0.0.0", PORT, verbose=False).start()
    key = {"aws_access_key_id": "testing", "aws_secret_access_key": "testing"}
    ec2 = boto3.client(
        "ec2", endpoint_url=f"http://127.0.0.1:{PORT}", region_name="us-east-1", **key
    )
    a_way_out(ec2)
    print("up", flush=True)
    running, numbers = {}, itertools.count(1)
    while True:
        for one in (DIR / "spot").iterdir():
            print("interrupted", one.name, flush=True)
            ec2.terminate_instances(InstanceIds=[one.name])
            one.unlink()
        found = [one for group in ec2.describe_instances()["Reservations"]
                 for one in group["Instances"]]  # fmt: skip
        for one in found:
            id, is_up = one["InstanceId"], one["State"]["Name"] in ("pending", "running")
            if is_up and id not in running:
                running[id] = boot(ec2, one, next(numbers))
            elif not is_up and running.get(id) is not None:
                running[id].kill()
                running[id].wait()
                running[id] = None
                print("halt", id, flush=True)
        live = [id for id, process in running.items() if process is not None]
        (DIR / "live.new").write_text("".join(f"{id}\n" for id in live))
        (DIR / "live.new").rename(DIR / "live")
        time.sleep(0.3)


main()
