"""The tuner: lets Ray Tune propose trials, and the registry carry them out as ordinary runs. Owns nothing durable."""
