"""Variants of word problems with worked solutions: the same problem with other numbers.

What is known first is the solution: each of its numbers is traced to the question, to a sum or to a
word, others are drawn, and question, sums and answer are written anew.
"""

from stratos.core.extensions import Extension

EXTENSION = Extension(variants="stratos.contrib.variants.variant_drawer:drawer")
