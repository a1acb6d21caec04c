"""Work on content that others made, in child processes that can be killed.

A child answers requests within limits on time, memory and output, and has an environment without secrets. It protects
the service from content that makes a parser or a template loop, explode or crash; it is no sandbox against code that
runs natively.
"""
