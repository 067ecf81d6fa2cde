"""What every test shares: how hypothesis looks for counterexamples.

No test is timed, since machines are shared. In CI the examples are the same each time, so that a
landing does not depend on luck; everywhere else new ones are tried.
"""

import os

from hypothesis import HealthCheck, settings

_SLOW = [HealthCheck.too_slow]
settings.register_profile("ci", deadline=None, derandomize=True, suppress_health_check=_SLOW)
settings.register_profile("here", deadline=None, suppress_health_check=_SLOW)
settings.load_profile("ci" if os.environ.get("CI") else "here")
