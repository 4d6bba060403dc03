"""Names of ethertypes and IP protocols."""

from __future__ import annotations

__all__ = ["ETHERTYPES", "PROTOCOLS", "TRUNCATED", "ethertype_text", "protocol_text", "unsupported"]

ETHERTYPES = {
    0x0800: "IPv4",
    0x0806: "ARP",
    0x6558: "TEB",
    0x8035: "Reverse ARP",
    0x809B: "Appletalk",
    0x80F3: "Appletalk ARP",
    0x8100: "802.1Q",
    0x86DD: "IPv6",
    0x880B: "PPP",
    0x8847: "MPLS unicast",
    0x8848: "MPLS multicast",
    0x8863: "PPPoE D",
    0x8864: "PPPoE S",
    0x888E: "EAPOL",
    0x88A8: "802.1Q-QinQ",
    0x88E5: "802.1AE MACsec",
    0x88F7: "PTP",
    0x9100: "802.1Q-9100",
}

PROTOCOLS = {
    1: "ICMP",
    2: "IGMP",
    4: "IPIP",
    6: "TCP",
    17: "UDP",
    27: "RDP",
    33: "DCCP",
    41: "IPv6",
    47: "GRE",
    50: "ESP",
    51: "AH",
    58: "ICMPv6",
    89: "OSPF",
    112: "VRRP",
    115: "L2TP",
    132: "SCTP",
    143: "Ethernet",
}


def ethertype_text(ethertype: int, word: str = "ethertype") -> str:
    """``ethertype IPv4 (0x0800)``, without the name where there is none."""
    name = ETHERTYPES.get(ethertype)
    return f"{word} (0x{ethertype:04x})" if name is None else f"{word} {name} (0x{ethertype:04x})"


def protocol_text(protocol: int) -> str:
    """``proto TCP (6)``, without the name where there is none."""
    name = PROTOCOLS.get(protocol)
    return f"proto ({protocol})" if name is None else f"proto {name} ({protocol})"

#: ends a text whose packet ends too early
TRUNCATED = "... (truncated or incomplete packet)"


def unsupported(what: str) -> str:
    """Ends a text where *what* cannot be decoded."""
    return f"... ({what} not supported, use 'retis pcap')"
