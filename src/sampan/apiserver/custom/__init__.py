"""Custom resources: kinds that a CustomResourceDefinition makes.

A custom kind is a `Kind` that carries all that is known about it (`kind.CustomKind`): whoever
decides about objects asks the kind, and no code but the catalog knows which kinds there are. All
is pure but `keeper`, which keeps the catalog up to date, and `webhook`.
"""
