"""`activations attach`, typed in a real dom0, with Linux's own drivers in the guest."""

from __future__ import annotations

import pytest
from support.attached import Attached, sh

from xen_lab import Lab

pytestmark = pytest.mark.lab

DISK = "/tmp/disk.img"


def detach(lab: Lab, disk: str) -> None:
    status, said = lab.shell("dom0", ["activations", "detach", "block", "guest", disk])
    assert status == 0, said


def test_a_running_guest_gets_a_disk_and_gives_it_back(lab: Lab) -> None:
    lab.guests({"guest": "pvh"})
    sh(
        lab,
        "dom0",
        "truncate -s 16M /tmp/disk.img; printf hello | dd of=/tmp/disk.img conv=notrunc",
    )
    command = Attached(lab, "block", "guest", DISK, "--as", "xvdc")
    seen = sh(
        lab,
        "guest",
        """
        [ -e /sys/module/xen_blkfront ] || insmod /modules/xen-blkfront.ko
        i=0; until [ -b /dev/xvdc ]; do i=$((i+1)); [ $i -lt 1200 ]; usleep 50000; done
        dd if=/dev/xvdc bs=5 count=1 2> /dev/null
        printf world | dd of=/dev/xvdc seek=1000 bs=512 conv=fsync 2> /dev/null
        """,
    )
    assert seen == "hello"
    command.interrupt()
    assert command.ended() == 0
    events = command.events()
    said = [event["event"] for event in events if event["event"] != "waiting"]
    assert said == ["attached", "connected", "asked", "detached"]
    assert events[-1]["statistics"]["errors"] == 0
    assert "xvdc" not in sh(lab, "guest", "cat /proc/partitions; rmmod xen_blkfront")
    written = sh(
        lab, "dom0", "dd if=/tmp/disk.img skip=1000 bs=512 count=1 2> /dev/null | head -c 5"
    )
    assert written == "world"
    assert "xvdc" not in sh(lab, "dom0", "xenstore-ls /local/domain/0/backend; rm /tmp/disk.img")


BOOTED = """\
name = "booted"
type = "pvh"
memory = 192
vcpus = 1
cpus = "1"
kernel = "/dev/vda"
ramdisk = "/tmp/boot/initrd"
extra = "panic=-1 loglevel=2"
on_poweroff = "destroy"
on_reboot = "destroy"
on_crash = "destroy"
"""
INITRD = """\
#!/bin/busybox sh
for module in crc32c_generic crc16 mbcache jbd2 ext4 xen-blkfront; do
    /bin/busybox insmod /modules/$module.ko
done
/bin/busybox mount -t devtmpfs dev /dev
until [ -b /dev/xvda ]; do /bin/busybox usleep 50000; done
/bin/busybox mount -t ext4 /dev/xvda /disk
exec /bin/busybox switch_root /disk /sbin/init
"""
INIT = """\
#!/bin/busybox sh
/bin/busybox mount -t proc proc /proc
{ /bin/busybox cat /etc/greeting; /bin/busybox grep xvda /proc/mounts; } > /proof
/bin/busybox sync
/bin/busybox poweroff -f
"""


def test_a_guest_boots_from_a_file_system_on_its_disk(lab: Lab) -> None:
    lab.guests({"guest": "pvh"})  # whoever makes guests has loaded what they are made from
    for path, text in {"initrd": INITRD, "init": INIT, "config": BOOTED}.items():
        lab.put("dom0", f"/tmp/boot/{path}.text", text.encode())
    sh(
        lab,
        "dom0",
        """
        cd /tmp/boot
        mkdir -p small/bin small/dev small/disk small/modules root/bin root/sbin root/proc root/etc
        cp /bin/busybox small/bin/busybox
        cp small/bin/busybox root/bin/busybox
        for module in crc32c_generic crc16 mbcache jbd2 ext4 xen-blkfront; do
            cp /modules/$module.ko small/modules/
        done
        cp initrd.text small/init; chmod 755 small/init
        (cd small; find . | cpio -o -H newc 2> /dev/null) > initrd
        cp init.text root/sbin/init; chmod 755 root/sbin/init
        echo "hello from the disk" > root/etc/greeting
        truncate -s 24M root.img; /sbin/mke2fs -q -t ext4 -d root root.img
        xl create -q -p config.text
        """,
    )
    command = Attached(lab, "block", "booted", "/tmp/boot/root.img")
    sh(lab, "dom0", "xl unpause booted")
    assert command.ended() == 0
    said = [event["event"] for event in command.events()]
    assert [event for event in said if event != "waiting"][:2] == ["attached", "connected"]
    proof = sh(lab, "dom0", "/sbin/debugfs -R 'cat /proof' /tmp/boot/root.img 2> /dev/null")
    assert "hello from the disk" in proof
    assert "/dev/xvda / ext4" in proof
    sh(lab, "dom0", "/sbin/e2fsck -fn /tmp/boot/root.img > /dev/null; rm -rf /tmp/boot")


def test_a_running_guest_gets_an_interface_in_a_bridge(lab: Lab) -> None:
    lab.guests({"guest": "pvh"})
    sh(
        lab,
        "dom0",
        """
        for module in llc stp bridge tun; do
            [ -e /sys/module/$module ] || insmod /modules/$module.ko
        done
        mkdir -p /dev/net; [ -e /dev/net/tun ] || mknod /dev/net/tun c 10 200
        ip link add attached type bridge; ip link set attached up
        ip addr add 10.77.0.1/24 dev attached
        """,
    )
    command = Attached(lab, "net", "guest", "--bridge", "attached", "--mac", "00:16:3e:07:07:07")
    replies = sh(
        lab,
        "guest",
        """
        [ -e /sys/module/xen_netfront ] || insmod /modules/xen-netfront.ko
        i=0; until grep -qs 00:16:3e:07:07:07 /sys/class/net/*/address; do
            i=$((i+1)); [ $i -lt 1200 ]; usleep 50000
        done
        interface=$(basename $(dirname $(grep -ls 00:16:3e:07:07:07 /sys/class/net/*/address)))
        ip addr add 10.77.0.2/24 dev $interface; ip link set $interface up
        ping -c 3 -W 20 10.77.0.1
        """,
    )
    assert "3 packets received" in replies
    command.interrupt()
    assert command.ended() == 0
    last = command.events()[-1]
    assert last["event"] == "detached"
    assert last["statistics"]["bad"] == 0
    assert last["statistics"]["sent"] >= 3
    assert "07:07:07" not in sh(lab, "guest", "cat /sys/class/net/*/address; rmmod xen_netfront")
    assert "pyvif" not in sh(lab, "dom0", "ip link; ip link del attached")


@pytest.mark.long
def test_a_disk_whose_server_was_killed_is_detached_by_hand(lab: Lab) -> None:
    domid = lab.guests({"guest": "pvh"})["guest"]
    command = Attached(lab, "block", "guest", "--memory", "4M", "--as", "xvdd")
    command.kill()
    assert "xvdd" in sh(lab, "dom0", "xenstore-ls /local/domain/0/backend/pyvbd")
    status, said = lab.shell("dom0", ["activations", "detach", "block", "guest", "xvde"])
    assert (status, "guest has no xvde" in said) == (2, True)
    detach(lab, "xvdd")  # nobody in the guest has seen it
    assert f"/pyvbd/{domid}" not in sh(lab, "dom0", "xenstore-ls -f /local/domain/0/backend")


def test_a_disk_that_the_guest_uses_is_let_go_of_though_its_server_is_dead(lab: Lab) -> None:
    domid = lab.guests({"guest": "pvh"})["guest"]
    command = Attached(lab, "block", "guest", "--memory", "4M", "--as", "xvde")
    there = """
        [ -e /sys/module/xen_blkfront ] || insmod /modules/xen-blkfront.ko
        i=0; until [ -b /dev/xvde ]; do i=$((i+1)); [ $i -lt 1200 ]; usleep 50000; done
        """
    sh(lab, "guest", there)
    command.kill()
    detach(lab, "xvde")
    assert f"/pyvbd/{domid}" not in sh(lab, "dom0", "xenstore-ls -f /local/domain/0/backend")
    assert "xvde" not in sh(lab, "guest", "cat /proc/partitions; rmmod xen_blkfront")


def test_a_disk_at_a_url_that_does_not_answer_is_one_error(lab: Lab) -> None:
    lab.guests({"guest": "pvh"})
    url = "http://127.0.0.1:1/disk.img"
    asked = ["activations", "attach", "block", "guest", "--source", url]
    status, said = lab.shell("dom0", asked)
    assert (status, said.strip()) == (2, f"activations: {url}: All connection attempts failed")
