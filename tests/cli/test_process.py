"""sort, pcap, stats, schema, python, profile and sh-complete as a user meets them: options, messages, exit codes."""

from __future__ import annotations

import base64
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from retis_py.cli.pcap import parse_probe
from retis_py.errors import UsageError
from tests.support.oracle import STARTUP

PACKET = {"len": 60, "capture_len": 60, "data": base64.b64encode(bytes(60)).decode()}


def event(time: int, **sections: Any) -> dict[str, Any]:
    kernel = {"symbol": "skb:kfree_skb", "probe_type": "raw_tracepoint"}
    tracking = {"orig_head": 5, "timestamp": 10, "skb": 6}
    return {"common": {"timestamp": time}, "kernel": kernel, "skb-tracking": tracking, "packet": PACKET, **sections}


def write(path: Path, *items: Any) -> Path:
    path.write_text("".join(json.dumps(item, separators=(",", ":")) + "\n" for item in items))
    return path


def retis(*arguments: str, **options: Any) -> subprocess.CompletedProcess[Any]:
    command = [sys.executable, "-m", "retis_py", *arguments]
    return subprocess.run(command, **{"capture_output": True, "text": True, "timeout": 60, **options})


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return write(tmp_path / "retis.data", STARTUP, event(20), event(15), event(30))


# sort


def test_sort_prints_series(path: Path) -> None:
    done = retis("sort", "--format", "single-line", str(path))
    assert (done.returncode, done.stderr) == (0, "")
    assert [line.split(" ")[:3] for line in done.stdout.splitlines()[2:5]] == [
        ["20", "[tp]", "skb:kfree_skb"],
        ["", "", "\u21b3"],
        ["", "", "\u21b3"],
    ]
    assert [line.split(" n ")[1].split(" ")[0] for line in done.stdout.splitlines()[2:5]] == ["0", "1", "2"]


def test_sort_to_a_file_and_back(path: Path, tmp_path: Path) -> None:
    out = tmp_path / "sorted"
    done = retis("sort", "-o", str(out), str(path))
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert [len(json.loads(line)) for line in out.read_text().splitlines()] == [1, 3]
    both = retis("sort", "--print", "-o", str(tmp_path / "again"), str(path))
    assert both.stdout == retis("sort", str(path)).stdout == retis("print", str(out)).stdout
    assert (tmp_path / "again").read_bytes() == out.read_bytes()


def test_sort_of_a_sorted_file_does_nothing(tmp_path: Path) -> None:
    path = write(tmp_path / "sorted", [STARTUP])
    done = retis("sort", "-o", str(tmp_path / "x"), str(path))
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "File already sorted\n")
    assert not (tmp_path / "x").exists()


def test_sort_refusals(path: Path, tmp_path: Path) -> None:
    before = path.read_bytes()
    done = retis("sort", "-o", str(path), str(path))
    assert done.returncode == 1
    assert done.stderr == (
        "Error: Cannot sort a file in-place. Please specify an output file that's different to the input one.\n"
    )
    assert path.read_bytes() == before
    done = retis("sort", "-o", str(tmp_path / "no" / "x"), str(path))
    assert (done.returncode, done.stderr.splitlines()[0]) == (1, f"Error: Could not create or open '{tmp_path}/no/x'")
    assert retis("sort", "--max-buffer", "-1", str(path)).returncode == 2
    old = write(tmp_path / "old", {"common": {"timestamp": 1}, "startup": {"retis_version": "1.6.0"}})
    done = retis("sort", "-o", str(tmp_path / "x"), str(old))
    assert done.stderr == (
        "Error: Storing sorted events is not supported (input event format is too old, remove `--out`)\n"
    )


SPLIT_STARTUP = json.loads(json.dumps(STARTUP))
SPLIT_STARTUP["startup"]["split_file"] = {"id": 0, "policy": {"kind": "size", "limit": 10_000_000}}


@pytest.mark.parametrize("name", ["events.1", "events.0", "link", "hard"])
@pytest.mark.parametrize("command", [("sort", "-o"), ("pcap", "-o"), ("export", "--parquet")], ids=" ".join)
def test_no_output_takes_the_place_of_an_input(tmp_path: Path, command: tuple[str, str], name: str) -> None:
    if command[0] == "export":
        pytest.importorskip("pyarrow")
    first = write(tmp_path / "events.0", SPLIT_STARTUP, event(20))
    second = write(tmp_path / "events.1", SPLIT_STARTUP, event(30))
    (tmp_path / "link").symlink_to(second)
    os.link(second, tmp_path / "hard")
    before = first.read_bytes(), second.read_bytes()
    done = retis(*command, str(tmp_path / name), f"{first}..")
    assert (done.returncode, done.stdout) == (1, "")
    assert " in-place. Please specify an output file that's different" in done.stderr
    assert (first.read_bytes(), second.read_bytes()) == before


def test_a_parquet_file_is_not_prepared_in_the_place_of_the_input(tmp_path: Path) -> None:
    pytest.importorskip("pyarrow")
    path = write(tmp_path / "x.partial", STARTUP, event(20))
    done = retis("export", "--parquet", str(tmp_path / "x"), str(path))
    assert (done.returncode, path.exists(), (tmp_path / "x").exists()) == (1, True, False)


def test_a_truncated_file_is_sorted_to_where_it_ends(path: Path, tmp_path: Path) -> None:
    path.write_text(path.read_text()[:-20])
    done = retis("sort", "-o", str(tmp_path / "x"), str(path))
    assert done.returncode == 1
    assert done.stderr.startswith("WARN ") and f"{path}: line 4" in done.stderr
    assert [len(json.loads(line)) for line in (tmp_path / "x").read_text().splitlines()] == [1, 2]


# pcap


@pytest.mark.parametrize(
    ("text", "probe"),
    [
        ("consume_skb", ("kprobe", "consume_skb")),
        ("k:x", ("kprobe", "x")),
        ("kprobe:x", ("kprobe", "x")),
        ("kr:x", ("kretprobe", "x")),
        ("kretprobe:x/stack", ("kretprobe", "x")),
        ("tp:skb:kfree_skb", ("raw_tracepoint", "skb:kfree_skb")),
        ("raw_tracepoint:skb:kfree_skb", ("raw_tracepoint", "skb:kfree_skb")),
        ("skb:kfree_skb", ("raw_tracepoint", "skb:kfree_skb")),
        ("foo:kfree_skb/stack", ("raw_tracepoint", "foo:kfree_skb")),
        ("__tracepoint_foo", ("kprobe", "foo")),
    ],
)
def test_probe_argument(text: str, probe: tuple[str, str]) -> None:
    assert parse_probe(text) == probe


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a:b:c", "Invalid TYPE a. See the help."),
        ("x/foo", "'foo' is an invalid probe option."),
        ("x/stack/", "Empty options are not allowed. Check your option list doesn't terminate with '/'."),
        ("x/", "Empty options are not allowed. Check your option list doesn't terminate with '/'."),
    ],
)
def test_invalid_probe_argument(text: str, message: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_probe(text)
    assert str(caught.value) == message


def test_pcap_counts_and_writes(path: Path, tmp_path: Path) -> None:
    done = retis("pcap", "-o", str(tmp_path / "x"), str(path))
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "3 event(s) were processed\n")
    assert retis("pcap", str(path), text=False).stdout == (tmp_path / "x").read_bytes()
    assert (tmp_path / "x").read_bytes()[:4] == b"\x0a\x0d\x0d\x0a"


def test_pcap_without_packets_writes_nothing(tmp_path: Path) -> None:
    path = write(tmp_path / "f", STARTUP, event(1, packet=None))
    done = retis("pcap", "-o", str(tmp_path / "x"), str(path))
    assert done.returncode == 0
    assert done.stderr == ("1 event(s) were processed\nWARN  1 event(s) were skipped because of missing raw packet\n")
    assert not (tmp_path / "x").exists()


def test_pcap_errors(path: Path, tmp_path: Path) -> None:
    done = retis("pcap", "-p", "k:foo", str(path))
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("Error: Probe not found in the events\n")
    done = retis("pcap", "-o", str(tmp_path / "no" / "x"), str(path))
    assert done.stderr.startswith(f"Error: Could not create or open '{tmp_path}/no/x'\n")
    done = retis("pcap", "-p", "a:b:c", str(path))
    assert (done.returncode, done.stderr.splitlines()[0]) == (2, "error: Invalid TYPE a. See the help.")
    done = retis("pcap", str(write(tmp_path / "sorted", [STARTUP])))
    assert (done.returncode, done.stderr) == (1, "Error: Cannot read event from sorted file\n")
    with open("/dev/full", "wb") as full:
        done = retis("pcap", str(path), stdout=full, capture_output=False, stderr=subprocess.PIPE)
    assert (done.returncode, done.stderr) == (1, "Error: cannot write to stdout: No space left on device\n")


@pytest.mark.parametrize("command", ["pcap", "sort"])
def test_a_reader_that_leaves_ends_the_command_quietly(command: str, tmp_path: Path) -> None:
    path = write(tmp_path / "f", STARTUP, *(event(i) for i in range(4000)))
    process = subprocess.Popen(
        [sys.executable, "-m", "retis_py", command, str(path)], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert process.stdout is not None and process.stderr is not None
    process.stdout.read(10)
    process.stdout.close()
    assert process.stderr.read() == b""
    assert process.wait(30) == 0


def test_a_signal_lets_sort_finish_what_it_holds(tmp_path: Path) -> None:
    path = write(tmp_path / "f", STARTUP, *(event(i) for i in range(60_000)))
    out = tmp_path / "x"
    command = [sys.executable, "-m", "retis_py", "sort", "-o", str(out), str(path)]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 20
    while not (out.exists() and out.stat().st_size) and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.005)
    process.send_signal(signal.SIGTERM)
    _, stderr = process.communicate(timeout=30)
    assert process.returncode == 0
    assert stderr in ("Received signal, terminating...\n", "")  # empty: it was faster
    events = sum(len(json.loads(line)) for line in out.read_text().splitlines())
    assert events == 60_001 or (stderr and events > 0)


# the others


def test_stats_prints_the_block(path: Path) -> None:
    done = retis("stats", str(path))
    assert done.stdout == (
        "Retis version: v1.7.0\nRetis cmdline: retis collect -o\nNumber of events: 3\n"
        "First event at: 2025-03-18 14:45:46.691042\nLast event at: 2025-03-18 14:45:46.691042\n"
        "Probes:\n  raw_tracepoint/skb:kfree_skb: 3\n"
    )


def test_stats_of_a_truncated_file_says_so_after_the_numbers(path: Path) -> None:
    path.write_text(path.read_text()[:-20])
    done = retis("stats", str(path))
    assert done.returncode == 1
    assert "Number of events: 2\n" in done.stdout
    assert done.stderr.startswith("WARN ") and "line 4" in done.stderr


@pytest.mark.parametrize("command", ["sort", "pcap", "stats", "python"])
def test_garbage_is_one_error_line(command: str, tmp_path: Path) -> None:
    path = tmp_path / "garbage"
    option = ["-i"] if command == "python" else []
    for content in (b"", b"\0\1\2", b"[" * 100_000, b'"x"\n', b"\xff\xfe\n", b"{}\n", b"9" * 5000):
        path.write_bytes(content)
        done = retis(command, *option, str(path), stdin=subprocess.DEVNULL)
        assert done.returncode == 1, content[:10]
        assert done.stderr.startswith("Error: ") and "Traceback" not in done.stderr
        assert str(path) in done.stderr
    assert retis(command, *option, str(tmp_path / "none")).returncode == 2


def test_schema_is_json_without_a_newline_after_it() -> None:
    done = retis("schema")
    assert json.loads(done.stdout)["title"] == "Retis Metadata"
    assert done.stdout.startswith('{\n  "$schema"') and done.stdout.endswith("\n}")


def test_a_python_script_may_come_from_a_pipe(path: Path) -> None:
    script = "import sys\nprint(sys.argv[1:], __name__, len(list(reader.events())))\n1 / 0\n"
    done = retis("python", "-i", str(path), "--", "/dev/stdin", "--x", input=script)
    assert (done.returncode, done.stdout) == (1, "['--x'] __main__ 4\n")
    assert done.stderr.splitlines()[1] == '  File "/dev/stdin", line 3, in <module>'


@pytest.mark.parametrize(
    ("script", "status"),
    [("import sys; print(1); sys.stdout.close()", 0), ("import sys; print(1, flush=True); sys.stdout = None", 0)],
)
def test_a_python_script_may_close_stdout(path: Path, tmp_path: Path, script: str, status: int) -> None:
    (tmp_path / "script.py").write_text(script)
    done = retis("python", "-i", str(path), str(tmp_path / "script.py"))
    assert (done.returncode, done.stdout, done.stderr) == (status, "1\n", "")


def test_a_python_script_whose_output_nobody_reads_ends_quietly(path: Path, tmp_path: Path) -> None:
    (tmp_path / "script.py").write_text("while True:\n    print('x' * 1000)\n")
    (tmp_path / "own.py").write_text("raise BrokenPipeError(32, 'of a socket')\n")
    reader, writer = os.pipe()
    os.close(reader)
    command = ("python", "-i", str(path))
    done = retis(*command, str(tmp_path / "script.py"), capture_output=False, stdout=writer, stderr=subprocess.PIPE)
    os.close(writer)
    assert (done.returncode, done.stderr) == (0, "")
    done = retis(*command, str(tmp_path / "own.py"))
    assert done.returncode == 1 and "of a socket" in done.stderr


def test_python_script_gets_reader_and_arguments(path: Path, tmp_path: Path) -> None:
    script = tmp_path / "s.py"
    script.write_text("print(sys.argv[1:], [e.common.timestamp for e in reader.events()], __name__)\n")
    done = retis("python", "-i", str(path), "--", str(script), "-x", "y")
    assert (done.returncode, done.stdout) == (0, "['-x', 'y'] [1, 20, 15, 30] __main__\n")


def test_python_script_is_found_by_name(path: Path, tmp_path: Path) -> None:
    script = tmp_path / ".config/retis/python/count.py"
    script.parent.mkdir(parents=True)
    script.write_text("print(len(list(reader.events())))")
    environment = {**os.environ, "HOME": str(tmp_path)}
    assert retis("python", "-i", str(path), "count", env=environment).stdout == "4\n"
    done = retis("python", "-i", str(path), "nope", env=environment)
    assert (done.returncode, done.stderr) == (1, "Error: Python script named nope not found\n")


def test_a_failing_script_shows_its_traceback_and_none_of_ours(path: Path, tmp_path: Path) -> None:
    script = tmp_path / "s.py"
    script.write_text("def f():\n    1 / 0\nf()\n")
    done = retis("python", "-i", str(path), str(script))
    assert done.returncode == 1
    assert done.stderr.startswith("Traceback") and done.stderr.endswith("ZeroDivisionError: division by zero\n")
    assert "retis_py" not in done.stderr
    script.write_text("sys.exit(7)")
    assert retis("python", "-i", str(path), str(script)).returncode == 7


def test_python_shell_reads_split_files(tmp_path: Path) -> None:
    for index in range(2):
        startup = json.loads(json.dumps(STARTUP))
        startup["startup"]["split_file"] = {"id": index, "policy": {"kind": "size", "limit": 1}}
        write(tmp_path / f"retis.data.{index}", startup)
    done = retis("python", input="print(sys.argv, len(list(reader.events())))\n", cwd=tmp_path)
    assert "[] 2" in done.stdout


@pytest.mark.parametrize(("shell", "name"), [("bash", "retis.bash"), ("fish", "retis.fish"), ("zsh", "_retis")])
def test_completion_scripts(shell: str, name: str, tmp_path: Path) -> None:
    printed = retis("sh-complete", "--shell", shell).stdout
    assert f"_RETIS_COMPLETE={shell}_complete" in printed
    assert retis("sh-complete", "--shell", shell, "--register", str(tmp_path)).stdout == ""
    assert (tmp_path / name).read_text() == printed
    done = retis("sh-complete", "--shell", shell, "--register", str(tmp_path / "no" / "x"))
    assert done.stderr == f"Error: cannot write to {tmp_path}/no/x: No such file or directory\n"


def test_bash_completes_commands() -> None:
    python = sys.executable
    listed = subprocess.run(
        [python, "-m", "retis_py"],
        env={**os.environ, "_RETIS_COMPLETE": "bash_complete", "COMP_LINE": "retis sta"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert listed.stdout == "plain,stats\n"


def test_shell_that_does_not_exist_is_a_usage_error() -> None:
    done = retis("sh-complete", "--shell", "tcsh")
    assert (done.returncode, done.stdout) == (2, "")
    assert "'tcsh' is not one of 'bash', 'elvish', 'fish'"[:20] in done.stderr


def test_profile_list(tmp_path: Path) -> None:
    (tmp_path / "bad.yaml").write_text("{")
    (tmp_path / "good.yaml").write_text("version: 1.0\nname: mine\nabout: My own\n")
    done = retis("-P", str(tmp_path), "profile", "list")
    assert done.returncode == 0
    assert done.stdout.startswith(f"{tmp_path}/good.yaml:\n  mine                 My own\n")
    assert "  nft-dropmon          " in done.stdout
    assert done.stderr.startswith(f"WARN  Skipping invalid file {tmp_path}/bad.yaml: ")


def test_profiles_add_arguments(path: Path, tmp_path: Path) -> None:
    done = retis("-p", "dropmon", "pcap", "-o", str(tmp_path / "x"), str(path))
    assert done.stderr == "Applying profile dropmon: Default\n3 event(s) were processed\n"
    done = retis("-p", "dropmon", "stats", str(path))
    assert (done.returncode, done.stderr.splitlines()[0]) == (
        2,
        "error: Subcommand stats does not support profile enhancement",
    )


@pytest.mark.parametrize("command", ["sort", "pcap", "stats", "schema", "python", "sh-complete", "profile"])
def test_every_command_has_help_with_an_example(command: str) -> None:
    done = retis(command, *(["list"] if command == "profile" else []), "--help")
    assert done.returncode == 0
    assert "Example" in done.stdout
