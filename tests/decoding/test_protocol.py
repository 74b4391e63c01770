"""Protocols: what can be typed, what is refused, what tells two apart."""

import dataclasses

import pytest

from ablate.decoding.protocol import Cache, Order, Pace, Protocol, SuffixRead

PACES = ["tokens:1", "tokens:4", "passes:3", "threshold:0.9", "dynamic:0.5", "all"]
NO_PACES = ["", "fast", "tokens", "tokens:0", "tokens:1.5", "passes:-1", "threshold:0", "threshold:1.1", "dynamic:0"]
NO_PACES += ["all:3", "tokens:nan", "dynamic:inf", "tokens:one", "threshold:"]


@pytest.mark.parametrize("typed", PACES)
def test_a_pace_is_what_was_typed(typed):
    assert str(Pace.read(typed)) == typed
    assert Protocol(pace=typed).pace == typed


@pytest.mark.parametrize("typed", NO_PACES)
def test_other_paces_are_refused_with_what_to_type(typed):
    with pytest.raises(ValueError, match=r"pace: wanted tokens:N.*try pace=tokens:1"):
        Protocol(pace=typed)


@pytest.mark.parametrize(
    ("field", "value", "said"),
    [
        ("block_size", 0, "block_size: wanted at least 1"),
        ("remask", -1, "remask: wanted 0 or more"),
        ("temperature", -0.1, "temperature: wanted 0"),
        ("temperature", float("nan"), "temperature: wanted 0"),
        ("top_p", 0.0, "top_p: wanted a mass"),
        ("top_p", 0.9, "top_p: wanted a mass"),  # nothing is drawn
        ("order", "alphabetical", "alphabetical"),
        ("grid", "prompt", "prompt"),
        ("suffix", "none", "none"),
    ],
)
def test_values_out_of_range_are_refused(field, value, said):
    with pytest.raises(ValueError, match=said):
        Protocol(**{field: value})


def test_every_field_tells_two_protocols_apart():
    changes = {
        "block_size": 4,
        "order": Order.random,
        "pace": "all",
        "grid": "sequence",
        "remask": 1,
        "temperature": 0.5,
        "suffix": SuffixRead.cut,
        "cache": Cache.prefix,
        "stop_at": (2, 3),
    }
    found = [Protocol(), *(dataclasses.replace(Protocol(), **{name: value}) for name, value in changes.items())]
    found.append(Protocol(temperature=0.5, top_p=0.9))
    assert {f.name for f in dataclasses.fields(Protocol)} == {*changes, "top_p"}
    assert len({p.fingerprint() for p in found}) == len(found)
    assert len({p.words for p in found}) == len(found)
    assert Protocol(pace="tokens:1.0").fingerprint() == Protocol().fingerprint()
