"""Whatever a partner's manners, an answer that arrived is taken, and what is lost is told from what
was never sent.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest
import uvloop

from tests.support.zoo import Certificates, Manner, visit
from tests.support.zoo_client import OurClient
from tests.support.zoo_manners import manners
from tests.support.zoo_tls import issue

SLACK_SECONDS = 10.0
"""By which a deadline may be missed on a machine that stands still; `bench.clients` measures it."""

LOOPS = {"uvloop": uvloop.new_event_loop, "asyncio": asyncio.new_event_loop}
"""Workers use uvloop where it exists; the two treat the end of a connection in ways of their own.
"""


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return issue(tmp_path_factory.mktemp("zoo"))


@pytest.mark.parametrize("loop_factory", LOOPS.values(), ids=LOOPS)
@pytest.mark.parametrize("manner", tuple(manners()), ids=lambda manner: manner.name)
def test_a_partner_of_any_manner_gets_its_verdict(
    manner: Manner,
    loop_factory: Callable[[], asyncio.AbstractEventLoop],
    certificates: Certificates,
) -> None:
    with asyncio.Runner(loop_factory=loop_factory) as runner:
        assert runner.run(visit(manner, certificates, OurClient, SLACK_SECONDS)) == []
