"""Looks at rollouts on a cluster from outside: users of our own, watchers of what KServe says, and the faults that are done to it.

What the tests of tests/e2e and the benchmarks of the cluster share. Nothing here asks relevo how it is doing but by what
`kubectl` shows anybody.
"""
