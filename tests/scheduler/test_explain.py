"""What a refusal says: kube-scheduler's sentence first, then the numbers."""

from sampan.scheduler.demand import ZONE
from sampan.scheduler.explain import LONGEST
from sampan.scheduler.rules import Cure
from tests.scheduler.support import Cluster, apart, beside, node, pod, spread

WEB = {"app": "web"}


def test_the_first_sentence_counts_nodes_by_reason() -> None:
    cluster = Cluster(
        node("n1", cpu="1"),
        node("n2", taints=("gpu=yes:NoSchedule",)),
        node("n3", taints=("gpu=yes:NoSchedule",)),
    )
    assert str(cluster.why(pod(cpu="2"))) == (
        "0/3 nodes are available: 1 Insufficient cpu, "
        "2 node(s) had untolerated taint {gpu: yes}. "
        "n1: needs 2 CPU, 1 free; n2: no toleration of gpu=yes:NoSchedule; "
        "n3: no toleration of gpu=yes:NoSchedule."
    )


def test_a_lack_of_memory_names_what_is_needed_and_what_is_free() -> None:
    cluster = Cluster(node("node-2", memory="2Gi"))
    cluster.bind(pod(memory="614Mi"), "node-2")
    assert str(cluster.why(pod(memory="2Gi"))) == (
        "0/1 nodes are available: 1 Insufficient memory. node-2: needs 2 GiB memory, 1.4 GiB free."
    )


def test_a_node_may_lack_more_than_one_thing() -> None:
    cluster = Cluster(node("n1", cpu="1", memory="1Gi", pods="0"))
    assert str(cluster.why(pod(cpu="1500m", memory="2Gi"))) == (
        "0/1 nodes are available: 1 Insufficient cpu, 1 Insufficient memory, 1 Too many pods. "
        "n1: needs 1.5 CPU, 1 free and needs 2 GiB memory, 1 GiB free and "
        "runs 0 of at most 0 Pods."
    )


def test_an_unknown_resource_is_lacking_everywhere() -> None:
    cluster = Cluster(node("n1"))
    gpu = {"name": "c", "resources": {"requests": {"example.com/gpu": "2"}}}
    assert str(cluster.why(pod(containers=[gpu]))) == (
        "0/1 nodes are available: 1 Insufficient example.com/gpu. "
        "n1: needs 2 example.com/gpu, 0 free."
    )


def test_a_selector_names_the_label_that_is_wrong() -> None:
    cluster = Cluster(node("n1", {"disk": "hdd"}), node("n2"))
    assert str(cluster.why(pod(nodeSelector={"disk": "ssd"}))) == (
        "0/2 nodes are available: 2 node(s) didn't match Pod's node affinity/selector. "
        "n1: needs label disk=ssd, which is hdd; n2: needs label disk=ssd, which is not set."
    )


def test_neighbours_are_named_by_domain_and_number() -> None:
    cluster = Cluster(node("n1", zone="a"), node("n2", zone="b", cpu="1"))
    cluster.bind(pod(labels=WEB, cpu="1"), "n1")
    wanted = pod(labels=WEB, cpu="500m", topologySpreadConstraints=[spread(WEB)])
    cluster.bind(pod(cpu="1"), "n2")
    assert str(cluster.why(wanted)) == (
        "0/2 nodes are available: 1 Insufficient cpu, "
        "1 node(s) didn't match pod topology spread constraints. "
        f"n1: {ZONE}=a has 1 of these Pods and the emptiest has 0, maxSkew is 1; "
        "n2: needs 0.5 CPU, 0 free."
    )
    assert "kubernetes.io/hostname=n1 has 1 Pod(s) that its anti-affinity means" in str(
        cluster.why(pod(affinity=apart(WEB)))
    )
    assert "has no Pod that its affinity means" in str(
        cluster.why(pod(affinity=beside({"app": "none"})))
    )


def test_without_nodes_that_is_the_reason() -> None:
    why = Cluster().why(pod())
    assert str(why) == "no nodes available to schedule pods."
    assert why.cures == {Cure.NODE}


def test_a_cordoned_node_and_a_taken_port_say_so() -> None:
    web = {"name": "c", "ports": [{"containerPort": 80, "hostPort": 80}]}
    cluster = Cluster(node("n1", unschedulable=True), node("n2"))
    cluster.bind(pod(containers=[web]), "n2")
    assert str(cluster.why(pod(containers=[web]))) == (
        "0/2 nodes are available: 1 node(s) didn't have free ports for the requested pod ports, "
        "1 node(s) were unschedulable. "
        "n2: host port 80/TCP is taken; n1: cordoned (kubectl uncordon lets Pods in again)."
    )


def test_it_is_said_why_nobody_is_evicted() -> None:
    cluster = Cluster(node("n1", cpu="1"), node("n2", taints=("gpu:NoSchedule",)))
    cluster.bind(pod(cpu="1"), "n1")
    assert str(cluster.why(pod(cpu="2", priority=10))).endswith(
        "preemption: 0/2 nodes are available: 1 No preemption victims found for incoming pod, "
        "1 Preemption is not helpful for scheduling."
    )
    never = str(cluster.why(pod(cpu="1", priority=10, preemptionPolicy="Never")))
    assert never.endswith("preemption: not eligible due to preemptionPolicy=Never.")
    assert "preemption" not in str(cluster.why(pod(cpu="1")))


def test_an_explanation_of_a_large_cluster_is_short() -> None:
    cluster = Cluster(
        *(
            node(f"node-with-quite-a-long-name-{i}", taints=(f"t{i}:NoSchedule",))
            for i in range(200)
        )
    )
    assert len(str(cluster.why(pod()))) <= LONGEST
    many = Cluster(*(node(f"n{i}", cpu="1") for i in range(200)))
    assert str(many.why(pod(cpu="2"))).endswith("and 197 more.")


def test_only_what_can_help_is_a_cure() -> None:
    full = Cluster(node("n1", cpu="1"))
    assert full.why(pod(cpu="2")).cures == {Cure.NODE, Cure.POD_GONE}
    assert full.why(pod(nodeSelector={"a": "b"})).cures == {Cure.NODE}
    assert Cure.POD_CAME in full.why(pod(affinity=beside(WEB))).cures
