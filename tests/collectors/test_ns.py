"""ns: the network namespace a packet was in."""

from retis_py.collectors.ns import NetnsSection, Ns
from retis_py.events.section import PLAIN
from tests.support.kernels import FakeKernel


def _maker(kernel: FakeKernel):
    collector = Ns()
    collector.setup(kernel, {})
    return collector.defines(), collector.maker("netns", ("ns",))


def test_namespace_has_a_cookie_and_an_inode() -> None:
    defines, make = _maker(FakeKernel())
    assert defines == {"HAVE_NET_COOKIE": 1}
    assert make(0x1003, 4026532177) == NetnsSection(cookie=0x1003, inum=4026532177)
    assert make(0x1003, 4026532177).text(PLAIN) == "ns 0x1003/4026532177"


def test_kernel_without_cookies_reports_the_inode_alone() -> None:
    defines, make = _maker(FakeKernel(missing=("net.net_cookie",)))
    assert defines == {"HAVE_NET_COOKIE": 0}
    assert make(0, 4026531840).text(PLAIN) == "ns 4026531840"
