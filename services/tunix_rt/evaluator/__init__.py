"""The evaluator: generates and scores what an evaluation still lacks. Owns nothing durable, trains nothing."""
