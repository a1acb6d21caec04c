"""What a request must satisfy before anything is written; one module per resource."""
