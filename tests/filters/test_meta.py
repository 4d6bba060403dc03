"""Meta filters against the compiler: the generated C, and the same condition written in C, on the same memory."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from retis_py.errors import FilterError
from retis_py.filters.meta import meta_filter
from retis_py.filters.meta_code import words
from retis_py.kernel.types import KernelTypes

CLANG = shutil.which("clang")
pytestmark = pytest.mark.skipif(CLANG is None, reason="clang is not installed")

SOURCE = """
typedef unsigned char u8; typedef unsigned short u16; typedef unsigned int u32; typedef unsigned long long u64;
typedef int s32; typedef long long s64;
enum state { DOWN, UP = 5, BROKEN = -2 };
typedef struct { struct net *net; } possible_net_t;
struct net { u64 cookie; struct { u32 inum; } ns; };
struct dev_ifalias { u64 rcu; char ifalias[]; };
struct net_device { char *alias; struct dev_ifalias *ifalias; char label[6];
	char name[16]; char long_name[48]; s32 mtu; possible_net_t nd_net; enum state state; };
struct nf_conn { u32 use; struct { struct { u8 state; } tcp; } proto; u32 mark; };
typedef struct nf_conn nf_conn_t; typedef struct nf_conn *nf_conn_p;
struct sk_buff {
	struct net_device *dev;
	u64 _nfct;
	union { struct { u32 mark, ifi; }; u64 both; };
	u8 pkt_type:3, cloned:1, l4_hash:1; s32 delta:5; u32 wide:30;
	u16 protocol; s32 skb_iif; u8 one; struct net_device **twice; u32 words[4]; struct { int counter; } users;
	void *opaque; struct net_device *lost; u64 big; s64 low; char table[4][8];
};
struct nf_conn keep;
nf_conn_t keep_t; nf_conn_p keep_p; struct sk_buff keep_skb; struct net_device keep_dev; struct net keep_net;
struct dev_ifalias keep_ifalias;
"""
MEMORY = """
static struct net net = { .cookie = 9, .ns = { 4026531840U } };
/* nothing can be read behind it */
static char edge[8] = "+uplink";
static struct dev_ifalias flexible = { 1, "to the provider" };
static struct net_device dev = { .alias = edge + 1, .ifalias = &flexible, .label = "six..",
	.name = "eth0", .long_name = "a name of more than thirty-two bytes",
	.mtu = -5, .nd_net = { &net }, .state = UP };
static struct nf_conn ct __attribute__((aligned(8))) = { .mark = 77, .proto = { { 3 } } };
static struct sk_buff skb_ = { .dev = &dev, .mark = 0xabcd, .ifi = 12, .pkt_type = 5, .cloned = 1, .delta = -7,
	.wide = 0x3fffffff, .protocol = 0x0800, .skb_iif = -1, .one = 255,
	.big = ~0ULL, .low = 1LL << 63 };
static int bpf_probe_read_kernel(void *to, u32 size, const void *from)
{
	u32 over = (char *)from >= edge && (char *)from < edge + 8 && (char *)from + size > edge + 8;
	if ((u64)from < 4096 || over) { __builtin_memset(to, 0, size); return -14; }
	__builtin_memcpy(to, from, size); return 0;
}
#define read_number bpf_probe_read_kernel
static int bpf_probe_read_kernel_str(void *to, u32 size, const void *from)
{
	u32 at = 0;
	if ((u64)from < 4096) return -14;
	for (; at < size - 1; at++) {
		if (bpf_probe_read_kernel((char *)to + at, 1, (char *)from + at)) return -14;
		if (!((char *)to)[at]) return at + 1;
	}
	((char *)to)[at] = 0; return size;
}
#define __always_inline inline
#define OPAQUE(number) asm volatile("" : "+r"(number))
"""
#: filter -> the same in C, of s (struct sk_buff *), d (its device) and c (its conntrack)
AGREE = {
    'sk_buff.dev.name == "eth0"': '!__builtin_strcmp(d->name, "eth0")',
    "sk_buff.dev.name == 'eth'": '!__builtin_strcmp(d->name, "eth")',
    'sk_buff.dev.name == "eth01"': '!__builtin_strcmp(d->name, "eth01")',
    'sk_buff.dev.name != "eth0"': '__builtin_strcmp(d->name, "eth0")',
    'sk_buff.dev.name != "lo"': '__builtin_strcmp(d->name, "lo")',
    'sk_buff.dev.name != "lo" and sk_buff.cloned': '__builtin_strcmp(d->name, "lo") && s->cloned',
    'sk_buff.dev.name != "eth0" or sk_buff.mark == 1': '__builtin_strcmp(d->name, "eth0") || s->mark == 1',
    'sk_buff.dev.alias == "uplink"': '!__builtin_strcmp(d->alias, "uplink")',
    'sk_buff.dev.alias != "uplink"': '__builtin_strcmp(d->alias, "uplink")',
    'sk_buff.dev.alias == "uplink is longer"': "0",
    'sk_buff.dev.alias != "uplink is longer"': "1",
    'sk_buff.dev.alias == "up"': "0",
    'sk_buff.dev.ifalias.ifalias == "to the provider"': '!__builtin_strcmp(d->ifalias->ifalias, "to the provider")',
    'sk_buff.dev.ifalias.ifalias == "to"': '!__builtin_strcmp(d->ifalias->ifalias, "to")',
    'sk_buff.dev.ifalias.ifalias != "to the provider of"': "1",
    'sk_buff.dev.label == "six.."': '!__builtin_strcmp(d->label, "six..")',
    'sk_buff.dev.label == "six..."': "0",
    'sk_buff.dev.label != "six...."': "1",
    'sk_buff.dev.label == "six...."': "0",
    'sk_buff.dev.long_name == "a name of more than thirty-two "': "0",
    'sk_buff.dev.long_name == "a name"': '!__builtin_strcmp(d->long_name, "a name")',
    "sk_buff.dev.nd_net.net.ns.inum == 4026531840": "d->nd_net.net->ns.inum == 4026531840U",
    "sk_buff.dev.nd_net.net.ns.inum == 1": "d->nd_net.net->ns.inum == 1",
    "sk_buff.dev.mtu < 0": "d->mtu < 0",
    "sk_buff.dev.mtu == -5": "d->mtu == -5",
    "sk_buff.dev.mtu > 5": "d->mtu > 5",
    "sk_buff.dev.state == UP": "d->state == UP",
    "sk_buff.dev.state == DOWN": "d->state == DOWN",
    "sk_buff.dev.state > BROKEN": "d->state > BROKEN",
    "sk_buff.mark == 0xabcd": "s->mark == 0xabcd",
    "sk_buff.mark == 0b1010101111001101": "s->mark == 0xabcd",
    "sk_buff.mark": "s->mark != 0",
    "sk_buff.mark:0xff == 0xcd": "(s->mark & 0xff) == 0xcd",
    "sk_buff.mark:~0xff == 0xab00": "(s->mark & ~0xffU) == 0xab00",
    "sk_buff.mark <= 43981": "s->mark <= 43981",
    "sk_buff.mark <= 43980": "s->mark <= 43980",
    "sk_buff.mark >= 43982": "s->mark >= 43982",
    "sk_buff.mark < 43982": "s->mark < 43982",
    "sk_buff.mark != 43981": "s->mark != 43981",
    "sk_buff.mark == 0x1000000000": "0",
    "sk_buff.ifi == 12": "s->ifi == 12",
    "sk_buff.pkt_type == 5": "s->pkt_type == 5",
    "sk_buff.pkt_type:~0b10": "(s->pkt_type & ~2) != 0",
    "sk_buff.pkt_type:0b10": "(s->pkt_type & 2) != 0",
    "sk_buff.cloned": "s->cloned",
    "sk_buff.l4_hash": "s->l4_hash",
    "sk_buff.delta == -7": "s->delta == -7",
    "sk_buff.delta < -7": "s->delta < -7",
    "sk_buff.wide == 0x3fffffff": "s->wide == 0x3fffffff",
    "sk_buff.skb_iif == -1": "s->skb_iif == -1",
    "sk_buff.one == 255": "s->one == 255",
    "sk_buff.both:0xffff00000000 == 0xc00000000": "(s->both & 0xffff00000000ULL) == 0xc00000000ULL",
    "sk_buff._nfct:0x7 == 2": "(s->_nfct & 7) == 2",
    "sk_buff._nfct:~0x7:nf_conn.mark == 77": "c->mark == 77",
    "sk_buff._nfct:~0x7:nf_conn_t.mark > 77": "c->mark > 77",
    "sk_buff._nfct:~0x7:nf_conn.proto.tcp.state == 0x3": "c->proto.tcp.state == 3",
    "sk_buff.dev:~0x0.mtu == -5": "d->mtu == -5",
    "(sk_buff.dev.name == 'lo' or sk_buff.mark > 0) and sk_buff.l4_hash": "0",
    "sk_buff.mark == 1 or sk_buff.cloned and sk_buff.l4_hash": "(s->mark == 1 || s->cloned) && s->l4_hash",
    "sk_buff.cloned or sk_buff.cloned and sk_buff.l4_hash": "(s->cloned || s->cloned) && s->l4_hash",
    "sk_buff.cloned || (sk_buff.cloned && sk_buff.l4_hash)": "s->cloned || (s->cloned && s->l4_hash)",
    "sk_buff.l4_hash or (sk_buff.cloned and (sk_buff.l4_hash or sk_buff.mark == 0xabcd))": "1",
    "sk_buff.cloned and (sk_buff.cloned and (sk_buff.l4_hash or sk_buff.mark == 1))": "0",
    "(sk_buff.l4_hash or sk_buff.cloned) and (sk_buff.cloned or sk_buff.l4_hash) and sk_buff.mark": "1",
    "sk_buff.l4_hash and sk_buff.cloned or sk_buff.cloned": "1",
    "((sk_buff.l4_hash)) or (((sk_buff.cloned)))": "1",
    # what was read for one term serves the next, unless the way there is another one
    "sk_buff.dev.mtu == -5 and sk_buff.dev.state == UP and sk_buff.mark == 0xabcd and sk_buff.dev.mtu < 0": "1",
    "sk_buff.dev.nd_net.net.cookie == 9 and sk_buff.dev.name == 'eth0' and sk_buff.dev.name != 'eth1'": "1",
    "sk_buff.dev.nd_net.net.cookie == 8 or sk_buff.dev.nd_net.net.ns.inum == 4026531840": "1",
    "sk_buff.lost.mtu or sk_buff.dev.mtu or sk_buff.lost.mtu": "1",
    "sk_buff.lost.mtu != 1 or sk_buff.lost.name != 'x' or sk_buff.lost.nd_net.net.cookie < 7": "0",
    "sk_buff.skb_iif == -9223372036854775808": "0",
    "sk_buff.skb_iif > -9223372036854775808": "1",
    "sk_buff.skb_iif == 0xffffffffffffffff": "0",
    "sk_buff.skb_iif != 0xffffffffffffffff": "1",
    "sk_buff.skb_iif < 0x8000000000000000": "1",
    "sk_buff.skb_iif >= 0x8000000000000000": "0",
    "sk_buff.skb_iif <= 9223372036854775807": "1",
    "sk_buff.skb_iif == 4294967295": "0",
    "sk_buff.both >= 0x0000000c0000abcd and sk_buff.both <= 0x0000000c0000abcd": "1",
    "sk_buff.big == 0xffffffffffffffff": "1",
    "sk_buff.big > 0xfffffffffffffffe and sk_buff.big >= 1 and sk_buff.low < -1 and sk_buff.low <= 0": "1",
    "sk_buff.low == -9223372036854775808": "1",
    "sk_buff.low < -9223372036854775807": "1",
    "sk_buff.low > 0 or sk_buff.low >= -9223372036854775807 or sk_buff.big < 5 or sk_buff.big <= 5": "0",
    "\tsk_buff.cloned==1&&sk_buff.mark>0 ": "s->cloned == 1 && s->mark > 0",
}
REFUSED = {
    "dev.mark == 1": ("a term begins with sk_buff", 1),
    "skb.mark": ("a term begins with sk_buff", 1),
    "sk_bufff.mark": ("a term begins with sk_buff", 1),
    "sk_buff.mark and (skb.mark)": ("a term begins with sk_buff", 19),
    "()": ("syntax error", 2),
    "sk_buff.mark)": ("syntax error", 13),
    "sk_buff.mark == == 1": ("syntax error", 17),
    'sk_buff.dev.name == ""': ("a string has at least one character", 21),
    "sk_buff.dev.name == ''": ("a string has at least one character", 21),
    'sk_buff.dev.name == "eth0': ("the string does not end", 21),
    "sk_buff.cloned and sk_buff.dev.name == 'eth0": ("the string does not end", 40),
    "sk_buff.mark == 0b2": ("0b2 is not a number", 17),
    "sk_buff.mark == 0X10": ("0X10 is not a number", 17),
    "sk_buff.mark == 0xfg": ("0xfg is not a number", 17),
    "sk_buff.mark:0b2": ("0b2 is not a number", 14),
    "sk_buff.mark == 10k or sk_buff.cloned": ("10k is not a number", 17),
    "sk_buff.mark:0x10000000000000001 == 1": ("wider than 64 bits", 14),
    "sk_buff.skb_iif == -9223372036854775809": ("wider than 64 bits", 20),
    "sk_buff.table == 'x'": ("array of arrays are not supported.", 9),
    "sk_buff": ("unexpected end", 8),
    "sk_buff.mark ==": ("unexpected end", 16),
    "sk_buff.mark == 1 xor sk_buff.mark": ("syntax error", 19),
    "sk_buff.mark = 1": ("unexpected character '='", 14),
    "(sk_buff.mark == 1": ("unexpected end", 19),
    "sk_buff.mrk": ("field mrk not found in type sk_buff", 9),
    "sk_buff.dev.nam": ("field nam not found in type net_device", 13),
    "sk_buff.dev == 0xbad": ("pointers to struct net_device are not supported.", 9),
    "sk_buff.opaque == 1": ("pointers to void are not supported.", 9),
    "sk_buff.words == 1": ("array of unsigned int are not supported.", 9),
    "sk_buff.users == 1": ("found unsupported type while emitting operation", 9),
    "sk_buff.dev.name == dummy0": ("Only strings are supported.", 21),
    "sk_buff.dev.name == 5": ("Only strings are supported.", 21),
    'sk_buff.dev.name > "a"': ("Only '==' and '!=' are supported for strings.", 13),
    "sk_buff.dev.name": ("Only '==' and '!=' are supported for strings.", 13),
    'sk_buff.dev.name:0xf == "a"': ("mask is only supported for", 13),
    f'sk_buff.dev.long_name == "{"x" * 32}"': ("invalid rval size (max 31)", 26),
    'sk_buff.mark == "1"': ("cannot compare string with number", 17),
    "sk_buff.mark == -1": ("value is signed while type is unsigned", 17),
    "sk_buff.mark:0x0": ("mask must be greater than 0", 14),
    "sk_buff.mark:~0xffffffffffffffff": ("mask must be greater than 0", 14),
    "sk_buff.skb_iif:0xbad": ("mask is only supported for", 9),
    "sk_buff.users:~0x0:nf_conn.mark": ("can be cast", 9),
    "sk_buff._nfct:~0x0:u32.mark": ("Could not resolve u32 to a struct or typedef", 20),
    "sk_buff._nfct:~0x0:nf_conn_p.mark": ("cannot be an alias to a pointer", 20),
    "sk_buff._nfct.mark": ("unexpected non-walkable type", 9),
    "sk_buff._nfct:~0x0:nf_conn": ("trying to cast a leaf member into nf_conn", 9),
    "sk_buff.twice.mtu": ("pointers of pointers are not supported", 9),
    "sk_buff.users:0x1.counter": ("intermediate members masking is only supported", 9),
    "sk_buff.dev.state == UPP": ("neither a number nor a value of the member's enum", 22),
    "sk_buff.mark == 0x10000000000000000": ("wider than 64 bits", 17),
}


@pytest.fixture(scope="module")
def types(tmp_path_factory: pytest.TempPathFactory) -> KernelTypes:
    folder = tmp_path_factory.mktemp("types")
    command = [CLANG, "-w", "-g", "-target", "bpf", "-c", "-x", "c", "-", "-o", folder / "vmlinux"]
    subprocess.run(command, input=SOURCE, text=True, check=True)
    return KernelTypes(folder)


def test_generated_condition_is_the_one_written_in_c(types: KernelTypes, tmp_path: Path) -> None:
    parts = [SOURCE, MEMORY]
    calls = []
    for number, (expression, condition) in enumerate(AGREE.items()):
        text = meta_filter(expression, types)
        parts.append(text.replace("meta_", f"ours_{number}_"))
        calls.append(f'__builtin_printf("%d %d\\n", !!ours_{number}_matches(s), !!({condition}));')
    body = "\n".join(calls)
    parts.append(
        "int main() { struct sk_buff *s = &skb_; struct net_device *d = s->dev; struct nf_conn *c = &ct;"
        f"s->_nfct = (u64)c | 2; {body} return 0; }}"
    )
    (tmp_path / "agree.c").write_text("\n".join(parts))
    subprocess.run([CLANG, "-w", "-O1", "-o", tmp_path / "agree", tmp_path / "agree.c"], check=True)
    lines = subprocess.run([tmp_path / "agree"], capture_output=True, text=True, check=True).stdout.splitlines()
    results = {expression: line.split() for expression, line in zip(AGREE, lines)}
    assert {e: ours for e, (ours, _) in results.items()} == {e: due for e, (_, due) in results.items()}
    assert {due for _, due in results.values()} == {"0", "1"}


@pytest.mark.parametrize("expression", REFUSED)
def test_mistake_is_told_with_its_column(types: KernelTypes, expression: str) -> None:
    message, column = REFUSED[expression]
    with pytest.raises(FilterError) as error:
        meta_filter(expression, types)
    first, quoted, caret = str(error.value).split("\n")
    assert message in first
    assert quoted == f"  {expression}"
    assert caret == f"  {' ' * (column - 1)}^ column {column}"


def test_bytes_of_a_string_become_words_in_either_order() -> None:
    assert words(b"abcdefgh\0", "little") == [(0x6867666564636261, (1 << 64) - 1), (0, 0xFF)]
    assert words(b"abcdefghi", "big") == [(0x6162636465666768, (1 << 64) - 1), (0x69 << 56, 0xFF << 56)]


def test_filter_beyond_all_measure_is_refused_with_its_size(types: KernelTypes) -> None:
    with pytest.raises(FilterError, match="too complex: 513 comparisons, at most 512"):
        meta_filter(" or ".join(f"sk_buff.mark == {number}" for number in range(513)), types)


@pytest.mark.parametrize(
    ("expression", "hint"),
    [
        ("sk_buff.mrk", "did you mean mark?"),
        ("sk_buff.dev.naem", "did you mean name?"),
        ("sk_buff.dev.state == UPP", "did you mean UP?"),
        ("sk_buff._nfct:~0x7:nf_con.mark", "did you mean nf_conn?"),
        ("sk_buff._nfct:~0x7:nf_conn_q.mark", "did you mean nf_conn_t?"),
        ("sk_buff._nfct:~0x7:u32.mark", "u32 is neither a struct nor a union"),
        ("sk_buff.mark = 1", "did you mean ==?"),
        ("dev.mark", "for instance sk_buff.mark == 1"),
        ("(sk_buff.mark == 1", "a ) is missing"),
        ("sk_buff.mark sk_buff.len", "terms are joined by and, or"),
    ],
)
def test_way_out_is_suggested(types: KernelTypes, expression: str, hint: str) -> None:
    with pytest.raises(FilterError) as error:
        meta_filter(expression, types)
    assert error.value.hint == hint


@pytest.mark.parametrize(
    ("expression", "message", "column"),
    [
        ('sk_buff.dev.name == "\udcff"', "not valid UTF-8", 22),
        ("\udcff", "not valid UTF-8", 1),
        ("sk_buff.mark == " + "9" * 5000, "wider than 64 bits", 17),
        ("sk_buff.mark:0x" + "f" * 5000, "wider than 64 bits", 14),
        ("(" * 600 + "sk_buff.mark" + ")" * 600, "nested more than 64 deep", 66),
        ("sk_buff.mark or (" * 66 + "sk_buff.mark" + ")" * 66, "nested more than 64 deep", 65 * 17 + 1),
    ],
    ids=["bytes in a string", "bytes", "digits", "mask", "parentheses", "parentheses on the right"],
)
def test_filter_beyond_all_reason_is_refused(types: KernelTypes, expression: str, message: str, column: int) -> None:
    with pytest.raises(FilterError, match=message) as error:
        meta_filter(expression, types)
    _, quoted, caret = str(error.value).split("\n")
    assert len(quoted) < 200 and caret.endswith(f" ^ column {column}")
    assert quoted[caret.index("^")] == expression[column - 1].replace("\udcff", "?")


def test_zeros_in_front_do_not_make_a_number_wide(types: KernelTypes) -> None:
    assert meta_filter("sk_buff.mark == " + "0" * 5000 + "7", types) == meta_filter("sk_buff.mark == 7", types)


def test_unreadable_memory_does_not_match(types: KernelTypes, tmp_path: Path) -> None:
    text = meta_filter("sk_buff.dev.mtu == 0 or sk_buff.dev.name != 'x'", types)
    main = "int main() { skb_.dev = 0; return meta_matches(&skb_); }"
    (tmp_path / "null.c").write_text("\n".join([SOURCE, MEMORY, text, main]))
    subprocess.run([CLANG, "-w", "-o", tmp_path / "null", tmp_path / "null.c"], check=True)
    assert subprocess.run([tmp_path / "null"]).returncode == 0
