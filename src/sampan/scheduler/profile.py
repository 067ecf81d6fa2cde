"""The rules in force, in order: a node is charged to the first filter that refuses it.

What a rule's answer depends on says how long the answer lasts: *standing* rules read what a node
is, *room* rules what is left of it, *company* rules who else is near.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from typing import Final

from sampan.scheduler import company, room, standing
from sampan.scheduler.demand import Demand
from sampan.scheduler.policies import POLICIES, SPREAD, Policy
from sampan.scheduler.rules import Cure, Filter, Rules, Score

DEFAULT_NAME: Final = "default-scheduler"


@dataclass(frozen=True)
class Profile:
    """*standing*, *room* and *company* are for every policy; the *policy* adds its scores."""

    standing: Rules
    room: Rules
    company: Rules
    policy: Policy
    own_filters: tuple[Filter, ...] = ()
    """A user's own; asked for every Pod."""
    own_scores: tuple[Score, ...] = ()

    @cached_property
    def filters(self) -> tuple[Filter, ...]:
        return (*self.standing.filters, *self.room.filters, *self.each_filters)

    @cached_property
    def each_filters(self) -> tuple[Filter, ...]:
        return (*self.company.filters, *self.own_filters)

    @cached_property
    def standing_scores(self) -> tuple[Score, ...]:
        return (*self.standing.scores, *self.policy.standing)

    @cached_property
    def room_scores(self) -> tuple[Score, ...]:
        return (*self.room.scores, *self.policy.room)

    @cached_property
    def each_scores(self) -> tuple[Score, ...]:
        return (*self.company.scores, *self.policy.each, *self.own_scores)

    @cached_property
    def asked_each_time(self) -> bool:
        """Whether some score has a say about every Pod, even one without any neighbours."""
        return bool(self.policy.each or self.own_scores)


Profiles = Mapping[str, Profile]
"""By the name that a Pod's `schedulerName` gives."""


def profile_for(demand: Demand, profiles: Profiles) -> Profile:
    """Return the profile of *demand*'s scheduler, with the policy that the Pod itself names."""
    profile = profiles.get(demand.scheduler) or next(iter(profiles.values()))
    policy = POLICIES.get(demand.placement)
    return _with(profile, policy) if policy else profile


@lru_cache(maxsize=64)
def _with(profile: Profile, policy: Policy) -> Profile:
    return replace(profile, policy=policy)


def profiles(default: Profile | None = None) -> Profiles:
    """Return the profiles of a server: the default one, and one a policy as `sampan-WORD`."""
    default = default or DEFAULT
    others = {f"sampan-{word}": _with(default, policy) for word, policy in POLICIES.items()}
    return {DEFAULT_NAME: default, **others}


def with_policy(word: str) -> Profile:
    """Return the default rules with another policy; raise KeyError if there is none of the name."""
    return _with(DEFAULT, POLICIES[word])


def with_own(profile: Profile, filters: Iterable[Filter], scores: Iterable[Score]) -> Profile:
    return replace(profile, own_filters=tuple(filters), own_scores=tuple(scores))


_ROOM: Final = frozenset({Cure.NODE, Cure.POD_GONE})
_CLAIM: Final = frozenset({Cure.NODE, Cure.VOLUME})
_SKEW: Final = _ROOM | {Cure.POD_CAME}

DEFAULT: Final = Profile(
    standing=Rules(
        filters=(
            Filter("NodeUnschedulable", standing.cordoned, standing.cordoned_detail),
            Filter("TaintToleration", standing.tainted, standing.tainted_detail),
            Filter("NodeAffinity", standing.unselected, standing.unselected_detail),
            Filter("VolumeBinding", standing.out_of_reach, standing.out_of_reach_detail, _CLAIM),
        ),
        scores=(
            Score("TaintToleration", 3, standing.few_taints),
            Score("NodeAffinity", 2, standing.preferred),
        ),
    ),
    room=Rules(
        filters=(
            Filter("NodePorts", room.port_taken, room.port_taken_detail, _ROOM),
            Filter("NodeResourcesFit", room.too_little, room.too_little_detail, _ROOM),
            Filter("NodeDevices", room.no_device, room.no_device_detail, _ROOM),
            Filter("NodeVolumeLimits", room.too_many_volumes, room.too_many_volumes_detail, _ROOM),
        ),
    ),
    company=Rules(
        filters=(
            Filter("PodTopologySpread", company.crowded, company.crowded_detail, _SKEW),
            Filter(
                "InterPodAffinity",
                company.unwelcome,
                company.unwelcome_detail,
                _SKEW | {Cure.NAMESPACE},
            ),
        ),
        scores=(
            Score("PodTopologySpread", 2, company.evenly),
            Score("InterPodAffinity", 2, company.in_company),
        ),
    ),
    policy=POLICIES[SPREAD],
)
"""Names and weights are kube-scheduler's."""
