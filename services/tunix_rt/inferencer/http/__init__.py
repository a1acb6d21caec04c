"""The inferencer over HTTP, in the form of OpenAI's API: an edge beside gRPC, with the same pool and scheduler."""
