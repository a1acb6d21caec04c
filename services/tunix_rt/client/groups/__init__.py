"""The SDK's methods, one module per kind of resource. Each builds operations; runners carry them out."""
