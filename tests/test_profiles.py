"""Profiles: which is found, whether it applies, and the arguments it stands for."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from retis_py import profile_file, profiles
from retis_py.errors import ProfileError, UsageError
from retis_py.profiles import expand, load


@pytest.fixture(autouse=True)
def nobodys_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    return tmp_path / "home"


@pytest.fixture
def place(tmp_path: Path) -> Path:
    directory = tmp_path / "extra"
    directory.mkdir()
    return directory


def write(path: Path, body: str, name: str = "p", version: str = "1.0") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"version: {version}\nname: {name}\n{body}")
    return path


def args(place: Path, name: str = "p", command: str = "collect", symbols: tuple[str, ...] = ()) -> list[str]:
    return expand([name], command, str(place), symbols.__contains__)


def test_built_in_drop_monitor() -> None:
    assert expand(["dropmon"], "collect") == [
        "--collectors",
        "skb-drop,skb,dev,ns",
        "--probe",
        "tp:skb:kfree_skb/stack",
    ]
    assert expand(["dropmon"], "pcap") == ["--probe", "tp:skb:kfree_skb"]


def test_built_in_profiles_are_all_there() -> None:
    generic = expand(["generic"], "collect")
    assert generic[:2] == ["--collectors", "auto"] and generic.count("--probe") == 25
    assert expand(["ifdump"], "collect").count("--probe") == 2
    assert expand(["nft-dropmon"], "collect") == [
        "--collectors", "nft,skb,dev,ns", "--nft-verdicts", "drop", "--probe", "kprobe:__nft_trace_packet/stack",
    ]  # fmt: skip


def test_options_come_in_alphabetical_order_flags_without_value(place: Path) -> None:
    write(
        place / "a.yaml",
        "collect:\n  - args:\n      skb_sections: all\n      ovs-track:\n      probe: [b, a]\n      e: null\n",
    )
    assert args(place) == ["--e", "--ovs-track", "--probe", "b", "--probe", "a", "--skb-sections", "all"]


def test_values_are_text_whatever_they_look_like(place: Path) -> None:
    write(place / "a.yaml", "collect:\n  - args: {stop_after: 10, cmd: no, ratio: 1.10}\n")
    assert args(place) == ["--cmd", "no", "--ratio", "1.10", "--stop-after", "10"]


def test_first_rule_that_holds_is_used(place: Path, caplog: pytest.LogCaptureFixture) -> None:
    rule = "  - name: {0}\n    when: [{{type: symbol, name: {0}}}]\n    args: {{cmd: {0}}}\n"
    write(place / "a.yaml", "collect:\n" + rule.format("one") + rule.format("two"))
    with caplog.at_level(logging.INFO):
        assert args(place, symbols=("two",)) == ["--cmd", "two"]
        assert args(place, symbols=("one", "two")) == ["--cmd", "one"]
        assert args(place) == []
    assert [record.getMessage() for record in caplog.records] == [
        "Applying profile p: two",
        "Applying profile p: one",
        "None of the collect profiles defined in p were selected",
    ]


def test_messages_name_the_rule_except_collects_default(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        expand(["dropmon"], "collect")
        expand(["dropmon"], "pcap")
    assert [record.getMessage() for record in caplog.records] == [
        "Applying profile dropmon",
        "Applying profile dropmon: Default",
    ]


def test_a_symbol_may_have_to_be_missing(place: Path) -> None:
    write(
        place / "a.yaml", "collect:\n  - when: [{type: symbol, name: x, exists: false}]\n    args: {cmd: y}\n"
    )
    assert args(place) == ["--cmd", "y"]
    assert args(place, symbols=("x",)) == []


@pytest.mark.parametrize(
    ("release", "condition", "holds"),
    [
        ("6.12.0-55.el10", ">=6.12", True),
        ("6.12.0-55.el10", ">6.12", False),
        ("6.12.5", ">6.12", False),
        ("6.12.5", ">6.12.4", True),
        ("6.12.0-55.el10", "=6.12.0-55", True),
        ("6.12.0-55.el10", "<6.12.0-56", True),
        ("6.2.0", "<6.12", True),
        ("6.2.0", ">=6.1, <6.2", False),
        ("6.2.0", ">= 6.1, != 6.3", True),
        ("7.0.0-rc3", ">6", True),
        ("5.14.0-427.13.1.el9_4.x86_64", ">=5.14.0-427", True),
        ("5.14.0-427.13.1.el9_4.x86_64", ">5.14.0-427", False),
    ],
)
def test_version_conditions(
    place: Path, monkeypatch: pytest.MonkeyPatch, release: str, condition: str, holds: bool
) -> None:
    monkeypatch.setattr(profile_file.platform, "release", lambda: release)
    write(
        place / "a.yaml",
        f"collect:\n  - when: [{{type: version, version: '{condition}'}}]\n    args: {{cmd: y}}\n",
    )
    assert bool(args(place)) == holds


def test_a_users_profile_comes_before_a_built_in_one_and_the_extra_directory_before_both(
    place: Path, nobodys_home: Path
) -> None:
    body = "collect:\n  - args: {{cmd: {0}}}\n"
    write(nobodys_home / ".config/retis/profiles/x.yml", body.format("mine"), "dropmon")
    assert expand(["dropmon"], "collect") == ["--cmd", "mine"]
    write(place / "x.yaml", body.format("extra"), "dropmon")
    assert args(place, "dropmon") == ["--cmd", "extra"]


def test_a_path_is_a_profile_too_but_of_one_document(place: Path) -> None:
    path = write(place / "sub" / "a.yaml", "collect:\n  - args: {cmd: y}\n")
    assert expand([str(path)], "collect") == ["--cmd", "y"]
    path.write_text(path.read_text() * 1 + "---\n" + path.read_text())
    with pytest.raises(ProfileError, match="Could not import profile"):
        expand([str(path)], "collect")


def test_names_may_be_a_list() -> None:
    assert expand(["dropmon,ifdump"], "collect") == expand(["dropmon", "ifdump"], "collect")


def test_other_commands_have_no_profiles() -> None:
    with pytest.raises(UsageError, match="Subcommand sort does not support profile enhancement"):
        expand(["dropmon"], "sort")


def test_an_unknown_or_ambiguous_name_is_an_error(place: Path) -> None:
    with pytest.raises(ProfileError, match="Profile with name x not found"):
        args(place, "x")
    write(place / "a.yaml", "", "x")
    write(place / "b.yaml", "", "x")
    with pytest.raises(ProfileError, match=f"Found two profiles with name 'x' in {place}"):
        args(place, "x")


def test_an_invalid_file_does_not_hide_the_others(place: Path) -> None:
    (place / "a.yaml").write_text("{")
    write(place / "b.yaml", "collect:\n  - args: {cmd: y}\n")
    assert args(place) == ["--cmd", "y"]


def test_versions_of_the_format(place: Path, caplog: pytest.LogCaptureFixture) -> None:
    assert [profile.name for profile in load(write(place / "a.yaml", "", version="1.7"))] == ["p"]
    assert load(write(place / "a.yaml", "", version="2.0")) == []
    assert "partially supported" in caplog.records[0].getMessage()
    assert "not supported" in caplog.records[1].getMessage()


@pytest.mark.parametrize(
    "text",
    [
        "{",
        "x",
        "- 1",
        "name: p",
        "version: 1.0",
        "version: '1'\nname: p",
        "version: [1]\nname: p",
        "version: 1.0\nname: [p]",
        "version: 1.0\nname: p\ncollect: x",
        "version: 1.0\nname: p\ncollect: [x]",
        "version: 1.0\nname: p\ncollect: [{args: x}]",
        "version: 1.0\nname: p\ncollect: [{args: {x: {y: z}}}]",
        "version: 1.0\nname: p\ncollect: [{args: {x: [[y]]}}]",
        "version: 1.0\nname: p\ncollect: [{arg: {}}]",
        "version: 1.0\nname: p\ncollect: [{when: x}]",
        "version: 1.0\nname: p\ncollect: [{when: [x]}]",
        "version: 1.0\nname: p\ncollect: [{when: [{type: x}]}]",
        "version: 1.0\nname: p\ncollect: [{when: [{type: [x]}]}]",
        "version: 1.0\nname: p\ncollect: [{when: [{type: symbol}]}]",
        "version: 1.0\nname: p\ncollect: [{when: [{type: version, version: '~6'}]}]",
        "version: 1.0\nname: p\ncollect: [{when: [{type: symbol, name: x, exists: [y]}]}]",
        "version: 1.0\nname: p\ncollect: [{name: [x]}]",
        "version: 1.0\nname: p\nname: q",
        "version: 1.0\nname: p\nabout: [x]",
        "version: 1.0\nname: p\ncolect: []",
        "version: 1.0\nname: p\n[x]: y",
        "version: 1.0\nname: p\ncollect: &a [*a]",
        "\x00",
        "[" * 1000,
    ],
)
def test_a_file_that_is_no_profile_is_an_error_not_a_traceback(tmp_path: Path, text: str) -> None:
    path = tmp_path / "a.yaml"
    path.write_text(text)
    with pytest.raises(ProfileError):
        load(path)


def test_name_of_a_file_means_its_first_profile() -> None:
    assert profiles.expand(["drop"], "collect", None) == profiles.expand(["dropmon"], "collect", None)


@pytest.mark.parametrize(
    ("line", "text", "message"),
    [
        (4, "version: 1.0\nname: p\ncollect:\n  - arg:\n", "unknown field 'arg' of an entry of collect, did"),
        (3, "version: 1.0\nname: p\ncolect:\n", "unknown field 'colect' of a profile, did you mean 'collect'?"),
        (6, "version: 1.0\nname: p\npcap:\n- args:\n    probe: x\n    cmd: {}\n", "'cmd' is not text or a"),
        (2, "version: 1.0\nname: [", "expected the node content, but found '<stream end>'"),
        (2, "name: p\nversion: one\n", "invalid version 'one', not X.Y"),
        (1, "name: p\nabout: x\n", "missing field 'version'"),
        (5, "version: 1.0\nname: p\ncollect:\n- when:\n  - {type: kernel}\n", "unknown condition type 'kernel'"),
        (3, "version: 1.0\nname: p\nname: q\n", "field 'name' is there twice"),
        (6, "version: 1.0\nname: p\n---\nversion: 1.0\nname: q\ncollect: x\n", "collect is not a list of maps"),
    ],
)
def test_an_error_names_the_line(tmp_path: Path, line: int, text: str, message: str) -> None:
    path = tmp_path / "a.yaml"
    path.write_text(text)
    with pytest.raises(ProfileError) as caught:
        load(path)
    assert str(caught.value).startswith(f"line {line}: {message}")


BOMB = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]\n" for n in range(1, 10)
)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (BOMB.encode(), r"line \d: more than 16384 values \(aliases count as what they stand for\)"),
        (b"version: 1.0\nname: p\n" + b"# comment\n" * 200_000, r"line \d+: a profile of more than 1 MiB"),
        (b"version: 1.0\nname: p\ncollect: &a [*a]\n", "line 3: nested too deeply"),
        (b"a: 1\nb: " + b"[" * 2000, "line 2: nested too deeply"),
        (b"version: 1.0\nname: p\nabout: \xff\n", r"line 3: not UTF-8 \(byte 0xff\)"),
        (b"version: 1.0\nname: \x1b\n", r"line 2: character U\+001B is not allowed"),
    ],
)
def test_a_hostile_file_is_an_error_with_a_line_before_it_costs_anything(
    tmp_path: Path, content: bytes, message: str
) -> None:
    path = tmp_path / "a.yaml"
    path.write_bytes(content)
    with pytest.raises(ProfileError, match=f"^{message}$"):
        load(path)


def test_aliases_are_fine_otherwise(place: Path) -> None:
    write(place / "a.yaml", "collect:\n  - args: {probe: &p [a, b]}\npcap:\n  - args: {probe: *p}\n")
    assert args(place, command="pcap") == args(place) == ["--probe", "a", "--probe", "b"]


@pytest.mark.parametrize("names", [",", "", "dropmon,", " , dropmon"])
def test_an_empty_name_is_told(names: str) -> None:
    with pytest.raises(UsageError, match=f"a name in the list of profiles '{names}' is empty"):
        expand([names], "collect")


OPTIONS = {"--probe": True, "--stack": False, "--out": None}


@pytest.mark.parametrize(
    ("args", "message", "hint"),
    [
        ("prob: x", "line 5: retis collect has no option --prob", "did you mean --probe?"),
        ("zzz: x", "line 5: retis collect has no option --zzz", None),
        ("probe:", "line 5: --probe needs a value", None),
        ("stack: x", "line 5: --stack takes no value", None),
    ],
)
def test_an_option_that_the_command_does_not_have_is_told_with_its_line(
    place: Path, args: str, message: str, hint: str | None
) -> None:
    path = write(place / "a.yaml", f"collect:\n  - args:\n      {args}\n")
    with pytest.raises(UsageError) as caught:
        expand(["p"], "collect", str(place), lambda name: None, OPTIONS)
    assert (str(caught.value), caught.value.hint) == (f"{path}: {message}", hint)


def test_an_optional_value_may_be_there_or_not(place: Path) -> None:
    write(place / "a.yaml", "collect:\n  - args: {out: x, stack: }\n")
    assert expand(["p"], "collect", str(place), lambda name: None, OPTIONS) == ["--out", "x", "--stack"]
    write(place / "a.yaml", "collect:\n  - args: {out: }\n")
    assert expand(["p"], "collect", str(place), lambda name: None, OPTIONS) == ["--out"]


def test_the_systems_profiles_come_after_the_users_and_before_ours(
    place: Path, nobodys_home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(profiles, "ETC", place)
    write(place / "x.yaml", "collect:\n  - args: {cmd: etc}\n", "ifdump")
    assert expand(["ifdump"], "collect") == ["--cmd", "etc"]
    write(nobodys_home / ".config/retis/profiles/x.yml", "collect:\n  - args: {cmd: mine}\n", "ifdump")
    assert expand(["ifdump"], "collect") == ["--cmd", "mine"]


def test_several_profiles_are_merged_in_the_order_given(place: Path) -> None:
    write(place / "a.yaml", "collect:\n  - args: {probe: [a, b]}\n", "one")
    write(place / "b.yaml", "collect:\n  - args: {probe: c, stack: }\n", "two")
    assert expand(["two,one"], "collect", str(place)) == ["--probe", "c", "--stack", "--probe", "a", "--probe", "b"]


def test_an_unknown_name_tells_of_one_like_it_and_of_files_that_are_broken(place: Path) -> None:
    with pytest.raises(ProfileError) as caught:
        args(place, "dropmom")
    assert caught.value.hint == "did you mean dropmon?"
    (place / "a.yaml").write_text("{")
    with pytest.raises(ProfileError) as caught:
        args(place, "zzz")
    assert f"1 file(s) are not valid: {place}/a.yaml: line " in (caught.value.hint or "")


def test_every_built_in_profile_is_valid_and_says_what_it_is_for() -> None:
    found = {}
    for path, content in profiles.profile_files(profiles.profiles_dir()):
        assert not isinstance(content, ProfileError), f"{path}: {content}"
        found.update({profile.name: profile.about for profile in content})
    assert {"generic", "dropmon", "nft-dropmon", "ifdump", "pcap", "nft-drop"} == set(found) and all(found.values())
