"""The command line. `main` is the entry; `models`, `platform`, `rollouts` and `show` hold its commands, `wiring` joins the parts."""
