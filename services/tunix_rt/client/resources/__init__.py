"""What the SDK hands out and what can be done with it, one module per kind of resource.

Each has its records, and a `Group` of methods that build operations; runners carry them out.
"""
