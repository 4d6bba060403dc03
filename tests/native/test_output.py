"""Where events go: split files."""

import json

from tests.support.collect import retis

TRAFFIC = "ping -q -n -c 200 -i 0.002 127.0.0.1"


def test_split_files_hold_every_event_once(tmp_path):
    out = tmp_path / "retis.data"
    done = retis(
        *("collect", "-c", "skb,skb-tracking", "-f", "icmp", "-p", "net:net_dev_start_xmit"),
        *("-o", out, "--out-rotate", "1MB", "--skb-sections", "all", "--cmd", TRAFFIC + " -s 200 -c 1500"),
    )
    assert done.returncode == 0, done.stderr
    parts = sorted(tmp_path.iterdir(), key=lambda path: int(path.suffix[1:]))
    assert len(parts) > 1, "traffic must fill more than one file"
    assert f"Wrote {len(parts)} event file(s)" in done.stderr
    assert not out.exists()
    startups, seen = [], []
    for part in parts:
        assert part.stat().st_size <= 1_000_000
        first, *events = map(json.loads, part.read_text().splitlines())
        startups.append(first["startup"]["split_file"])
        seen += [event["common"]["timestamp"] for event in events]
    assert [split["id"] for split in startups] == list(range(len(parts)))
    assert len(seen) == 3000  # 1,500 requests and their answers
    assert seen == sorted(seen)


def test_rotation_needs_a_file(tmp_path):
    done = retis("collect", "--out-rotate", "1MB", cwd=tmp_path)
    assert done.returncode == 2
    assert "'--out-rotate' needs '--out'" in done.stderr
