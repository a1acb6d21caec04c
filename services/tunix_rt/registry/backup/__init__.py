"""Backups: the database's rows and the artifacts that they refer to, in one place, for any platform to be made from.

A place holds any number of snapshots over one set of blobs::

    blobs/sha256/ab/<hex>            content: files of artifacts, and rows
    snapshots/<id>.json              what a snapshot consists of; written last: without it there is no snapshot
    secrets/<id>/…                   only where asked for

See docs/disaster-recovery.md.
"""
