"""Reads untrusted model files in a child process: configs, metadata, tokenizers and chat templates.

`worker` is the child; it parses, renders and tokenises. `model_files` is the service's side; it gets checked
descriptions and never parses such a file itself. Neither imports JAX before numbers are read.
"""
