"""The SDK's records and their methods, one module per kind of resource.

Each has its records, and a `Group` of methods that build operations; runners carry them out.
"""
