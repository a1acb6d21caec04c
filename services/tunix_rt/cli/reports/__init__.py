"""Reports that commands write to files for other programs and other people: JUnit XML, Markdown."""
