"""What an end reads of the other is not believed before it is looked at."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from activations.xenbus import BadKey, Device, Keys, MissingKey, XenbusError
from activations.xenbus.device import from_backend_key

PATH = "/local/domain/3/device/vbd/51712"


def keys(**nodes: str) -> Keys:
    return Keys("the front end", PATH, {name.replace("_", "-"): v for name, v in nodes.items()})


def test_a_key_that_is_missing_is_named_with_its_owner_and_path() -> None:
    with pytest.raises(MissingKey, match=f"the front end has no key ring-ref .{PATH}/ring-ref"):
        keys().integer("ring-ref")


def test_a_key_that_is_missing_may_have_a_default() -> None:
    assert keys().integer("ring-page-order", 0, within=range(1, 5)) == 0
    assert keys().text("protocol", "x86_64-abi") == "x86_64-abi"
    assert not keys().flag("feature-persistent")


@pytest.mark.parametrize(
    "value",
    [
        "",
        "-1",
        "+1",
        "1.0",
        "1e3",
        "0x10",
        "\u0661",
        "\u00b2",
        "1 1",
        "one",
        "9" * 40,
        "4294967296",
    ],
)
def test_what_is_no_number_in_range_is_refused(value: str) -> None:
    with pytest.raises(BadKey, match="not a number from 0 to 4294967295"):
        keys(ring_ref=value).integer("ring-ref")


def test_a_number_has_to_be_within_its_range() -> None:
    assert keys(order="4").integer("order", within=range(5)) == 4
    with pytest.raises(BadKey, match="not a number from 0 to 4 "):
        keys(order="5").integer("order", within=range(5))


# One moment's beside another's


def test_who_asked_is_told_otherwise_only_if_what_was_asked_for_is_another() -> None:
    earlier = keys(ring_ref="8", event_channel="3", name="a")
    earlier.integer("ring-ref")
    assert not earlier.flag("feature-persistent")
    assert keys(ring_ref="8", name="b").answers_as(earlier)
    assert not keys(ring_ref="9", name="a").answers_as(earlier)
    assert not keys().answers_as(earlier)
    assert not keys(ring_ref="8", feature_persistent="1").answers_as(earlier)


def test_how_things_stand_is_no_key_of_the_device() -> None:
    earlier = keys(state="4", online="1", ring_ref="8").ask_all()
    assert earlier.lasting == {"ring-ref": "8"}
    assert keys(state="6", online="0", ring_ref="8").answers_as(earlier)


@given(st.text())
def test_whatever_stands_there_is_a_number_or_refused(value: str) -> None:
    try:
        number = keys(x=value).integer("x", within=range(10, 1 << 16))
    except BadKey:
        return
    assert number == int(value)
    assert 10 <= number < 1 << 16


def test_a_huge_value_does_not_fill_the_error() -> None:
    with pytest.raises(BadKey) as caught:
        keys(x="7" * 4096).integer("x")
    assert len(str(caught.value)) < 300


@pytest.mark.parametrize("served_as", ["", "qdisk"])
def test_a_device_is_found_by_its_key_backend(served_as: str) -> None:
    device = Device("vbd", 51712, 3, 0, served_as)
    assert from_backend_key("vbd", 51712, 3, device.back_path) == device


@pytest.mark.parametrize(
    "path",
    [
        "",
        "/",
        "/local/domain/0/backend/vbd/4/51712",
        "/local/domain/0/backend/vbd/3/51713",
        "/local/domain/x/backend/vbd/3/51712",
        "/local/domain/0/backend/vbd/3/51712/more",
        "../../../0/backend/vbd/3/51712",
    ],
)
def test_a_key_backend_that_points_elsewhere_is_refused(path: str) -> None:
    with pytest.raises(XenbusError, match="its key backend is"):
        from_backend_key("vbd", 51712, 3, path)


@given(st.text())
def test_any_key_backend_is_a_device_or_refused(path: str) -> None:
    try:
        device = from_backend_key("vbd", 51712, 3, path)
    except XenbusError:
        return
    assert device.front_path == PATH
