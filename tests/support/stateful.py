"""A state machine of hypothesis, run at random: a few examples always the same, or many that are
new each time.
"""

from __future__ import annotations

import os
from collections.abc import Callable

from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import RuleBasedStateMachine, run_state_machine_as_test

_WANTED = os.environ.get("ROWRELAY_EXAMPLES")
LONG = _WANTED is not None and int(_WANTED) > 100
"""Whether a long run was asked for: new examples each time, and a failure is reduced to a short
one.
"""


def run_at_random(machine: Callable[[], RuleBasedStateMachine], examples: int, steps: int) -> None:
    """Run `examples` of it (or as many as `ROWRELAY_EXAMPLES` says), of up to `steps` steps."""
    run_state_machine_as_test(
        machine,  # type: ignore[arg-type]  # any factory will do; hypothesis names the class only
        _min_steps=steps - 10,
        settings=settings(
            max_examples=int(_WANTED or examples),
            stateful_step_count=steps,
            deadline=None,
            derandomize=not LONG,
            phases=[Phase.generate, Phase.shrink] if LONG else [Phase.generate],
            suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
        ),
    )
