"""What is kept, and how long: archiving, deleting, garbage in the artifact store, and limits on what grows."""
