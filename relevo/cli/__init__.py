"""The command line. `main` is the entry; `models`, `platform`, `rollouts`, `loadtest` and `show` hold its commands.

Behind them, `wiring` joins the parts, `begin` and `orders` do what the commands about rollouts ask, `session` follows one to its end.
Modules with commands import little when they are loaded and the rest when a command runs: `relevo --help` answers at once.
"""
