"""Evidence: everything that a score rests on in one zip, and the check that it still does.

Pure: documents in, bytes out, and back; `tunix_rt.client.workflows.evidence` reads the documents from a platform. What
the check detects, and what cannot be detected without a signature, is said in `verify`.
"""
