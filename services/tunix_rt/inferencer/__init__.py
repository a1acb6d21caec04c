"""The inferencer: text generation whose answers do not depend on the load."""
