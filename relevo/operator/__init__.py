"""The operator: carries every Rollout of a cluster by the same `relevo.reconcile.tick` as the command line does on one machine.

`program` puts it together and `watch` hears of Rollouts (kopf). `agenda` says which is due, a `steward` carries one of them, `keeper` holds
its state in the resource's status, in the words of `status`. `lease` lets one replica act. `wiring` is where the platform, the load and
the evidence come from.
"""
