"""How often is this policy wrong? Production's rules and statistics on simulated counts, many rollouts at once.

`traffic` and `conditions` say what is simulated, `streams` draws it, `engine` decides on it by `evidence`, `outcomes` counts what came of
it; `characteristics` asks a whole grid of effects, `lint` warns of policies that cannot work, `page` and `plots` show both.
"""
