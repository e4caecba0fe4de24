"""The edges that the conformance kit is run against: a new adapter is one line here (docs/adding-an-edge.md)."""

from __future__ import annotations

import pytest

from tests.conformance.cloud_edges import cxone, genesys
from tests.conformance.haproxy_edges import haproxy
from tests.conformance.kamailio_edges import kamailio

EDGES = [
    pytest.param(genesys, id="genesys"),
    pytest.param(cxone, id="cxone"),
    pytest.param(haproxy, id="haproxy", marks=pytest.mark.sip),
    pytest.param(kamailio, id="kamailio", marks=pytest.mark.sip),
]
