"""The body of every rule: files in, files out.

A step reads what earlier steps left in the slide's folder, calls the module that does the work, and writes
its outputs under their final names only when they are whole. A slide with a bad status passes through all
steps and leaves valid, empty outputs, so that every row of the sheet becomes a row of the table.
"""
