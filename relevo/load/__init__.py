"""The load of a rollout on a cluster: Locust's master and workers as workloads that the Rollout owns.

`workloads` says what they are, `generator` brings them up and steers them; what runs in them is `loadtests/`.
"""

from relevo.load.generator import KubernetesLoad, NoLoad
from relevo.load.workloads import Workload, load_name

__all__ = ["KubernetesLoad", "NoLoad", "Workload", "load_name"]
