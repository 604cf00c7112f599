"""Costs: seconds and memory of a stage, learnt from what earlier ones took. Pure.

`fit` draws a straight line through the logarithms and says how sure it is; `model` keeps one line
for each partition, level of theory and stage. Why it is so: docs/adr/0014-costs.md.
"""
