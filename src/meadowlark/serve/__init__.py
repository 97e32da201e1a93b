"""Models in use: in a notebook, behind a server, and on a page in the browser.

Research software: everything here says so where a person or a program can see it.
"""
