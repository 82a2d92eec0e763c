"""The command line. `main` is the entry; `models`, `platform`, `rollouts`, `loadtest`, `dashboard` and `show` hold its commands.

Behind them, `site` is the seam to where rollouts live. On this machine (`local_site`), `wiring` joins the parts, `begin` and `orders` do
what is asked, `session` drives a rollout to its end. On a cluster (`cluster_site`), the operator does all that: `cluster_records` reads
what it has stored, `cluster_follow` looks on. `watch` and `view` are what people see of either.
Modules with commands import little when they are loaded and the rest when a command runs: `relevo --help` answers at once.
"""
