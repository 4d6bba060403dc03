"""BTF against the compiler that wrote it: offsets by our reader, and by offsetof()."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from retis_py.kernel.btf import Btf, Kind
from retis_py.kernel.structs import print_structs

CLANG = shutil.which("clang")
pytestmark = pytest.mark.skipif(CLANG is None, reason="clang is not installed")

SOURCE = """
typedef unsigned int u32; typedef unsigned long long u64; typedef unsigned char u8;
struct inner { u64 pad; union { u32 number; char text[12]; }; struct { struct inner *next; } link; };
enum colour { RED, GREEN = 7, BLUE = -1 };
struct outer {
	u8 first;
	u8 low:3, middle:2, high:1;
	const char *name;
	union { u32 word; struct { unsigned short lo, hi; }; };
	struct inner in __attribute__((aligned(64)));
	enum colour colour;
	u64 handle:42, last:1;
	char label[16];
	int number_signed;
	void (*call)(void);
	struct inner row[3];
};
typedef void (*btf_trace_sample)(void *data, struct outer *one, const struct inner *two, struct outer **three,
	enum colour c);
int function(const struct outer *one, struct inner *two, u64 n) { return one->first + (int)two->pad + (int)n; }
struct outer keep; btf_trace_sample keep_trace;
"""
MEMBERS = [
    "first",
    "name",
    "word",
    "lo",
    "hi",
    "in",
    "in.number",
    "in.text",
    "in.link.next",
    "colour",
    "label",
]
BITS = ["low", "middle", "high", "handle", "last"]


@pytest.fixture(scope="module")
def btf(tmp_path_factory: pytest.TempPathFactory) -> Btf:
    folder = tmp_path_factory.mktemp("btf")
    (folder / "sample.c").write_text(SOURCE)
    subprocess.run(
        [CLANG, "-w", "-g", "-O1", "-target", "bpf", "-c", "sample.c", "-o", "sample.o"],
        cwd=folder,
        check=True,
    )
    return Btf(folder / "sample.o")


def _compiled(folder: Path, text: str) -> list[int]:
    (folder / "print.c").write_text(SOURCE.replace("int function", "static int function") + text)
    subprocess.run([CLANG, "-w", "-o", "print", "print.c"], cwd=folder, check=True)
    return [int(word) for word in subprocess.run(["./print"], cwd=folder, capture_output=True).stdout.split()]


def test_offsets_are_the_compilers(btf: Btf, tmp_path: Path) -> None:
    prints = "".join(f'__builtin_printf("%ld ", (long)__builtin_offsetof(struct outer, {m}));' for m in MEMBERS)
    due = _compiled(tmp_path, f"int main() {{ {prints} return 0; }}")
    assert [btf.offset_of("outer", member) for member in MEMBERS] == due


def test_printed_struct_reads_what_the_real_one_holds(btf: Btf, tmp_path: Path) -> None:
    class Only:
        def everywhere(self, name=None):
            return [btf]

    wanted = [*MEMBERS[:5], *MEMBERS[6:], *BITS, "number_signed", "row.number", "not_there"]
    printed = print_structs(Only(), {"outer": wanted})
    mine = printed.replace("struct outer", "struct mine").replace("struct inner *", "void *")
    names = "typedef unsigned short u16; typedef int s32; typedef long long s64;"
    fields = ["first", "word", "hi", "in.number", "label[3]", *BITS, "number_signed", "row[2].number"]
    fill = "".join("((unsigned char *)&o)[i] = i * 37 + 11;" for _ in range(1))
    compare = "".join(f'__builtin_printf("%d ", (long long)o.{f} == (long long)m->{f});' for f in fields)
    got = _compiled(
        tmp_path,
        f"{names} {mine} int main() {{ struct outer o; for (unsigned i = 0; i < sizeof(o); i++) {fill}"
        f'struct mine *m = (void *)&o; {compare} __builtin_printf("%d", sizeof(o) <= sizeof(*m)); return 0; }}',
    )
    assert got == [1] * (len(fields) + 1)


def test_missing_members_are_told_apart(btf: Btf) -> None:
    assert btf.has_member("outer", "in.link.next")
    assert not btf.has_member("outer", "in.link.previous")
    assert not btf.has_member("no_such_struct", "in")


def test_bitfields_have_place_and_width(btf: Btf) -> None:
    outer = btf.find("outer", Kind.STRUCT)
    found = {name: btf.member(outer, name) for name in BITS}
    assert [found[name].bits for name in BITS] == [3, 2, 1, 42, 1]
    assert found["middle"].offset - found["low"].offset == 3
    assert found["last"].offset - found["handle"].offset == 42


def test_enums_keep_their_sign(btf: Btf) -> None:
    assert btf.enum("colour") == {"RED": 0, "GREEN": 7, "BLUE": -1}
    assert btf.enum("no_such_enum") is None


def test_tracepoint_parameters_come_without_the_data_pointer(btf: Btf) -> None:
    types = [parameter.type for parameter in btf.tracepoint("sample")]
    # a pointer to a pointer is not the pointer a probe looks for
    assert types == ["struct outer *", "struct inner *", "struct outer **", "enum colour"]


def test_function_parameters_keep_names_and_typedefs(btf: Btf) -> None:
    parameters = btf.function("function")
    assert [(p.name, p.type) for p in parameters] == [
        ("one", "struct outer *"),
        ("two", "struct inner *"),
        ("n", "u64"),
    ]
    assert btf.function("no_such_function") is None
