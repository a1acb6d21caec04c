"""Tasks of several calls for a blocking client: evidence, verification, merging, configs of trials."""
