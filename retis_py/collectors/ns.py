"""ns: the network namespace a packet was in.  BPF side: bpf/collectors/ns.bpf.c"""

from collections.abc import Callable, Mapping
from typing import Any, ClassVar, Optional

from retis_py.collectors.base import Collector, Kernel
from retis_py.events.raw import Raw, pad, u32, u64
from retis_py.events.section import U32, U64, Section, Style

__all__ = ["NetnsSection", "Ns"]


class NsRaw(Raw):
    """Of struct net: `net_cookie`, 0 where it does not exist, and `ns.inum`."""

    _fields_ = [("cookie", u64), ("inum", u32), ("_pad", pad * 4)]


class NetnsSection(Section, kw_only=True):
    """Network namespace: *cookie* is net->net_cookie where the kernel has it, *inum* the inode number."""

    key: ClassVar[str] = "netns"
    #: unlike *inum*, never used again
    cookie: Optional[U64] = None
    #: inode number, as in ``ls -l /proc/PID/ns/net``
    inum: U32

    def text(self, style: Style) -> str:
        return f"ns {self.inum}" if self.cookie is None else f"ns {self.cookie:#x}/{self.inum}"


class Ns(Collector):
    """Reports the network namespace."""

    name = "ns"
    sections = (NetnsSection,)
    layouts = {"netns": {"ns": NsRaw}}
    reads = ("struct net *", "struct sk_buff *", "struct net_device *")
    members = {
        "sk_buff": ("dev", "sk"),
        "net": ("net_cookie", "ns.inum"),
        "net_device": ("nd_net.net",),
        "sock": ("__sk_common.skc_net.net",),
    }
    hooks = ("ns",)

    def setup(self, kernel: Kernel, options: Mapping[str, Any]) -> None:
        # Linux commit 3d368ab87cf6 ("net: initialize net->net_cookie at netns setup") (in v5.12) made the cookie
        # a plain member.
        self._defines = {"HAVE_NET_COOKIE": int(kernel.types.vmlinux.has_member("net", "net_cookie"))}

    def maker(self, section: str, parts: tuple[str, ...]) -> Callable[..., Any]:
        if self._defines["HAVE_NET_COOKIE"]:
            return lambda cookie, inum: NetnsSection(cookie=cookie, inum=inum)
        return lambda cookie, inum: NetnsSection(inum=inum)
