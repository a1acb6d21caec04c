"""Mathematical answers: notation to tokens, tokens to a tree, and when two trees mean the same.

LaTeX, Unicode and plain ASCII are read by one grammar of our own. Nothing is ever evaluated as code, every input takes
time linear in its length up to fixed limits, and no verdict depends on a clock. What the grammar does not know is not
guessed: it is handed on, or is not read.
"""
