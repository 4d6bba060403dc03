"""THE list of collectors; what depends on which collectors there are is derived from it.

`Event` is the type of one line of an event file: an attribute per section, all optional. Importing this
package needs neither a kernel nor bcc.
"""

from __future__ import annotations

from typing import Any

from retis_py.collectors.base import Collector
from retis_py.collectors.ct import Ct
from retis_py.collectors.dev import Dev
from retis_py.collectors.nft import Nft
from retis_py.collectors.ns import Ns
from retis_py.collectors.ovs import Ovs
from retis_py.collectors.skb import Skb
from retis_py.collectors.skb_drop import SkbDrop
from retis_py.collectors.skb_tracking import SkbTracking
from retis_py.events.event import make_event_type

__all__ = ["COLLECTORS", "Collector", "Event"]

#: in hook order
COLLECTORS: tuple[type[Collector], ...] = (SkbTracking, Skb, SkbDrop, Ovs, Nft, Ct, Dev, Ns)

Event: Any = make_event_type(section for collector in COLLECTORS for section in collector.sections)
