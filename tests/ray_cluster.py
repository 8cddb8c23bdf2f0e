"""A Ray cluster of several nodes on this machine, in a process of its own.

``python ray_cluster.py CPUS:GPUS ...`` starts a head without room and a node for each argument, and prints its address.
Then it obeys lines on standard input: ``kill N`` ends a node at once, ``add CPUS:GPUS`` adds one; each is confirmed by
a line. The end of standard input ends the cluster.
"""

import sys

from ray.cluster_utils import Cluster


def main() -> None:
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})

    def add(size: str) -> object:
        cpus, gpus = size.split(":")
        return cluster.add_node(num_cpus=int(cpus), num_gpus=int(gpus))

    nodes = [add(size) for size in sys.argv[1:]]
    cluster.wait_for_nodes()
    print(f"address {cluster.address}", flush=True)
    for line in sys.stdin:
        command, argument = line.split()
        if command == "kill":
            cluster.remove_node(nodes[int(argument)], allow_graceful=False)
        else:
            nodes.append(add(argument))
        print(f"done {line.strip()}", flush=True)
    cluster.shutdown()


if __name__ == "__main__":
    main()
