"""The combiner's rules: contributions, edit policy, updates and the rebuilding of the zone; pure functions."""

from mpcore.combiner.contributions import Contribution, Contributions
from mpcore.combiner.policy import CombinerPolicy
from mpcore.combiner.rebuild import Rebuilt, rebuild, status_updates
from mpcore.combiner.update import UpdateResult, handle_update, refuse_update

__all__ = (
    "CombinerPolicy",
    "Contribution",
    "Contributions",
    "Rebuilt",
    "UpdateResult",
    "handle_update",
    "rebuild",
    "refuse_update",
    "status_updates",
)
